"""Augmentation: every transform against its per-image counterpart in torchvision, every draw in range."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import gen
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from data import POLICIES, VIEW_PARTS, Augment, BatchLoader, view_augment
from data.augment import add_strokes, affine_matrix, blur, crop, crop_matrix, erase, smooth_displacement, warp

BILINEAR = InterpolationMode.BILINEAR


def smooth_images(count=1, size=28, seed=0):
    """Low-frequency images: where a sampling point is off by 1e-6 pixels, the value is hardly off."""
    coarse = torch.rand(count, 1, 6, 6, generator=gen(seed))
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)


def one_matrix(angle=0.0, translate=(0.0, 0.0), scale=1.0, shear=(0.0, 0.0), size=28):
    angle, translate, scale, shear = (torch.tensor([v]).float() for v in (angle, translate, scale, shear))
    return affine_matrix(angle, translate, scale, shear, size)


AFFINE = [
    {"angle": -75},
    {"translate": (-4.25, 1.5)},
    {"scale": 0.6},
    {"shear": (-10, 25)},
    {"angle": 20, "translate": (2.5, -3), "scale": 1.2, "shear": (10, 5)},
    {"angle": -35, "translate": (-1, 4), "scale": 0.8, "shear": (-12, 8)},
]


@pytest.mark.parametrize("size", [28, 21])
@pytest.mark.parametrize("params", AFFINE, ids=str)
def test_affine_agrees_with_torchvision(params, size):
    images = smooth_images(size=size)
    full = {"angle": 0, "translate": (0, 0), "scale": 1.0, "shear": (0, 0)} | params
    full = {k: list(v) if isinstance(v, tuple) else v for k, v in full.items()}
    expected = reference.affine(images, **full, interpolation=BILINEAR)
    torch.testing.assert_close(warp(images, one_matrix(**params, size=size)), expected, rtol=0, atol=1e-4)


def test_elastic_displacement_agrees_with_torchvision():
    images = smooth_images(3)
    noise = 2 * (2 / 28) * (2 * torch.rand(3, 2, 6, 6, generator=gen(1)) - 1)
    field = smooth_displacement(noise)
    warped = warp(images, one_matrix().expand(3, 2, 3), field)
    for i in range(3):
        expected = reference.elastic(images[i], field[i : i + 1], interpolation=BILINEAR)
        torch.testing.assert_close(warped[i], expected, rtol=0, atol=1e-4)
    assert (warped - images).abs().max() > 0.1


def test_crop_equals_pad_and_cut_exactly():
    images = torch.rand(25, 1, 28, 28, generator=gen())
    top, left = torch.arange(25) // 5, torch.arange(25) % 5
    padded = reference.pad(images, [2, 2, 2, 2])
    for i, cropped in enumerate(crop(images, top, left, padding=2)):
        assert torch.equal(cropped, reference.crop(padded[i], i // 5, i % 5, 28, 28))


def test_erase_agrees_with_torchvision_and_leaves_its_argument_alone():
    images = torch.rand(4, 1, 28, 28, generator=gen()) + 0.1
    before = images.clone()
    boxes = torch.tensor([[0, 0, 5, 9], [20, 3, 8, 25], [4, 10, 1, 1], [7, 7, 0, 6]])
    erased = erase(images, *boxes.unbind(1))
    for i, box in enumerate(boxes.tolist()):
        assert torch.equal(erased[i], reference.erase(before[i], *box, v=torch.zeros(1)))
    assert torch.equal(images, before)


def test_zero_magnitude_is_the_exact_identity_and_draws_nothing():
    images, generator = torch.rand(5, 1, 28, 28, generator=gen()), gen(7)
    assert Augment().sample(5, generator) == {}
    assert torch.equal(Augment().apply(images, {}), images)
    assert torch.equal(generator.get_state(), gen(7).get_state())
    assert POLICIES["none"] == Augment()


def test_a_batch_with_every_part_equals_the_images_one_by_one():
    images = smooth_images(8)
    affine = {"rotate": 10, "translate": 0.1, "scale": 0.1, "shear": 7, "resize": 0.5}
    everything = Augment(**affine, crop=2, elastic=1.5, blur=1, erase=0.5, stroke=0.5)
    params = everything.sample(8, gen())
    batch = everything.apply(images, params)
    assert set(params) == {"corner", "matrix", "noise", "sigma", "box", "ends", "width"}
    for i in range(8):
        alone = everything.apply(images[i : i + 1], {k: v[i : i + 1] for k, v in params.items()})
        torch.testing.assert_close(batch[i : i + 1], alone, rtol=0, atol=1e-6)


def degrees(tangent):
    return torch.rad2deg(torch.atan(tangent))


# One part at a time, its parameters read back from the inverse map, and the largest value they may have.
RANGES = {
    "rotate": (Augment(rotate=10), lambda p: degrees(p["matrix"][:, 0, 1] / p["matrix"][:, 0, 0]), 10),
    "translate x": (Augment(translate=0.1), lambda p: -14 * p["matrix"][:, 0, 2], 2.8),
    "translate y": (Augment(translate=0.1), lambda p: -14 * p["matrix"][:, 1, 2], 2.8),
    "scale": (Augment(scale=0.15), lambda p: 1 / p["matrix"][:, 0, 0] - 1, 0.15),
    "shear x": (Augment(shear=8), lambda p: degrees(p["matrix"][:, 0, 1]), 8),
    "shear y": (Augment(shear=8), lambda p: degrees(p["matrix"][:, 1, 0]), 8),
    "elastic x": (Augment(elastic=1.5), lambda p: 14 * p["noise"][:, 0], 1.5),
    "elastic y": (Augment(elastic=1.5), lambda p: 14 * p["noise"][:, 1], 1.5),
    "crop": (Augment(crop=2), lambda p: p["corner"] - 2.0, 2),
}


@pytest.mark.parametrize(("policy", "read", "largest"), RANGES.values(), ids=RANGES)
def test_parameters_fill_the_stated_range_and_no_more(policy, read, largest):
    values = read(policy.sample(2000, gen()))
    assert values.abs().max() <= largest * (1 + 1e-4)
    assert values.max() > 0.95 * largest
    assert values.min() < -0.95 * largest
    assert values.mean().abs() < 0.1 * largest


def test_erased_boxes_are_inside_and_of_the_stated_share_area_and_shape():
    boxes = Augment(erase=0.25).sample(8000, gen())["box"]
    top, left, height, width = boxes[boxes[:, 2] > 0].unbind(1)
    assert len(top) / 8000 == pytest.approx(0.25, abs=0.02)
    assert min(top.min(), left.min()) == 0
    assert (top + height).max() == 28
    assert (left + width).max() == 28
    area, ratio = height * width / 784, height / width
    # Sides are rounded to whole pixels, which counts most for the smallest boxes.
    assert 0.01 < area.min() < 0.03
    assert 0.19 < area.max() < 0.22
    assert area.mean().item() == pytest.approx(0.11, abs=0.01)
    assert ratio.min() > 0.25
    assert ratio.max() < 4
    assert ratio.log().mean().abs() < 0.1 * math.log(3)


# --- Resized crops and blur ---


@pytest.mark.parametrize("box", [(0, 0, 28, 28), (4, 7, 14, 14), (2, 3, 20, 12), (10, 0, 18, 28)])
def test_a_resized_crop_agrees_with_torchvision_inside_of_the_box(box):
    left, top, width, height = box
    images = smooth_images()
    expected = reference.resized_crop(images, top, left, height, width, [28, 28], BILINEAR, antialias=False)
    cropped = warp(images, crop_matrix(*(torch.tensor([v / 28]) for v in box)))
    edge = 28 // min(width, height)  # there torchvision repeats the border in place of what lies outside
    inside = (..., slice(edge, -edge), slice(edge, -edge))
    torch.testing.assert_close(cropped[inside], expected[inside], rtol=0, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.5])
def test_blur_agrees_with_torchvision(sigma):
    images = F.pad(smooth_images(2, size=20), [4] * 4)  # a black border, as digits have
    expected = reference.gaussian_blur(images, [7, 7], [sigma, sigma])
    torch.testing.assert_close(blur(images, torch.full((2,), sigma)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("resize", [0.05, 0.2, 0.5])
def test_a_crop_has_the_area_that_it_says_also_where_it_is_nearly_the_whole_image(resize):
    matrix = Augment(resize=resize).sample(2000, gen())["matrix"]
    width, height = matrix[:, 0, 0], matrix[:, 1, 1]
    area, ratio = width * height, width / height
    assert (area >= 1 - resize - 1e-5).all()
    assert (ratio.log().abs() <= math.log(4 / 3) + 1e-5).all()
    assert (torch.stack([width, height]) <= 1).all()
    assert area.mean().item() == pytest.approx(1 - resize / 2, abs=0.01 * resize)


# --- Strokes and views ---


def slow_stroke(image, ends, width):
    """Full ink up to half a pixel inside of the edge, none half a pixel outside, by distances of points."""
    x, y = (np.linspace(*pair, 4001) for pair in (ends[::2], ends[1::2]))
    rows, columns = np.indices(image.shape)
    nearest = np.hypot(columns[..., None] - x, rows[..., None] - y).min(2)
    return np.maximum(image, (width + 0.5 - nearest).clip(0, 1))


def test_strokes_cover_what_is_near_their_points_and_leave_their_argument_alone():
    images = 0.4 * torch.rand(4, 1, 9, 9, generator=gen())
    before = images.clone()
    ends = [[1.0, 2, 7.5, 5], [4, 8, 4, 1], [3.3, 4.4, 3.3, 4.4], [1, 2, 7.5, 5]]
    widths = [1.2, 0.8, 1.5, -1]  # -1: no stroke
    stroked = add_strokes(images, torch.tensor(ends), torch.tensor(widths))
    expected = [slow_stroke(image[0].numpy(), *how) for image, *how in zip(before, ends, widths, strict=True)]
    np.testing.assert_allclose(stroked[:, 0], np.stack(expected), atol=2e-3)
    assert torch.equal(stroked[3], before[3])
    assert torch.equal(images, before)


def test_drawn_strokes_fill_the_stated_ranges():
    params = Augment(stroke=0.8).sample(8000, gen())
    assert set(params) == {"ends", "width"}
    has_stroke = params["width"] > 0
    assert has_stroke.float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert (params["width"][~has_stroke] == -1).all()
    ends, width = params["ends"][has_stroke], params["width"][has_stroke]
    start, end = ends.split(2, 1)
    half, centre = (end - start).norm(dim=1) / 2, (start + end) / 2
    away = (centre - 13.5).norm(dim=1)
    for values, low, high in ((half, 2.5, 6), (width, 0.8, 1.5), (away, 0, 5)):
        assert low - 1e-4 <= values.min() < low + 0.02 * high + 0.1
        assert 0.98 * high < values.max() <= high + 1e-4
    angle = torch.atan2(*(end - start).flip(1).unbind(1)) % math.pi
    counts = torch.histc(angle, 8, 0, math.pi)
    assert counts.min() > 0.8 * counts.mean()


def test_strength_scales_every_range_and_two_views_of_an_image_differ_and_are_shared_by_ranks(digits):
    full = view_augment(VIEW_PARTS)
    assert view_augment(VIEW_PARTS, 0.5) == Augment(
        **{key: value / 2 for part in VIEW_PARTS.values() for key, value in part.items()}
    )
    assert full.scaled(0) == Augment()
    assert full.scaled(100).erase == 1
    assert full.scaled(100).resize < 1

    def first_batch(strength, **ranks):
        how = {"augment": view_augment(["affine"], strength), "seed": 3, "views": 2}
        return next(BatchLoader(digits, torch.arange(20), 8, **how, **ranks).epoch())[0]

    x, weakest = first_batch(0.5), first_batch(0.0)
    assert x.shape == (8, 2, 1, 28, 28)
    assert not torch.equal(x[:, 0], x[:, 1])
    assert torch.equal(weakest[:, 0], weakest[:, 1])
    torch.testing.assert_close(torch.cat([first_batch(0.5, rank=rank, world=2) for rank in (0, 1)]), x)
