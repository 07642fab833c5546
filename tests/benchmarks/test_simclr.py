"""Views, training and loss on tiny data; the loss with masks is the same loss."""

import pytest
import torch

from benchmarks import simclr as module
from benchmarks.simclr import masked_nt_xent, simclr
from models import nt_xent


def test_simclr_compares_views_training_and_loss(small_dir, check, rows_of, monkeypatch):
    monkeypatch.setattr(module, "loss_megabytes", lambda *args: 2.0)  # it starts a process
    content = simclr(small_dir, torch.device("cpu"), repeats=1, images=12, loss_shape=(8, 4))
    check(content, repeats=1)
    rows = rows_of(content)
    ratio = content["ratios"][0]
    assert ratio["name"] == "training, ours / standard way"
    assert ratio["value"] == pytest.approx(
        rows["training, ours"][0] / rows["training, standard way"][0], rel=1e-3
    )
    assert (content["images"], content["batch_size"]) == (12, 6)


def test_the_loss_with_masks_is_the_same_loss():
    features = torch.randn(7, 2, 5, dtype=torch.float64)
    torch.testing.assert_close(masked_nt_xent(features, 0.2), nt_xent(features, 0.2))


def test_the_loss_with_masks_takes_more_memory():
    cpu = torch.device("cpu")  # measured in processes of their own, which have no earlier peak
    masked = module.loss_megabytes(masked_nt_xent, (2048, 16), cpu)
    assert masked > module.loss_megabytes(nt_xent, (64, 16), cpu) >= 0
