"""Views for contrastive learning, and strokes of ink against a loop over pixels."""

import math

import numpy as np
import pytest
import torch
from helpers import gen

from data import VIEW_PARTS, Augment, view_augment, view_batches
from data.augment import add_strokes


def slow_stroke(image, ends, width):
    """Pixel by pixel: full ink up to half a pixel inside of the edge, none half a pixel outside of it."""
    x0, y0, x1, y1 = ends
    result = image.copy()
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            nearest = math.inf
            for share in np.linspace(0, 1, 4001):
                x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
                nearest = min(nearest, math.hypot(column - x, row - y))
            ink = min(1.0, max(0.0, width + 0.5 - nearest))
            result[row, column] = max(result[row, column], ink)
    return result


def test_strokes_equal_a_loop_over_pixels_and_leave_their_argument_alone():
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
        batches = view_batches(digits, torch.arange(20), 8, ["affine"], strength, seed=3, **ranks)
        return next(batches.epoch())[0]

    x, weakest = first_batch(0.5), first_batch(0.0)
    assert x.shape == (8, 2, 1, 28, 28)
    assert not torch.equal(x[:, 0], x[:, 1])
    assert torch.equal(weakest[:, 0], weakest[:, 1])
    torch.testing.assert_close(torch.cat([first_batch(0.5, rank=rank, world=2) for rank in (0, 1)]), x)
