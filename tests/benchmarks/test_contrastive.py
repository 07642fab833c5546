"""SimCLR's views and training on tiny data; the loss with masks is the same loss."""

import torch

from benchmarks.contrastive import masked_nt_xent, simclr
from models import nt_xent


def test_views_and_training_are_compared(small_dir, check):
    content = simclr(small_dir, torch.device("cpu"), repeats=1, images=12)
    rows, targets = check(content, repeats=1)
    assert targets == {"training, ours / standard way": 3, "views, ours / standard way": 8}
    sides = "ours", "standard way"
    assert list(rows) == [f"{what}, {side}" for what in ("views", "training") for side in sides]
    assert (content["images"], content["batch_size"]) == (12, 6)


def test_the_loss_with_masks_is_the_same_loss():
    features = torch.randn(7, 2, 5, dtype=torch.float64)
    torch.testing.assert_close(masked_nt_xent(features, 0.2), nt_xent(features, 0.2))
