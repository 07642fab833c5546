"""Networks trained at once against the same networks one by one."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from models import Fusion, create, stack, unstack


def seeded(name, count=3):
    networks = []
    for seed in range(count):
        torch.manual_seed(seed)
        networks.append(create(name))
    return networks


def without_dropout(networks):
    """Its masks are the only thing that differs between training together and one by one."""
    for network in networks:
        for module in network.modules():
            if hasattr(module, "level"):
                module.level = 0
    return networks


@pytest.mark.parametrize("name", ["linear", "mlp", "lenet", "cnn", "fast", "wide", "resnet18"])
def test_stacked_logits_are_those_of_each_network_on_its_own_images(name):
    networks = without_dropout(seeded(name, 2))
    x = torch.randn(4, 2, 28, 28)
    stacked = stack(networks)
    for training in (True, False):  # in training, batch norm takes each network's own batch
        found = stacked.train(training)(x).unflatten(1, (2, -1))
        for i, network in enumerate(networks):
            with torch.no_grad():
                alone = network.train(training)(x[:, i : i + 1])
            torch.testing.assert_close(found[:, i], alone, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["lenet", "cnn"])
def test_steps_on_a_stack_are_the_steps_of_its_networks(name):
    networks, copies = (without_dropout(seeded(name)) for _ in range(2))
    stacked = stack(networks)
    x, y = torch.randn(3, 8, 3, 28, 28), torch.randint(10, (3, 8, 3))
    optimizer = torch.optim.SGD(stacked.parameters(), 0.05, momentum=0.9)
    for images, labels in zip(x, y, strict=True):
        logits = stacked(images).view(-1, 10)
        optimizer.zero_grad()
        (3 * cross_entropy(logits, labels.flatten())).backward()
        optimizer.step()
    unstack(stacked, networks)
    for i, (network, alone) in enumerate(zip(networks, copies, strict=True)):
        optimizer = torch.optim.SGD(alone.parameters(), 0.05, momentum=0.9)
        for images, labels in zip(x, y, strict=True):
            optimizer.zero_grad()
            cross_entropy(alone(images[:, i : i + 1]), labels[:, i]).backward()
            optimizer.step()
        found, expected = network.state_dict(), alone.state_dict()
        assert found.keys() == expected.keys()
        for key in expected:
            torch.testing.assert_close(found[key], expected[key], atol=1e-3, rtol=1e-3)


def test_stacking_and_unstacking_gives_the_networks_back():
    networks, others = seeded("fast"), seeded("fast")
    for other in others:
        nn.init.zeros_(other.head.weight)
    unstack(stack(networks), others)
    for a, b in zip(networks, others, strict=True):
        assert all(torch.equal(a.state_dict()[key], value) for key, value in b.state_dict().items())


def test_a_layer_that_cannot_be_stacked_is_named():
    with pytest.raises(TypeError, match="PReLU"):
        stack([nn.Sequential(nn.PReLU()) for _ in range(2)])


def test_fusion_gives_the_mean_logits():
    networks = seeded("linear")
    x = torch.randn(5, 1, 28, 28)
    expected = sum(network(x) for network in networks) / 3
    torch.testing.assert_close(Fusion(networks)(x), expected)
