"""Corruptions, each against its definition; the labels that reviewers dispute."""

from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from helpers import gen
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from data import load
from data.robustness import CORRUPTIONS, LABEL_ERRORS, LEVELS, Draws, change, corrupt, flip_labels

# A bar of ink, off the centre, on black; no two alike, so that each is corrupted in its own way.
BAR = torch.zeros(40, 1, 28, 28, dtype=torch.uint8)
BAR[:, :, 6:16, 12:15] = 255 - torch.arange(40, dtype=torch.uint8).view(-1, 1, 1, 1)
GREY = torch.full((200, 1, 28, 28), 100, dtype=torch.uint8)
GREY[:, 0, 0, 0] = torch.arange(200)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("level", [1, LEVELS])
def test_equal_seeds_give_equal_images_of_the_same_form(name, level):
    images = corrupt(BAR, name, level, seed=3)
    assert (images.dtype, images.shape) == (torch.uint8, BAR.shape)
    assert torch.equal(images, corrupt(BAR, name, level, seed=3))
    if name not in ("blur", "inversion", "brightness"):  # these three have no chance in them
        assert not torch.equal(images, corrupt(BAR, name, level, seed=4))
    assert torch.equal(images[7:8], corrupt(BAR[7:8], name, level, seed=3))  # alone as among others
    assert corrupt(BAR[..., :20, :20], name, level).shape == (40, 1, 20, 20)


@pytest.mark.parametrize(
    ("name", "strength", "first", "second"),
    [
        ("rotation", 30, {"angle": 30}, {"angle": -30}),
        ("shift", 4, {"translate": (8**0.5, 8**0.5)}, {"translate": (-(8**0.5), 8**0.5)}),
        ("scale", 0.5, {"scale": 1.5}, {"scale": 1 / 1.5}),
        ("shear", 24, {"shear": (24, 0)}, {"shear": (-24, 0)}),
    ],
)
def test_affine_corruptions_are_those_of_torchvision_to_either_side(name, strength, first, second):
    turns = Mock(signs=lambda: torch.tensor([1.0, -1.0]), uniform=lambda: torch.tensor([1 / 8, 3 / 8]))
    images = F.interpolate(torch.rand(2, 1, 6, 6, generator=gen()), (28, 28), mode="bicubic")
    changed = change(images, name, strength, turns)
    for image, found, options in zip(images, changed, (first, second), strict=True):
        full = {"angle": 0, "translate": (0, 0), "scale": 1.0, "shear": (0, 0)} | options
        expected = reference.affine(image, **full, interpolation=InterpolationMode.BILINEAR)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    draws = Draws(torch.arange(1000), gen())
    assert draws.signs().unique(return_counts=True)[1].tolist() == pytest.approx([500, 500], rel=0.1)
    assert torch.histc(draws.uniform(), 4, 0, 1).tolist() == pytest.approx([250] * 4, rel=0.2)


def test_noise_has_its_standard_deviation_and_blur_spreads_a_point_by_its_own_and_loses_no_ink():
    noisy = corrupt(GREY, "noise", 1).double() / 255
    assert float(noisy.mean()) == pytest.approx(100 / 255, abs=0.001)
    assert float(noisy.std()) == pytest.approx(0.1, rel=0.02)
    assert not torch.equal(noisy[0], noisy[1])
    point = torch.zeros(1, 1, 61, 61, dtype=torch.uint8)
    point[..., 30, 30] = 255
    for level in (2, 4):
        # One point is too faint for 8 bits: the corruption itself is applied to floats.
        sigma = CORRUPTIONS["blur"].strengths[level - 1]
        blurred = change(point.double() / 255, "blur", sigma, None)[0, 0]
        assert float(blurred.sum()) == pytest.approx(1, abs=1e-6)
        places = torch.arange(61) - 30
        assert float((blurred.sum(0) * places**2).sum()) == pytest.approx(sigma**2, rel=0.05)


def test_occlusion_blackens_a_square_of_its_side_within_the_middle():
    white = torch.full((600, 1, 28, 28), 255, dtype=torch.uint8)
    white[:, 0, 0, :3] = torch.randint(1, 256, (600, 3), generator=torch.Generator().manual_seed(0)).byte()
    for level, side in enumerate(CORRUPTIONS["occlusion"].strengths, 1):
        dark = corrupt(white, "occlusion", level).squeeze(1) == 0
        assert (dark.sum((1, 2)) == side**2).all()
        assert (dark.any(1).sum(1) == side).all()
        rows = dark.any(2).any(0).nonzero()
        assert (int(rows.min()), int(rows.max())) == (4, 23)  # everywhere in the middle 20 pixels


@pytest.mark.parametrize(
    ("name", "level", "black", "white"),
    [
        ("inversion", 1, 51, 204),
        ("inversion", 3, 153, 102),
        ("inversion", 5, 255, 0),
        ("brightness", 2, round(0.3 * 255), 255),
    ],
)
def test_inversion_mixes_with_the_negative_and_brightness_adds_and_clips(name, level, black, white):
    images = corrupt(BAR[:1], name, level)
    assert set(images[BAR[:1] == 0].tolist()) == {black}
    assert set(images[BAR[:1] == 255].tolist()) == {white}


def test_a_share_of_the_labels_is_replaced_evenly_or_only_between_two_classes():
    labels = torch.arange(5000) % 5 + 1
    flipped = flip_labels(labels, 0.2, 3)
    assert torch.equal(flipped, flip_labels(labels, 0.2, 3))
    counts = torch.bincount(5 * (labels - 1) + flipped - 1, minlength=25).view(5, 5)
    assert counts.diagonal().sum() == 4000
    assert 25 < counts.min() < 50  # of 50 on average
    flipped = flip_labels(labels, 0.1, 3, [5, 2])
    changed = flipped != labels
    assert changed.sum() == 200
    assert (labels[changed] + flipped[changed] == 7).all()


@pytest.mark.slow
def test_the_given_labels_are_those_of_the_real_mnist(mnist_dir):
    labels = load("mnist", mnist_dir)[1].labels
    assert all(int(labels[index]) == review.given for index, review in LABEL_ERRORS.items())
