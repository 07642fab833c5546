"""The robust loss against a loop, its step, and the batches of pseudo-labelled images and anchors."""

import math

import pytest
import torch
from helpers import noise
from torch.nn.functional import cross_entropy

from data import POLICIES
from models import create
from utils.training import few_labels
from utils.training.few_labels import AnchoredBatches, anchored_step, generalised_cross_entropy


@pytest.mark.parametrize("q", [0.001, 0.3, 0.7, 1.0])
def test_the_loss_equals_a_loop_over_images(q):
    logits, labels = 2 * noise(40, 5).double(), torch.arange(40) % 5
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        total += (1 - (math.exp(row[label]) / sum(map(math.exp, row))) ** q) / q
    loss = float(generalised_cross_entropy(logits, labels, q))
    assert loss == pytest.approx(total / 40, abs=1e-9)
    if q < 0.01:
        assert loss == pytest.approx(float(cross_entropy(logits, labels)), rel=0.01)


def batches(digits, augment=POLICIES["none"]):
    every = torch.arange(len(digits.labels))
    return AnchoredBatches(digits, every[:20], every, (50, 16), augment, seed=3)


def test_an_epoch_covers_all_images_once_and_repeats_the_anchors(digits):
    loader = batches(digits)
    found = list(loader.epoch(1))
    assert len(found) == len(loader) == 4
    assert all(anchors.shape == (16, 1, 28, 28) for _, _, anchors, _ in found)
    for part, count in ((0, len(digits.labels)), (2, 20)):
        seen = torch.cat([batch[part] for batch in found]).flatten(1)
        expected = digits.normalise(digits.images[:count].float() / 255).flatten(1)
        assert torch.equal(seen.unique(dim=0), expected.unique(dim=0))
    first, other = next(batches(digits, POLICIES["shift"]).epoch()), found[0]
    assert not torch.equal(first[0], other[0])


def test_a_step_adds_the_loss_of_the_anchors_where_there_are_any(digits):
    torch.manual_seed(0)
    model = create("fast").eval()
    images, labels, anchors, known = next(batches(digits).epoch())
    loss, metrics = anchored_step(model)(images, labels, anchors, known)
    alone, _ = anchored_step(model)(images, labels)
    torch.testing.assert_close(alone, generalised_cross_entropy(model(images), labels))
    weighted = few_labels.ANCHOR_WEIGHT * cross_entropy(model(anchors), known)
    torch.testing.assert_close(loss, alone + weighted)
    assert float(metrics["accuracy"]) == pytest.approx(
        float((model(images).argmax(1) == labels).float().mean())
    )
