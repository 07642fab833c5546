"""The standard way augments by the same ranges; its content and that of ours on tiny data."""

import pytest
import torch

from benchmarks.augment import augment, standard_affine
from data import POLICIES


def test_augment_compares_images_per_second(small_dir, check, rows_of):
    content = augment(small_dir, torch.device("cpu"), repeats=2)
    check(content, repeats=2)
    rows = rows_of(content)
    assert list(rows) == ["ours", "standard way"]
    pairs = [a / b for a, b in zip(*rows.values(), strict=True)]
    ratio = content["ratios"][0]
    assert (ratio["low"], ratio["high"]) == pytest.approx((min(pairs), max(pairs)), rel=1e-3)
    assert ratio["target"] == 8
    assert content["images"] == {"ours": 600, "standard": 600}


def test_the_standard_way_has_the_same_ranges():
    affine = standard_affine(POLICIES["affine"])
    assert (affine.degrees, affine.shear) == ([-10, 10], [-5, 5, -5, 5])
    assert (affine.translate, affine.scale) == ((0.08, 0.08), (0.9, 1.1))
