"""Corruptions, each against its definition; the labels that reviewers dispute."""

import math

import numpy as np
import pytest
import torch

from data import load
from data.robustness import CORRUPTIONS, LABEL_ERRORS, LEVELS, corrupt, flip_labels

# A bar of ink, off the centre, on black; no two alike, so that each is corrupted in its own way.
BAR = torch.zeros(40, 1, 28, 28, dtype=torch.uint8)
BAR[:, :, 6:16, 12:15] = 255 - torch.arange(40, dtype=torch.uint8).view(-1, 1, 1, 1)
GREY = torch.full((200, 1, 28, 28), 100, dtype=torch.uint8)
GREY[:, 0, 0, 0] = torch.arange(200)


def centre(images):
    """Centre of mass (N, 2) in pixels, x before y."""
    weights = images.squeeze(1).double()
    total = weights.sum((1, 2))
    places = torch.arange(images.shape[-1], dtype=torch.double)
    x, y = (weights.sum(1) * places).sum(1) / total, (weights.sum(2) * places).sum(1) / total
    return torch.stack([x, y], 1)


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


def test_rotation_turns_the_centre_of_mass_by_its_angle_to_either_side():
    middle = torch.tensor([13.5, 13.5], dtype=torch.double)
    before = centre(BAR)[0] - middle
    for level, degrees in enumerate(CORRUPTIONS["rotation"].strengths, 1):
        after = centre(corrupt(BAR, "rotation", level)) - middle
        turned = torch.atan2(after[:, 1], after[:, 0]) - torch.atan2(before[1], before[0])
        np.testing.assert_allclose(turned.abs(), math.radians(degrees), atol=math.radians(1))
        assert (turned > 0).any()
        assert (turned < 0).any()


def test_shift_moves_by_its_distance_scale_multiplies_the_area_and_shear_moves_rows():
    moved = centre(corrupt(BAR, "shift", 3)) - centre(BAR)
    np.testing.assert_allclose(moved.norm(dim=1), 4, atol=0.1)
    assert ((moved > 0).sum(0) > 5).all()
    assert ((moved < 0).sum(0) > 5).all()
    areas = corrupt(BAR, "scale", 5).double().sum((1, 2, 3)) / BAR.double().sum((1, 2, 3))
    large, small = areas[areas > 1], areas[areas < 1]
    assert min(len(large), len(small)) > 5
    np.testing.assert_allclose(large, 1.5**2, rtol=0.03)
    np.testing.assert_allclose(small, 1.5**-2, rtol=0.03)
    # Shear moves rows sideways in proportion to their height.
    for level, degrees in enumerate(CORRUPTIONS["shear"].strengths, 1):
        sheared = corrupt(BAR, "shear", level)
        np.testing.assert_allclose(sheared.double().sum((1, 2, 3)), BAR.double().sum((1, 2, 3)), rtol=0.03)
        shift = centre(sheared)[:, 0] - centre(BAR)[:, 0]
        height = float(centre(BAR)[0, 1]) - 13.5
        np.testing.assert_allclose(shift.abs(), abs(height) * math.tan(math.radians(degrees)), atol=0.1)


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
        blurred = CORRUPTIONS["blur"].apply(point.double() / 255, sigma, None)[0, 0]
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


@pytest.mark.parametrize(
    ("name", "level", "said"),
    [("fog", 1, "choose from rotation, "), ("blur", 0, "from 1 to 5, not 0"), ("blur", 6, "not 6")],
)
def test_unknown_corruptions_are_refused_and_verdicts_are_of_most_reviewers(name, level, said):
    with pytest.raises(ValueError, match=said):
        corrupt(BAR, name, level)
    verdicts = {index: review.verdict for index, review in LABEL_ERRORS.items()}  # of most reviewers
    assert verdicts[947] == 9
    assert [index for index, verdict in verdicts.items() if verdict is None] == [2130, 2654, 3520, 8527, 9679]


# --- Wrong and disputed labels ---


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
