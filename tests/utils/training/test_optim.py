"""Optimisers, schedules and the moving average, by hand and against the papers."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from helpers import fit_settings as settings
from helpers import small_network as network
from torch import nn

from utils.training import optim


@pytest.mark.parametrize("total", [1, 2, 3, 4, 5, 100])
@pytest.mark.parametrize("warm_up", [0.0, 0.25])
def test_anneal_has_the_shape_of_the_papers_and_ends_at_zero_with_the_last_step(total, warm_up):
    factors = [optim.anneal(step, total, warm_up) for step in range(total)]
    assert all(0 <= f <= 1 for f in factors)
    if total > 1:
        assert factors[-1] == pytest.approx(0, abs=1e-12)
    assert optim.anneal(0, 101, 0.0) == 1
    assert optim.anneal(50, 101, 0.0) == pytest.approx(0.5)
    assert optim.anneal(0, 101, 0.25) == pytest.approx(0.04)
    assert optim.anneal(25, 101, 0.25) == 1
    middle = 0.5 * (1 + math.cos(math.pi * 35 / 75))
    assert optim.anneal(60, 101, 0.25) == pytest.approx(middle)


def test_weight_decay_spares_biases_and_normalisation_and_frozen_parameters_are_left_out():
    model = network()
    model[1].requires_grad_(False)
    groups = [{"params": list(model.parameters())}]
    decayed, spared = optim.make_optimizer(groups, settings(weight_decay=0.1)).param_groups
    assert [p.shape for p in decayed["params"]] == [(10, 16)]
    assert [p.shape for p in spared["params"]] == [(16,), (16,), (10,)]  # batch norm, a bias
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0)


def test_moving_average_of_weights_and_statistics_forgets_the_first_weights_quickly():
    model = network()
    averaged = copy.deepcopy(model)
    start = model[1].weight.detach().clone()
    model[1].weight.data += 1
    model[2].running_mean += 1
    model[2].num_batches_tracked += 5
    optim.update_average(averaged, model, decay=0.9, step=1000)
    torch.testing.assert_close(averaged[1].weight.detach(), start + 0.1)
    torch.testing.assert_close(averaged[2].running_mean, torch.full((16,), 0.1))
    assert averaged[2].num_batches_tracked == 5
    start, target = averaged[1].weight.detach().clone(), model[1].weight.detach()
    optim.update_average(averaged, model, decay=0.999, step=1)
    torch.testing.assert_close(averaged[1].weight.detach(), start * 2 / 11 + target * 9 / 11)


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_a_parameter_group_learns_at_its_share_of_the_rate_all_along_the_schedule(name):
    slow, fast = nn.Linear(4, 4), nn.Linear(4, 4)
    groups = [{"params": list(fast.parameters())}, {"params": list(slow.parameters()), "lr_scale": 0.1}]
    config = settings(optimizer=name, weight_decay=0.02, epochs=2)
    optimizer = optim.make_optimizer(groups, config)
    schedule, _ = optim.make_schedule(optimizer, config, 5)
    for _ in range(9):
        rates = [group["lr"] for group in optimizer.param_groups]  # weights, biases; weights, biases
        assert rates[0] == rates[1]
        assert rates[2:] == pytest.approx([0.1 * rate for rate in rates[:2]])
        optimizer.step()
        schedule.step()
    assert rates[0] < 0.05
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.02, 0, 0.02, 0]


@pytest.mark.parametrize("shape", [(8, 20), (20, 8)])
def test_orthogonal_keeps_singular_vectors_and_brings_singular_values_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    values = u.T @ optim.orthogonal(matrix, steps=5) @ v.T
    torch.testing.assert_close(values, torch.diag(values.diag()), atol=1e-3, rtol=0)
    assert values.diag().min() > 0.6
    assert values.diag().max() < 1.3


def test_muon_moves_convolutions_of_several_channels_and_adamw_the_rest():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(24, 2))
    other = copy.deepcopy(model)
    config = settings(optimizer="muon", lr=0.02, weight_decay=0.1)
    both = [
        optim.make_optimizer([{"params": list(net.parameters())}], c)
        for net, c in ((model, config), (other, replace(config, optimizer="adamw")))
    ]
    kernel, momentum = model[1].weight.detach().clone(), torch.zeros(6, 36)
    for seed in range(2):
        x = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
        for net, optimizer in zip((model, other), both, strict=True):
            net.zero_grad()
            net(x).square().sum().backward()
            gradient = model[1].weight.grad.flatten(1).clone() if net is model else None
            optimizer.step()
            if gradient is not None:
                momentum = 0.9 * momentum + gradient
                moved = kernel.flatten(1) - 0.1 * optim.orthogonal(gradient + 0.9 * momentum)
                kernel = (moved * 6**0.5 / moved.norm()).view_as(kernel)
                torch.testing.assert_close(model[1].weight.detach(), kernel)
        other[1].weight.data.copy_(kernel)  # so that the next gradients are equal
    for i in (0, 3):
        torch.testing.assert_close(model[i].weight, other[i].weight)
    saved = copy.deepcopy(both[0].state_dict())
    again = optim.make_optimizer([{"params": list(model.parameters())}], config)
    optim.load_moments(again, saved, config)  # of two kinds, as a resumed training does
    for moments, expected in zip(again.state_dict()["state"].values(), saved["state"].values(), strict=True):
        assert all(torch.equal(moments[key], value) for key, value in expected.items())
    saved["state"][max(saved["state"])]["momentum_buffer"] += torch.inf
    with pytest.raises(ValueError, match="momentum_buffer is not finite"):
        optim.load_moments(again, saved, config)
