"""Optimisers, schedules and the moving average, by hand and against the papers."""

import copy
import math

import pytest
import torch
from helpers import fit_settings as settings
from helpers import small_network as network
from torch import nn

from utils.training.optim import OPTIMIZERS, anneal, make_optimizer, make_schedule, update_average


@pytest.mark.parametrize("total", [1, 2, 3, 4, 5, 100])
@pytest.mark.parametrize("warm_up", [0.0, 0.25])
def test_anneal_stays_in_range_and_ends_at_zero_with_the_last_step(total, warm_up):
    factors = [anneal(step, total, warm_up) for step in range(total)]
    assert all(0 <= f <= 1 for f in factors)
    if total > 1:
        assert factors[-1] == pytest.approx(0, abs=1e-12)


def test_anneal_has_the_shape_of_the_papers():
    assert anneal(0, 101, 0.0) == 1
    assert anneal(50, 101, 0.0) == pytest.approx(0.5)
    assert anneal(0, 101, 0.25) == pytest.approx(0.04)
    assert anneal(25, 101, 0.25) == 1
    middle = 0.5 * (1 + math.cos(math.pi * 35 / 75))
    assert anneal(60, 101, 0.25) == pytest.approx(middle)


def test_weight_decay_spares_biases_and_normalisation_and_frozen_parameters_are_left_out():
    model = network()
    model[1].requires_grad_(False)
    groups = [{"params": list(model.parameters())}]
    decayed, spared = make_optimizer(groups, settings(weight_decay=0.1)).param_groups
    assert [p.shape for p in decayed["params"]] == [(10, 16)]
    assert [p.shape for p in spared["params"]] == [(16,), (16,), (10,)]  # batch norm, a bias
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0)


def test_moving_average_of_weights_and_statistics():
    model = network()
    averaged = copy.deepcopy(model)
    start = model[1].weight.detach().clone()
    model[1].weight.data += 1
    model[2].running_mean += 1
    model[2].num_batches_tracked += 5
    update_average(averaged, model, decay=0.9, step=1000)
    torch.testing.assert_close(averaged[1].weight.detach(), start + 0.1)
    torch.testing.assert_close(averaged[2].running_mean, torch.full((16,), 0.1))
    assert averaged[2].num_batches_tracked == 5


def test_a_moving_average_forgets_the_first_weights_quickly():
    model, averaged = nn.Linear(2, 2), nn.Linear(2, 2)
    start, target = averaged.weight.detach().clone(), model.weight.detach()
    update_average(averaged, model, decay=0.999, step=1)
    torch.testing.assert_close(averaged.weight.detach(), start * 2 / 11 + target * 9 / 11)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_group_learns_at_its_share_of_the_rate_all_along_the_schedule(name):
    slow, fast = nn.Linear(4, 4), nn.Linear(4, 4)
    groups = [{"params": list(fast.parameters())}, {"params": list(slow.parameters()), "lr_scale": 0.1}]
    config = settings(optimizer=name, weight_decay=0.02, epochs=2)
    optimizer = make_optimizer(groups, config)
    schedule, _ = make_schedule(optimizer, config, 5)
    for _ in range(9):
        rates = [group["lr"] for group in optimizer.param_groups]  # weights, biases; weights, biases
        assert rates[0] == rates[1]
        assert rates[2:] == pytest.approx([0.1 * rate for rate in rates[:2]])
        optimizer.step()
        schedule.step()
    assert rates[0] < 0.05
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.02, 0, 0.02, 0]
