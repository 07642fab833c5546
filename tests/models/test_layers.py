"""Layers against the obvious version."""

import pytest
import torch
import torch.nn.functional as F
from helpers import noise

from models.layers import GlobalPool, Shared


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_maximum_and_mean_and_their_gradients_are_those_of_the_two_poolings(memory_format):
    x = noise(3, 4, 5, 6).double().contiguous(memory_format=memory_format).requires_grad_()
    x.data[0, 0, 1, 2] = x.data[0, 0, 3, 3] = 9.0  # of equal maxima the first counts
    weights = noise(3, 8, seed=1).double()
    pooled = GlobalPool()(x)
    torch.testing.assert_close(pooled, torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1))
    (gradient,) = torch.autograd.grad((pooled * weights).sum(), x)
    slow = F.max_pool2d(x, (5, 6)).flatten(1), F.avg_pool2d(x, (5, 6)).flatten(1)
    torch.testing.assert_close(gradient, torch.autograd.grad((torch.cat(slow, 1) * weights).sum(), x)[0])
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("own", [True, False])
def test_separable_blocks_share_their_convolutions_on_every_grid(own):
    torch.manual_seed(0)
    layer, x = Shared(2, (1, 2), own).eval(), noise(3, 2, 6, 6)
    expected = x
    for number, norm in enumerate(layer.norms):
        norm.weight.data.fill_(number + 1)
        expected = F.max_pool2d(expected, 2) if number == 1 else expected
        weight = layer.convs[number if own else 0].weight
        single = [F.conv2d(expected[:, [c]], weight[[c]], padding=1) for c in range(2)]
        mixed = torch.einsum("oi,bihw->bohw", layer.mix.weight[:, :, 0, 0], torch.cat(single, 1))
        expected = own * expected + F.relu((number + 1) * mixed / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(layer(x), expected)
    assert sum(p.numel() for p in layer.parameters()) == (3 if own else 1) * 9 * 2 + 2 * 2 + 3 * 2 * 2
