"""MoCo's training on tiny data, both ways."""

import torch

from benchmarks.moco import moco


def test_moco_compares_whole_steps(small_dir, check):
    content = moco(small_dir, torch.device("cpu"), repeats=1, images=12)
    rows, targets = check(content, repeats=1)
    assert targets == {"training, ours / standard way": 3}
    assert set(rows) == {"ours", "standard way"}
    assert (content["batch_size"], content["queue"]) == (6, 4096)
