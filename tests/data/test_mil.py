"""Bags: labels, lengths, balance of the builders, batches of them."""

import numpy as np
import pytest
import torch
from helpers import flat_grey

from data.mil import BagLoader, Bags, build

EVERY = torch.arange(4000)
LABELS = EVERY % 10
FLAT = flat_grey(LABELS)  # a batch tells which images it holds


def bags_of(count=400, pool=EVERY, **kind):
    return build(LABELS, pool, count, **kind)


def targets(bags):
    return np.array([part.sum() for part in bags.keys.split(bags.lengths.tolist())])


def test_labels_masks_and_selection_of_bags():
    indices = torch.tensor([9, 1, 2, 19, 29, 3])
    bags = Bags(indices, torch.tensor([1, 2, 3]), LABELS[indices] == 9)
    assert bags.labels.tolist() == [True, False, True]
    assert bags.owners.tolist() == [0, 1, 1, 2, 2, 2]
    assert bags.mask.tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    chosen = bags.select(torch.tensor([2, 0, 2]))
    assert chosen.indices.tolist() == [19, 29, 3, 9, 19, 29, 3]
    assert chosen.lengths.tolist() == [3, 1, 3]
    assert torch.equal(chosen.keys, LABELS[chosen.indices] == 9)


@pytest.mark.parametrize(
    ("builder", "length", "low", "high"),
    [*[("balanced", n, 0.5, 0.5) for n in (10, 100)], ("natural", 10, 0.58, 0.72), ("natural", 50, 0.98, 1)],
)
def test_half_of_balanced_bags_are_positive_and_natural_ones_as_chance_has_it(builder, length, low, high):
    bags = bags_of(mean_length=length, builder=builder, target=0)
    assert low <= float(bags.labels.float().mean()) <= high  # 1 - 0.9^10 = 0.651, 1 - 0.9^50 = 0.995
    assert torch.equal(bags.keys, LABELS[bags.indices] == 0)
    assert np.array_equal(targets(bags) > 0, bags.labels.numpy())


def test_positive_balanced_bags_are_natural_bags_given_that_the_target_is_there():
    bags = bags_of(4000, mean_length=10, std_length=0)
    shares = np.bincount(targets(bags)[1::2], minlength=4)[:4] / 2000
    # Binomial(10, 0.1), none left out: 0.3874, 0.1937, 0.0574 over 0.6513.
    np.testing.assert_allclose(shares, [0, 0.5949, 0.2974, 0.0881], atol=0.035)
    instances = LABELS[bags.indices[(~bags.labels)[bags.owners]]]
    assert np.bincount(instances, minlength=10)[:9].min() > 0.09 * len(instances)  # of nine digits


def test_lengths_are_rounded_normals_of_at_least_one_and_images_are_from_the_pool():
    lengths = bags_of(4000, mean_length=10, std_length=2).lengths.float()
    assert float(lengths.mean()) == pytest.approx(10, abs=0.15)
    assert float(lengths.std()) == pytest.approx(2, abs=0.1)  # a standard deviation, not a variance
    assert set(bags_of(mean_length=7.4, std_length=0).lengths.tolist()) == {7}
    short = bags_of(mean_length=1, std_length=3)
    assert int(short.lengths.min()) == 1
    assert short.labels.float().mean() == 0.5
    # Bags come from their pool and depend on the seed.
    pool = EVERY[::3]
    for builder in ("balanced", "natural"):
        assert torch.isin(bags_of(pool=pool, builder=builder).indices, pool).all()
    a, b, c = (bags_of(seed=seed) for seed in ((0, 1), (0, 1), (0, 2)))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a.lengths, c.lengths)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"target": 10}, "images of class 10"),
        ({"pool": EVERY[9::10]}, "of others"),
        ({"pool": EVERY[8::10]}, "class 9"),
        ({"builder": "shortcut", "shortcut": 9}, "other than the target, not 9"),
        ({"builder": "shortcut", "shortcut": 10}, "a class with images"),
    ],
)
def test_bags_that_cannot_be_made_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        bags_of(**wrong)


