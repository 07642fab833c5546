"""Run folders: what they hold comes back, damage is named, the shape of metrics.json."""

import os
import statistics

import numpy as np
import pytest
import torch
from helpers import FACTS

from models import create, read_model
from utils.errors import UserError
from utils.runs.folder import RunFolder, summarise


def test_metrics_have_mean_and_sample_deviation_over_runs(run):
    values = [0.5, 0.6, 0.9]
    more = {"test_recall": [0.5, 1.0], "seconds": 2.0}
    records = [{"seed": i, "test_accuracy": value, **more} for i, value in enumerate(values)]
    metrics = summarise(run, records)
    assert metrics == run.read_json("metrics.json")
    assert metrics.items() >= {"script": "train_cnn", "name": "cnn", "dataset": "mnist", "seconds": 6}.items()
    assert metrics["runs"] == run.records() == records
    assert metrics["mean"] == {"test_accuracy": pytest.approx(2 / 3), "seconds": 2.0}
    assert metrics["std"] == {"test_accuracy": pytest.approx(statistics.stdev(values)), "seconds": 0}
    assert summarise(run, records[:1])["std"] == {"test_accuracy": None, "seconds": None}


def test_what_is_no_number_is_not_written(run):
    run.write_json("metrics.json", {"good": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_json("metrics.json", {"bad": float("nan")})
    assert run.read_json("metrics.json") == {"good": 1}


def test_what_is_saved_comes_back(tmp_path):
    run = RunFolder(tmp_path)
    assert run.load_checkpoint() is None
    run.save_predictions(test_probabilities=np.eye(3, dtype=np.float32), test_labels=np.arange(3))
    run.save_checkpoint({"epoch": 3})
    run.save_model("best.pt", create("linear"), "linear", FACTS, num_classes=10)
    run.log(epoch=1)
    run.log(epoch=2)
    arrays, saved = run.predictions(), read_model(tmp_path / "best.pt")
    assert np.array_equal(arrays["test_probabilities"], np.eye(3))
    assert arrays["test_labels"].tolist() == [0, 1, 2]
    assert run.load_checkpoint() == {"format": 1, "epoch": 3}
    assert (saved.name, saved.options, saved.data) == ("linear", {"num_classes": 10}, FACTS)
    assert run.history() == [{"epoch": 1}, {"epoch": 2}]
    assert sorted(os.listdir(tmp_path)) == ["best.pt", "history.jsonl", "last.pt", "predictions.npz"]


def test_a_run_that_does_not_write_reads_what_another_rank_wrote(run):
    run.log(epoch=1)
    second = RunFolder(run.folder, writes=False)
    second.write_json("config.json", {"a": 2})
    second.log(epoch=2)
    second.save_checkpoint({})
    second.part("seed-0").save_predictions(x=[1])
    assert second.read_json("config.json") == run.read_json("config.json") != {"a": 2}
    assert second.history() == [{"epoch": 1}]
    assert not run.resumable


def flipped(content):
    """The content with a bit in its middle flipped, inside of the numbers."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 128]) + content[middle + 1 :]


EMPTY = b'{"runs": [{"seconds": 1, "test_auc": []}]}'
OTHERS = b"", b"{}", b"[]", b'{"runs": []}', b'{"runs": [{"seed": 0}]}', EMPTY
DAMAGE = [*(lambda content, other=other: other for other in OTHERS), lambda content: content[:-400], flipped]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_with_the_way_out(run, damage):
    summarise(run, [{"seed": 0, "seconds": 1.0, "test_accuracies": [0.5] * 100}])
    run.save_predictions(x=np.arange(1000))
    run.save_checkpoint({"model": {"w": torch.arange(1000)}})
    reads = {"metrics.json": run.records, "predictions.npz": run.predictions, "last.pt": run.load_checkpoint}
    for name, read in reads.items():
        run.path(name).write_bytes(damage(run.path(name).read_bytes()))
        with pytest.raises(UserError, match=f"{name}: .*: delete it, and --resume makes it again"):
            read()
