"""The consistency loss against a loop, and the batches of labelled and unlabelled images."""

import math

import pytest
import torch
from helpers import noise

from data import POLICIES, Augment
from models import create
from utils.training.few_labels import ConsistencyBatches, consistency_loss, consistency_step


def slow_loss(weak, strong, threshold):
    """Equation 4 of Sohn et al. (2020), image by image."""
    total, used = 0.0, 0
    for a, b in zip(weak.tolist(), strong.tolist(), strict=True):
        p = [math.exp(x) / sum(math.exp(y) for y in a) for x in a]
        if max(p) >= threshold:
            used += 1
            total -= math.log(math.exp(b[p.index(max(p))]) / sum(math.exp(y) for y in b))
    return total / len(weak), used / len(weak)


@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.9, 1.0])
def test_the_loss_equals_a_loop_over_images(threshold):
    weak, strong = 2 * noise(2, 40, 5).double()
    loss, used = consistency_loss(weak, strong, threshold)
    expected = slow_loss(weak, strong, threshold)
    assert float(loss) == pytest.approx(expected[0], abs=1e-12)
    assert float(used) == pytest.approx(expected[1])
    if threshold in (0.6, 0.9):
        assert 0 < expected[1] < 1


def test_the_gradient_flows_into_the_strong_view_of_sure_images_only():
    weak = torch.tensor([[9.0, 0, 0], [0.1, 0, 0]]).requires_grad_()
    strong = torch.randn(2, 3).requires_grad_()
    consistency_loss(weak, strong, 0.95)[0].backward()
    assert weak.grad is None
    assert strong.grad[0].abs().sum() > 0
    assert torch.equal(strong.grad[1], torch.zeros(3))


def batches(digits, weak, strong, labelled=20):
    every = torch.arange(len(digits.labels))
    return ConsistencyBatches(digits, every[:labelled], every[labelled:], (16, 50), weak, strong, seed=3)


def test_both_views_are_of_the_same_image_and_an_epoch_covers_the_unlabelled_ones(digits):
    loader = batches(digits, Augment(), Augment())
    found = list(loader.epoch(1))
    assert len(found) == len(loader) == 4
    for images, labels, weak, strong in found:
        assert images.shape == (16, 1, 28, 28)
        assert labels.shape == (16,)
        assert torch.equal(weak, strong)
    seen = torch.cat([weak for _, _, weak, _ in found]).flatten(1)
    expected = digits.normalise(digits.images[20:].float() / 255).flatten(1)
    assert torch.equal(seen.unique(dim=0), expected.unique(dim=0))


def test_views_are_augmented_epochs_differ_and_no_label_of_an_unlabelled_image_is_read(digits):
    wrong = digits.labels.clone()
    wrong[20:] = (wrong[20:] + 1) % 10
    loader, same = (
        batches(x, POLICIES["shift"], POLICIES["strong"]) for x in (digits, digits._replace(labels=wrong))
    )
    first, again, other = next(loader.epoch()), next(same.epoch()), next(loader.epoch(1))
    assert not torch.equal(first[2], first[3])
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[2], other[2])


def test_a_step_adds_the_two_losses(digits):
    torch.manual_seed(0)
    model = create("fast").eval()
    batch = next(batches(digits, POLICIES["shift"], POLICIES["strong"]).epoch())
    loss, metrics = consistency_step(model, 0.0)(*batch)
    images, labels, weak, strong = batch
    expected = torch.nn.functional.cross_entropy(model(images), labels)
    expected = expected + consistency_loss(model(weak), model(strong), 0.0)[0]
    torch.testing.assert_close(loss, expected)
    assert float(metrics["used"]) == 1
