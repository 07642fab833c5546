"""Splits: stratified, seeded, disjoint, complete."""

import gzip
from functools import partial

import numpy as np
import pytest
import torch
from helpers import ROOT, real_mnist

from data import bootstrap, few_labels, folds, of_classes, split
from data.writers import by_hands, column, find_writers

# Unequal classes, so that a split that ignores them is found out: class c occurs 20 + 10 c times.
COUNTS = torch.arange(20, 120, 10)
LABELS = torch.arange(10).repeat_interleave(COUNTS)[torch.randperm(650, generator=torch.manual_seed(0))]
WRITERS = torch.arange(650) % 130
TABLES = (real_mnist() or ROOT) / "QMNIST"


def counts(indices):
    return torch.bincount(LABELS[indices], minlength=10)


def assert_tiles(parts):
    """The parts are sorted, and together they hold every index exactly once."""
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(len(LABELS)))
    for part in parts:
        assert part.dtype == torch.int64
        assert torch.equal(part, part.sort().values)


@pytest.mark.parametrize(
    ("fraction", "writers", "off"), [*((x, None, 1) for x in (0, 0.1, 0.2, 0.5)), (0.2, WRITERS, 3)]
)
def test_split_keeps_the_share_of_each_class(fraction, writers, off):
    train, val = split(LABELS, fraction, 3, writers)
    assert_tiles([train, val])
    assert len(val) == round(fraction * len(LABELS)) or writers is not None
    assert ((counts(val) - fraction * COUNTS).abs() <= off).all()
    assert writers is None or not np.intersect1d(writers[train], writers[val]).size


@pytest.mark.parametrize("k", [2, 5, 10])
def test_folds_tile_the_set_and_keep_the_classes(k):
    cuts = folds(LABELS, k, seed=0)
    assert len(cuts) == k
    assert_tiles([val for _, val in cuts])
    for train, val in cuts:
        assert_tiles([train, val])
        assert ((counts(val) - COUNTS / k).abs() <= 1).all()


@pytest.mark.skipif(not TABLES.is_dir(), reason="no label tables of QMNIST")
def test_writers_are_the_published_ones_and_splits_by_them_are_even():
    for part, count in (("test", 10000), ("train", 60000)):
        content = gzip.decompress((TABLES / f"qmnist-{part}-labels-idx2-int.gz").read_bytes())
        table = np.frombuffer(content, ">i4", offset=12).reshape(-1, 8)[:count, :3].astype(np.int64)
        labels, series, writers = torch.from_numpy(table).unbind(1)
        assert torch.equal(column("writer", labels), writers)
        assert torch.equal(column("series", labels), series)
        assert column("writer", labels.roll(1)) is None
    for fraction, seed in ((0.1, 0), (0.1, 1), (1 / 6, 2)):
        train, val = split(labels, fraction, seed, writers)
        assert not np.intersect1d(writers[train], writers[val]).size
        assert ((labels[val].bincount() / labels.bincount() / fraction - 1).abs() <= 0.03).all()


@pytest.mark.parametrize("per_class", [1, 7, 20])
def test_few_labels_counts_exactly_so_many_of_each_class(per_class):
    drawn = few_labels(LABELS, per_class, seed=0)
    assert counts(drawn).tolist() == [per_class] * 10
    assert torch.equal(drawn, drawn.unique())  # sorted, and none twice
    by_few = by_hands(LABELS, WRITERS, 110, per_class // 4 + 1, seed=0)
    assert counts(by_few).tolist() == [per_class // 4 + 1] * 10
    assert len(WRITERS[by_few].unique()) <= 110


def test_a_bootstrap_draws_as_many_with_replacement_and_keeps_63_percent():
    indices = torch.arange(5000, 15000)
    drawn = bootstrap(indices, 3)
    assert len(drawn) == 10000
    assert torch.isin(drawn, indices).all()
    assert len(drawn.unique()) / 10000 == pytest.approx(1 - np.exp(-1), abs=0.02)
    assert torch.equal(drawn, bootstrap(indices, 3))
    assert not torch.equal(drawn, bootstrap(indices, 4))


@pytest.mark.parametrize("classes", [[3], [0, 9], [7, 2, 5], list(range(10))])
def test_all_images_of_the_classes_are_found(classes):
    found = of_classes(LABELS, classes)
    assert set(LABELS[found].tolist()) == set(classes)
    assert len(found) == COUNTS[classes].sum()
    assert torch.equal(found, found.unique())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        *[(partial(split, LABELS, x, 0), r"must be in \[0, 1\)") for x in (-0.1, 1, 1.5, float("nan"))],
        (partial(split, torch.tensor([0, 0, 0, 1]), 0.5, 0), "class"),
        *[(partial(few_labels, LABELS, n, 0), rf"from 1 to 20 \(class 0 .* not {n}") for n in (0, -1, 21)],
        (partial(split, LABELS, 0.1, 0, LABELS), "no choice among 10 writers"),
        (partial(by_hands, LABELS, WRITERS, 131, 1, 0), "no 131 writers have 1 of each class"),
        (partial(find_writers, LABELS), "only MNIST's writers are known"),
        *[(partial(of_classes, LABELS, x), "one or more different classes") for x in ([], [3, 3])],
        *[(partial(of_classes, LABELS, [2, n]), f"no example of class {n}") for n in (10, -1)],
    ],
)
def test_what_cannot_be_cut_is_an_error(call, said):
    with pytest.raises(ValueError, match=said):
        call()
