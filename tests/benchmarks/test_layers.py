"""Hand-written layers and their obvious versions as whole steps on tiny data."""

import pytest
import torch
from torch import nn

from benchmarks import layers as module
from benchmarks.layers import PlainGlobalPool, layers, replace_layers
from models import create
from models.layers import Dropout, GlobalPool

CPU = torch.device("cpu")


def test_layers_compares_whole_steps(smallest_dir, check, rows_of):
    content = layers(smallest_dir, CPU, repeats=2, steps=2, cases=[(Dropout, "mlp"), (GlobalPool, "compact")])
    check(content, repeats=2)
    rows = rows_of(content)
    assert list(rows) == [
        f"step, {name}, {side}"
        for name in ("Dropout in mlp", "GlobalPool in compact")
        for side in ("ours", "obvious")
    ]
    pairs = [
        a / b
        for a, b in zip(
            rows["step, Dropout in mlp, obvious"], rows["step, Dropout in mlp, ours"], strict=True
        )
    ]
    assert content["ratios"][0]["low"] == pytest.approx(min(pairs), rel=1e-3)


def test_only_the_layers_of_one_type_are_replaced():
    model = create("wide")
    replace_layers(model, GlobalPool)
    kinds = [type(layer) for layer in model.modules()]
    assert kinds.count(PlainGlobalPool) == 1
    assert GlobalPool not in kinds
    assert Dropout in kinds
    replace_layers(model, Dropout)
    replaced = [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)]
    assert replaced == pytest.approx([0.2], abs=1 / 256)


def test_the_obvious_pooling_is_the_same_pooling():
    x = torch.randn(3, 4, 5, 6).to(memory_format=torch.channels_last)
    torch.testing.assert_close(PlainGlobalPool()(x), GlobalPool()(x))


def test_every_model_has_the_layers_that_it_is_timed_with():
    for layer, (_, _, models) in module.LAYERS.items():
        for model in models:
            assert any(isinstance(part, layer) for part in create(model).modules())
