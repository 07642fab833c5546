"""Networks that are trained together: losses by slow, obvious formulas, and what learns."""

import math

import pytest
import torch
from helpers import noise

from models import Boosted, Separated, boosting_losses, create


def test_a_boosted_network_fits_what_those_before_it_leave_of_the_labels():
    torch.manual_seed(0)
    outputs, targets = torch.randn(3, 4, 5), torch.randn(4, 5).softmax(1)
    expected = []
    for m in range(3):
        total = 0.0
        for i in range(4):
            powers = [math.exp(sum(float(outputs[k, i, c]) for k in range(m))) for c in range(5)]
            left = [float(targets[i, c]) - powers[c] / sum(powers) for c in range(5)]
            total += sum((left[c] - float(outputs[m, i, c])) ** 2 for c in range(5))
        expected.append(total / 4)
    assert boosting_losses(outputs, targets).tolist() == pytest.approx(expected, rel=1e-5)


def test_boosted_networks_add_up_and_a_frozen_one_stays_in_eval_mode():
    frozen, new = create("cnn").requires_grad_(False), create("fast")
    model, images = Boosted([frozen, new]), noise(3, 1, 28, 28)
    assert not any(module.training for module in model.train().networks[0].modules())
    assert new.training
    model.eval()
    assert torch.allclose(model(images), frozen(images) + new(images), atol=1e-5)


def test_a_discriminator_tells_one_class_from_two_and_its_gradient_reaches_the_networks_reversed():
    torch.manual_seed(0)
    pair, labels = Separated([create("lenet"), create("lenet")], width=3), torch.tensor([0, 1, 1, 0])
    features = [torch.randn(4, 60, requires_grad=True) for _ in range(2)]
    total = right = 0.0
    for i in range(4):
        for j in (i, i - 1):
            ours, theirs = pair.maps[0](features[0][i]), pair.maps[1](features[1][j])
            p = float(torch.sigmoid(pair.same((ours - theirs).abs())).detach())
            same = i == j or labels[i] == labels[j]
            total -= math.log(p if same else 1 - p) / 8
            right += ((p > 0.5) == bool(same)) / 8
    loss, accuracy = pair.tell(features, labels, 0.0)
    assert (loss.item(), float(accuracy)) == pytest.approx((total, right), rel=1e-4)
    helped, fought = (
        torch.autograd.grad(pair.tell(features, labels, strength)[0], features) for strength in (-1.0, 0.3)
    )
    for ours, theirs in zip(helped, fought, strict=True):
        assert ours.norm() > 0
        assert torch.allclose(theirs, -0.3 * ours, atol=1e-6)
