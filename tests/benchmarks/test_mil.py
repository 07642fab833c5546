"""Bags per second on tiny data."""

import pytest
import torch

from benchmarks.mil import mil


def test_both_sides_train_the_same_bags(small_dir, check, rows_of):
    content = mil(small_dir, torch.device("cpu"), repeats=2, bags=6, passes=1)
    check(content, repeats=2)
    ours, standard = rows_of(content).values()
    pairs = [a / b for a, b in zip(ours, standard, strict=True)]
    ratio = content["ratios"][0]
    assert (ratio["low"], ratio["high"]) == pytest.approx((min(pairs), max(pairs)), rel=1e-3)
    assert ratio["target"] == 5
