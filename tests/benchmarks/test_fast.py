"""Seconds to the target, and either network in either loop, on tiny data."""

import pytest
import torch

from benchmarks import fast as module
from benchmarks.fast import fast
from benchmarks.measure import line

CPU = torch.device("cpu")


def test_the_first_training_that_reaches_the_target_counts(smallest_dir, check, rows_of):
    content = fast(smallest_dir, CPU, repeats=1, target=0.0, epochs=1)
    check(content, repeats=1)
    trained = content["trainings"]
    assert [run["epochs"] for run in trained["ours"][0]] == [1]
    assert [run["epochs"] for run in trained["standard way"][0]] == [1]
    rows = rows_of(content)
    assert rows["ours"] == [trained["ours"][0][0]["seconds"]]
    assert rows["standard way"] == [trained["standard way"][0][0]["seconds"]]
    assert rows["ours, test accuracy"] == [trained["ours"][0][0]["test_accuracy"]]
    assert content["ratios"][0]["target"] == 30


def test_fast_says_when_the_target_was_not_reached(smallest_dir):
    content = fast(smallest_dir, CPU, repeats=1, target=1.01, epochs=2)
    assert [run["epochs"] for run in content["trainings"]["ours"][0]] == [1, 2]
    seconds = [run["seconds"] for run in content["trainings"]["standard way"][0]]
    assert len(seconds) == 2
    assert seconds[0] < seconds[1]  # so far, not per epoch
    assert [row["median"] for row in content["rows"][:2]] == [None, None]
    assert content["ratios"][0]["value"] is None
    assert "not reached" in line(content["ratios"][0])


def test_the_cross_rows_tell_loop_and_network_apart(smallest_dir, rows_of):
    content = fast(smallest_dir, CPU, repeats=2, target=0.0, epochs=1)
    rows = rows_of(content)
    names = [f"{network}, {loop}" for network in module.NETWORKS for loop in ("our loop", "their loop")]
    assert all(len(rows[f"{name}, training"]) == 2 for name in names)
    crossed = {ratio["name"]: ratio for ratio in content["ratios"][1:]}
    assert list(crossed) == [
        "images/s of our network, our loop / their loop",
        "images/s of their network, our loop / their loop",
        "images/s in our loop, our / their network",
        "images/s in their loop, our / their network",
    ]
    ours, theirs = rows["our network, our loop, training"], rows["our network, their loop, training"]
    ratio = crossed["images/s of our network, our loop / their loop"]
    assert ratio["low"] == pytest.approx(min(a / b for a, b in zip(ours, theirs, strict=True)), rel=1e-3)


def test_both_networks_give_log_probabilities_to_the_standard_loop():
    for network in module.NETWORKS.values():
        found = network().eval()(torch.randn(3, 1, 28, 28))
        assert torch.allclose(found.exp().sum(1), torch.ones(3), atol=1e-5)
