"""MoCo training on tiny data; the usual step has the loss and the queue of ours."""

import pytest
import torch

import train_moco
from benchmarks.moco import StandardTraining, moco
from models import info_nce


def test_moco_compares_whole_steps(small_dir, check, rows_of):
    content = moco(small_dir, torch.device("cpu"), repeats=1, images=12)
    check(content, repeats=1)
    rows = rows_of(content)
    (ratio,) = content["ratios"]
    assert ratio["value"] == pytest.approx(rows["ours"][0] / rows["standard way"][0], rel=1e-3)
    assert (ratio["target"], content["batch_size"], content["queue"]) == (3, 6, 4096)


def test_the_usual_step_has_our_loss_and_queue():
    torch.manual_seed(0)
    args = train_moco.parse(
        ["--encoder", "fast", "--queue", "10", "--batch-size", "8", "--momentum", "0", "--device", "cpu"]
    )[0]
    standard = StandardTraining(args)
    queue, images = standard.queue.clone(), torch.randn(8, 2, 1, 28, 28)
    q, k = (torch.nn.functional.normalize(standard.query(view), dim=1) for view in images.unbind(1))
    loss = standard(images, torch.zeros(8))
    torch.testing.assert_close(loss, info_nce(q, k, queue, args.temperature)[0].detach())
    torch.testing.assert_close(standard.queue[:8], k.detach())
    assert torch.equal(standard.queue[8:], queue[8:])
    standard(images, torch.zeros(8))  # the next eight wrap around
    assert standard.pointer == 6
    assert not torch.equal(standard.queue[8:], queue[8:])
