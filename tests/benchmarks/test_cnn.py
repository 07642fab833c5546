"""Training to a target, either loop and augmentation, on tiny data."""

import pytest
import torch
from helpers import checked_benchmark

from benchmarks import cnn
from data import POLICIES

CPU = torch.device("cpu")


def test_fast_times_whole_trainings_and_records_their_curves(tiny_dir, monkeypatch):
    monkeypatch.setattr(cnn, "LENGTHS", (1, 2))
    content = cnn.fast(tiny_dir, CPU, repeats=2, target=0.0, epochs=2)
    rows, targets = checked_benchmark(content, repeats=2)
    for side, trainings in content["trainings"].items():
        assert rows[side] == [training["train_seconds"] for training in trainings]
        assert rows[f"{side}, test accuracy"] == [training["test_accuracy"] for training in trainings]
    assert list(targets.items())[0] == ("standard way / ours", 85)
    ours, usual = content["curves"].values()
    assert [len(accuracies) for _, accuracies in ours] == [2, 2]
    seconds = sum(rows["standard way"]) / 2  # the target is reached after one epoch
    assert usual == [(pytest.approx(seconds, rel=1e-4), rows["standard way, test accuracy"])]


def test_the_mean_of_an_epoch_leaves_out_trainings_that_had_ended():
    assert cnn.mean_time([(2.0, 0.5), None, (4.0, 0.75)]) == (3.0, [0.5, 0.75])


@pytest.mark.parametrize("network", cnn.NETWORKS)
def test_both_networks_give_log_probabilities_to_the_standard_loop(network):
    outputs = cnn.NETWORKS[network]().eval()(torch.randn(3, 1, 28, 28))
    assert torch.allclose(outputs.exp().sum(1), torch.ones(3), atol=1e-5)


def test_the_standard_way_augments_by_the_same_ranges():
    affine = cnn.standard_affine(POLICIES["affine"])
    assert (affine.degrees, affine.shear) == ([-10, 10], [-5, 5, -5, 5])
    assert (affine.translate, affine.scale) == ((0.08, 0.08), (0.9, 1.1))
