"""The loss with masks of the standard way is the same loss."""

import torch

from benchmarks.contrastive import masked_nt_xent
from models import nt_xent


def test_the_loss_with_masks_is_the_same_loss():
    features = torch.randn(7, 2, 5, dtype=torch.float64)
    torch.testing.assert_close(masked_nt_xent(features, 0.2), nt_xent(features, 0.2))