@pytest.mark.parametrize(
    ("carriers", "negative", "positive"),
    [("negative", 1, 0), ("none", 0, 0), ("both", 1, 1), ("positive", 0, 1)],
)
def test_only_the_named_bags_carry_one_image_of_the_shortcut(carriers, negative, positive):
    kind = {"builder": "shortcut", "shortcut": 4}
    bags, plain, other = (
        bags_of(200, carriers=c, seed=(s,), **kind) for c, s in ((carriers, 0), ("none", 0), (carriers, 1))
    )
    parts = [LABELS[part] for part in bags.indices.split(bags.lengths.tolist())]
    counts = np.array([int((part == 4).sum()) for part in parts])
    assert bags.labels.tolist() == [False, True] * 100
    assert set(counts[::2]) == {negative}
    assert set(counts[1::2]) == {positive}
    assert all((part == 9).any() == label for part, label in zip(parts, bags.labels, strict=True))
    assert torch.equal(bags.keys, LABELS[bags.indices] == 9)
    same = LABELS[bags.indices] != 4
    assert torch.equal(bags.indices[same], plain.indices[same])  # equal but for that image
    assert torch.equal(bags.lengths, bags_of(200).lengths)  # replaced: a length tells nothing
    assert not torch.equal(bags.indices[:50], other.indices[:50])


def test_exclusive_bags_hold_one_kind_of_target_or_none():
    bags = bags_of(4000, builder="exclusive", target=[3, 5, 9], std_length=0)
    kinds = torch.tensor([0, 0, 0, 1, 0, 2, 0, 0, 0, 3])[LABELS[bags.indices]]
    assert torch.equal(bags.keys, kinds)
    held = [set(part.tolist()) - {0} for part in kinds.split(10)]
    assert [max(kind, default=0) for kind in held] == bags.labels.tolist()
    assert max(len(kind) for kind in held) == 1
    shares = np.bincount(bags.labels, minlength=4) / 4000
    np.testing.assert_allclose(shares, [0.263, *[0.2457] * 3], atol=0.03)  # (7/8)^10 have none


def test_an_epoch_goes_through_every_bag_once_with_its_label_and_mask():
    bags = bags_of(23, mean_length=4)
    loader = BagLoader(FLAT, bags, 5)
    batches = list(loader.epoch())
    assert [len(mask) for mask, _, _ in batches] == [5, 5, 5, 5, 3]
    assert len(loader) == 5
    seen = []
    for mask, images, labels in batches:
        assert (mask.dtype, labels.dtype) == (torch.bool, torch.float32)
        assert mask.shape[1] == mask.sum(1).max()
        assert all(row[: int(row.sum())].all() for row in mask)  # the padding is at the end
        grey = (images[:, 0, 0, 0] * 255).round().int().split(mask.sum(1).tolist())
        seen += [(tuple(bag.tolist()), bool(label)) for bag, label in zip(grey, labels, strict=True)]
    parts = bags.indices.split(bags.lengths.tolist())
    expected = [(tuple((part % 256).tolist()), bool((LABELS[part] == 9).any())) for part in parts]
    assert sorted(seen) == sorted(expected)
    others = BagLoader(FLAT, bags, 5).epoch(), loader.epoch(1), BagLoader(FLAT, bags, 5, seed=1).epoch()
    assert [torch.equal(next(other)[1], batches[0][1]) for other in others] == [True, False, False]
    for count, sizes in ((50, [20, 20, 10]), (6, [6])):  # bags repeat, or some are left out
        loader = BagLoader(FLAT, bags, 20, bags_per_epoch=count)
        assert [len(mask) for mask, _, _ in loader.epoch()] == sizes
        assert len(loader) == len(sizes)
