"""SimCLR's and MoCo's views, training and loss on tiny data; the loss with masks is the same loss."""

import torch

from benchmarks.contrastive import masked_nt_xent, moco, simclr
from models import nt_xent


def test_simclr_compares_views_training_and_loss(small_dir, check):
    content = simclr(small_dir, torch.device("cpu"), repeats=1, images=12, loss_shape=(64, 2, 4))
    rows, targets = check(content, repeats=1)
    assert list(targets.items()) == [
        ("training, ours / standard way", 3),
        ("views, ours / standard way", 8),
        ("loss time, with masks / ours", None),
        ("loss memory, with masks / ours", None),
    ]
    assert rows["loss memory, with masks"] > rows["loss memory, ours"]
    assert (content["images"], content["batch_size"]) == (12, 6)


def test_moco_compares_whole_steps(small_dir, check):
    content = moco(small_dir, torch.device("cpu"), repeats=1, images=12)
    rows, targets = check(content, repeats=1)
    assert (set(rows), targets) == ({"ours", "standard way"}, {"training, ours / standard way": 3})
    assert (content["batch_size"], content["queue"]) == (6, 4096)


def test_the_loss_with_masks_is_the_same_loss():
    features = torch.randn(7, 2, 5, dtype=torch.float64)
    torch.testing.assert_close(masked_nt_xent(features, 0.2), nt_xent(features, 0.2))
