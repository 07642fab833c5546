"""Metric learning's data: symmetries, joined images, labels of synthetic classes; episodes; letters."""

import itertools

import numpy as np
import pytest
import torch

from data import Augment, triplet
from data.triplet import JOINS, GlyphBatches, join, letters, sample_episodes, symmetric, symmetric_copies

LABELS = torch.arange(120) % 6  # 20 of each class
QUERY_LABELS = torch.arange(60) // 10  # 10 of each class


def test_the_eight_symmetries_are_different_and_keep_the_pixels():
    image = torch.arange(16).view(1, 1, 4, 4)
    turned = symmetric(image.expand(8, 1, 4, 4), torch.arange(8))
    square = image[0, 0]
    expected = [square, square.flip(0), square.flip(1), square.rot90(2)]
    expected += [x.T for x in expected]
    assert all(torch.equal(a[0], b) for a, b in zip(turned, expected, strict=True))
    assert len({tuple(x.flatten().tolist()) for x in turned}) == 8


def test_copies_are_classes_of_their_own(digits):
    indices = torch.tensor([3, 17, 42])
    copies = symmetric_copies(digits, indices)
    assert (len(copies.images), len(copies.classes)) == (24, 80)
    for image, label in zip(copies.images, copies.labels, strict=True):
        digit, which = divmod(int(label), 8)
        sources = indices[digits.labels[indices] == digit]
        turned = symmetric(digits.images[sources], torch.full((len(sources),), which))
        assert any(torch.equal(image, other) for other in turned)
    assert torch.equal(copies.images[:3], digits.images[indices])


def test_joined_images_hold_the_parts_that_their_name_says():
    first, second = torch.full((5, 1, 28, 28), 0.25), torch.full((5, 1, 28, 28), 0.75)
    joined = dict(zip(JOINS, join(first, second, torch.arange(5)).squeeze(1), strict=True))
    for name, start in (("top-bottom", 0), ("stacked", 2)):
        assert (joined[name][start:14] == 0.25).all()
        assert (joined[name][14 : 28 - start] == 0.75).all()
    assert torch.equal(joined["left-right"], joined["top-bottom"].T)
    assert torch.equal(joined["side-by-side"], joined["stacked"].T)
    assert (joined["overlay"] == 0.75).all()


def batches(digits, classes=4, **changes):
    options = {"glyphs": 6, "batches_per_epoch": 2, "seed": 0, **changes}
    return GlyphBatches(digits, torch.arange(len(digits.labels)), classes, 5, **options)


def test_batches_add_classes_with_labels_of_their_own(digits):
    for classes in (2, 4):
        loader = batches(digits, classes, augment=Augment(rotate=10))
        assert torch.equal(next(loader.epoch(1))[0], next(loader.epoch(1))[0])
        assert not torch.equal(next(loader.epoch(1))[0], next(loader.epoch(2))[0])
        for images, labels in loader.epoch():
            assert images.shape == ((classes + 6) * 5, 1, 28, 28)
            assert images.isfinite().all()
            assert (labels.view(-1, 5) == labels.view(-1, 5)[:, :1]).all()
            assert len(labels.unique()) == classes + 6
            assert labels[: classes * 5].max() < 10
            assert labels[classes * 5 :: 5].tolist() == list(range(10, 16))


@pytest.mark.parametrize("parts", [2, 3])
def test_the_images_of_a_synthetic_class_join_images_of_the_same_classes(digits, monkeypatch, parts):
    monkeypatch.setattr(triplet, "RESHAPE", Augment(translate=1e-9))
    monkeypatch.setattr(triplet, "THREE_PARTS", float(parts == 3))
    images, _ = next(batches(digits).epoch())
    pixels = (images * digits.std + digits.mean).unflatten(0, (4 + 6, 5))

    def joined(sources, ways):
        glyph = pixels[sources[0]]
        for source, way in zip(sources[1:], ways, strict=True):
            glyph = join(glyph, pixels[source], torch.full((5,), way))
        return glyph

    sources = itertools.permutations(range(4), parts)
    choices = list(itertools.product(sources, itertools.product(range(len(JOINS)), repeat=parts - 1)))
    for glyph in pixels[4:6]:
        assert any(torch.allclose(joined(*choice), glyph, atol=1e-4) for choice in choices)


def test_a_synthetic_class_is_turned_as_a_whole(digits):
    """With one image of each class drawn K times over, all K images of a synthetic class are the same."""
    first = digits.labels.argsort(stable=True)[::20]
    parts = digits.images[first].repeat_interleave(20, 0), torch.arange(10).repeat_interleave(20)
    images, _ = next(batches(digits._replace(images=parts[0], labels=parts[1])).epoch())
    glyphs = images[20:].unflatten(0, (6, 5))
    torch.testing.assert_close(glyphs, glyphs[:, :1].expand_as(glyphs))


# --- Episodes ---


def sample(**changes):
    options = {"shots": 3, "queries": 4, "count": 50, "seed": 0, **changes}
    return sample_episodes(LABELS, QUERY_LABELS, [0, 2, 3, 5], **options)


def test_episodes_are_balanced_and_a_row_holds_one_class():
    support, queries = sample()
    assert (support.shape, queries.shape) == ((50, 4, 3), (50, 4, 4))
    classes = LABELS[support[:, :, :1]]
    assert (LABELS[support] == classes).all()
    assert (QUERY_LABELS[queries] == classes).all()
    assert (classes.squeeze(2).sort(1).values == torch.tensor([0, 2, 3, 5])).all()
    assert torch.equal(support, sample()[0])
    assert not torch.equal(support, sample(seed=1)[0])
    fewer = LABELS[sample(ways=2)[0][:, :, 0]]  # other classes for every episode
    assert set(fewer.flatten().tolist()) == {0, 2, 3, 5}
    assert (fewer[:, 0] != fewer[:, 1]).all()
    for part in sample(shots=15, queries=10):  # no image twice in an episode
        rows = part.flatten(1).sort(1).values
        assert (rows[:, 1:] > rows[:, :-1]).all()


def test_support_and_queries_of_one_set_are_disjoint():
    support, queries = sample_episodes(LABELS, None, range(6), shots=5, queries=15, count=30)
    for one, other in zip(support, queries, strict=True):
        assert not set(one.flatten().tolist()) & set(other.flatten().tolist())
    assert (LABELS[queries] == LABELS[support[:, :, :1]]).all()


@pytest.mark.parametrize(("changes", "said"), [({"shots": 21}, "are 20"), ({"queries": 11}, "are 10")])
def test_too_few_images_are_refused(changes, said):
    with pytest.raises(ValueError, match=f"1 images of class 0, but there {said}"):
        sample(**changes)


# --- Letters ---


def test_letters_are_balanced_classes_in_the_manner_of_the_digits(digits):
    images = letters(digits)
    assert images.images.shape[1:] == (1, 28, 28)
    assert images.labels.bincount().tolist() == [len(triplet.FONTS) * triplet.COPIES] * len(triplet.LETTERS)
    assert (images.mean, images.std) == (digits.mean, digits.std)
    assert images.classes == tuple(triplet.LETTERS)
    pixels = images.images.squeeze(1).double().numpy()
    centre = (pixels.sum(1) @ np.arange(28) / pixels.sum((1, 2))).mean()
    assert abs(centre - 13.5) < 0.5
    assert pixels.max((1, 2)).min() > 100  # no empty image
    assert torch.equal(images.images, letters(digits).images)
    assert not torch.equal(images.images, letters(digits, seed=1).images)
