"""Training to a target, either loop, augmentation and hand-written layers, on tiny data."""

from collections import Counter

import pytest
import torch
from torch import nn

from benchmarks import cnn
from data import POLICIES
from models import create
from models.layers import Dropout, GlobalPool

CPU = torch.device("cpu")


def test_the_first_training_that_reaches_the_target_counts(tiny_dir, check):
    content = cnn.fast(tiny_dir, CPU, repeats=2, target=0.0, epochs=2)
    rows, targets = check(content, repeats=2)
    for side, trainings in content["trainings"].items():
        assert [training["epochs"] for training in trainings] == [1, 1]
        assert rows[side] == [training["train_seconds"] for training in trainings]
        assert rows[f"{side}, test accuracy"] == [training["test_accuracy"] for training in trainings]
    assert list(targets.items())[0] == ("standard way / ours", 30)


@pytest.mark.parametrize("network", cnn.NETWORKS)
def test_both_networks_give_log_probabilities_to_the_standard_loop(network):
    outputs = cnn.NETWORKS[network]().eval()(torch.randn(3, 1, 28, 28))
    assert torch.allclose(outputs.exp().sum(1), torch.ones(3), atol=1e-5)


def test_the_standard_way_augments_by_the_same_ranges():
    affine = cnn.standard_affine(POLICIES["affine"])
    assert (affine.degrees, affine.shear) == ([-10, 10], [-5, 5, -5, 5])
    assert (affine.translate, affine.scale) == ((0.08, 0.08), (0.9, 1.1))


def test_layers_compares_whole_steps(tiny_dir, check, monkeypatch):
    few = {layer: (*entry[:2], entry[2][:1]) for layer, entry in cnn.LAYERS.items()}
    monkeypatch.setattr(cnn, "LAYERS", few)
    content = cnn.layers(tiny_dir, CPU, repeats=2, steps=2)
    rows, targets = check(content, repeats=2)
    names = ["Dropout in mlp", "GlobalPool in compact"]
    assert list(rows) == [f"step, {name}, {side}" for name in names for side in ("ours", "obvious")]
    assert targets == {f"{name}, obvious / ours": 1.1 for name in names}


@pytest.mark.parametrize("layer", cnn.LAYERS)
def test_every_layer_of_one_type_is_replaced(layer):
    for name in cnn.LAYERS[layer][2]:
        model = create(name)
        before = Counter(map(type, model.modules()))
        cnn.replace_layers(model, layer)
        after = Counter(map(type, model.modules()))
        assert [kind for kind in cnn.LAYERS if after[kind] != before[kind]] == [layer]
        assert after[layer] == 0


def test_the_obvious_versions_are_the_same_layers():
    x = torch.randn(3, 4, 5, 6).to(memory_format=torch.channels_last)
    torch.testing.assert_close(cnn.PlainGlobalPool()(x), GlobalPool()(x))
    plain = cnn.LAYERS[Dropout][0](Dropout(0.2))
    assert isinstance(plain, nn.Dropout)
    assert plain.p == pytest.approx(0.2, abs=1 / 256)
