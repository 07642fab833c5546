"""Bags per second on tiny data."""

import torch

from benchmarks.mil import mil


def test_both_sides_train_the_same_bags(small_dir, check):
    content = mil(small_dir, torch.device("cpu"), repeats=2, bags=6, passes=1)
    rows, targets = check(content, repeats=2)
    assert list(rows) == ["ours", "standard way"]
    assert targets == {"ours / standard way": 5}
