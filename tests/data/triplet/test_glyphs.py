"""Class augmentation: symmetries, joined images, and that labels stay right."""

import itertools

import pytest
import torch

from data import Augment
from data.triplet import glyphs
from data.triplet.glyphs import JOINS, GlyphBatches, class_batches, join, symmetric, symmetric_copies


def test_the_eight_symmetries_are_different_and_keep_the_pixels():
    image = torch.arange(16).view(1, 1, 4, 4)
    found = symmetric(image.expand(8, 1, 4, 4), torch.arange(8))
    assert len({tuple(x.flatten().tolist()) for x in found}) == 8
    assert all(sorted(x.flatten().tolist()) == list(range(16)) for x in found)
    square = image[0, 0]
    expected = [square, square.flip(0), square.flip(1), square.rot90(2)]
    expected += [x.T for x in expected]
    assert all(torch.equal(a[0], b) for a, b in zip(found, expected, strict=True))
    turns = {tuple(square.rot90(k).flatten().tolist()) for k in (1, 3)}
    assert turns == {tuple(found[s, 0].flatten().tolist()) for s in (5, 6)}


def test_copies_are_classes_of_their_own(digits):
    indices = torch.tensor([3, 17, 42])
    copies = symmetric_copies(digits, indices)
    assert copies.images.shape == (24, 1, 28, 28)
    assert len(copies.classes) == 80
    for image, label in zip(copies.images, copies.labels, strict=True):
        digit, which = divmod(int(label), 8)
        sources = indices[digits.labels[indices] == digit]
        turned = symmetric(digits.images[sources], torch.full((len(sources),), which))
        assert any(torch.equal(image, other) for other in turned)
    assert torch.equal(copies.images[:3], digits.images[indices])


def test_joined_images_hold_the_parts_that_their_name_says():
    first, second = torch.full((5, 1, 28, 28), 0.25), torch.full((5, 1, 28, 28), 0.75)
    glyphs = join(first, second, torch.arange(5))
    found = {name: glyphs[i, 0] for i, name in enumerate(JOINS)}
    assert (found["top-bottom"][:14] == 0.25).all()
    assert (found["top-bottom"][14:] == 0.75).all()
    assert (found["left-right"][:, :14] == 0.25).all()
    assert (found["left-right"][:, 14:] == 0.75).all()
    assert (found["stacked"][2:14] == 0.25).all()
    assert (found["stacked"][14:26] == 0.75).all()
    assert torch.equal(found["side-by-side"], found["stacked"].T)
    assert (found["overlay"] == 0.75).all()


def batches(digits, **changes):
    options = {"glyphs": 6, "batches_per_epoch": 2, "seed": 0, **changes}
    return GlyphBatches(digits, torch.arange(len(digits.labels)), 4, 5, **options)


@pytest.fixture
def unturned(monkeypatch):
    monkeypatch.setattr(glyphs, "RESHAPE", Augment(translate=1e-9))


def test_batches_add_classes_with_labels_of_their_own(digits):
    for images, labels in batches(digits, augment=Augment(rotate=10)).epoch():
        assert images.shape == ((4 + 6) * 5, 1, 28, 28)
        assert images.isfinite().all()
        assert (labels.view(10, 5) == labels.view(10, 5)[:, :1]).all()
        assert len(labels.unique()) == 10
        assert labels[:20].max() < 10
        assert labels[20:].view(6, 5)[:, 0].tolist() == list(range(10, 16))


def test_every_image_of_a_synthetic_class_joins_images_of_the_same_two_classes(digits, unturned, monkeypatch):
    monkeypatch.setattr(glyphs, "THREE_PARTS", 0.0)
    images, _ = next(batches(digits).epoch())
    blocks, found = images[:20].unflatten(0, (4, 5)), images[20:].unflatten(0, (6, 5))
    for glyph in found:
        sources = [
            (a, b, how)
            for a in range(4)
            for b in range(4)
            for how in range(len(JOINS))
            if torch.allclose(joined(digits, [blocks[a], blocks[b]], [how]), glyph, atol=1e-4)
        ]
        assert sources
        assert all(a != b for a, b, _ in sources)


def test_three_parts_are_joined_one_after_the_other(digits, unturned, monkeypatch):
    monkeypatch.setattr(glyphs, "THREE_PARTS", 1.0)
    images, _ = next(batches(digits).epoch())
    blocks, found = images[:20].unflatten(0, (4, 5)), images[20:].unflatten(0, (6, 5))
    ways = list(itertools.product(range(len(JOINS)), repeat=2))
    for glyph in found[:2]:
        assert any(
            torch.allclose(joined(digits, [blocks[i] for i in parts], how), glyph, atol=1e-4)
            for parts in itertools.permutations(range(4), 3)
            for how in ways
        )


def joined(digits, blocks, ways):
    """Join normalised images, one block after the other, as if they were pixels."""
    pixels = [block * digits.std + digits.mean for block in blocks]
    found = pixels[0]
    for other, how in zip(pixels[1:], ways, strict=True):
        found = join(found, other, torch.full((len(found),), how))
    return digits.normalise(found)


def test_a_synthetic_class_is_turned_as_a_whole(digits):
    """With one image of each class drawn K times over, all K images of a synthetic class are the same."""
    first = digits.labels.argsort(stable=True)[::20]
    same = digits._replace(
        images=digits.images[first].repeat_interleave(20, 0), labels=torch.arange(10).repeat_interleave(20)
    )
    images, _ = next(batches(same).epoch())
    found = images[20:].unflatten(0, (6, 5))
    torch.testing.assert_close(found, found[:, :1].expand_as(found))


def test_two_classes_are_enough(digits):
    images, labels = next(
        GlyphBatches(digits, torch.arange(200), 2, 4, glyphs=3, batches_per_epoch=1, seed=0).epoch()
    )
    assert len(images) == len(labels) == (2 + 3) * 4


def test_batches_depend_on_seed_and_epoch(digits):
    def first(seed, epoch):
        return next(batches(digits, seed=seed, augment=Augment(rotate=10)).epoch(epoch))[0]

    assert torch.equal(first(0, 1), first(0, 1))
    assert not torch.equal(first(0, 1), first(0, 2))
    assert not torch.equal(first(0, 1), first(1, 1))


def test_synthetic_classes_are_at_least_one(digits):
    with pytest.raises(ValueError, match="at least 1"):
        batches(digits, glyphs=0)


@pytest.mark.parametrize(("name", "classes"), [("none", 10), ("symmetries", 80), ("glyphs", 80)])
def test_the_named_class_augmentations(digits, name, classes):
    found = class_batches(digits, torch.arange(200), 4, 5, name, glyphs=6, batches_per_epoch=1)
    assert len(found.members) == classes
    images, _ = next(found.epoch())
    assert len(images) == (4 + 6 * (name == "glyphs")) * 5
