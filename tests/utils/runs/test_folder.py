"""Run folders: what they hold comes back, damage is named, the shape of metrics.json."""

import json
import os
import statistics

import numpy as np
import pytest
import torch
from helpers import FACTS

from models import create, read_model
from utils.errors import UserError
from utils.runs.folder import RunFolder, summarise


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path)
    config = {"script": "train_cnn", "name": "cnn", "device": "cpu", "arguments": {"dataset": "mnist"}}
    folder.write_json("config.json", config)
    return folder


def test_metrics_have_mean_and_sample_deviation_over_runs(run):
    accuracies = [0.5, 0.6, 0.9]
    records = [
        {"seed": i, "test_accuracy": a, "test_recall": [a, 1.0], "seconds": 2.0}
        for i, a in enumerate(accuracies)
    ]
    metrics = summarise(run, records)
    assert metrics == run.read_json("metrics.json")
    assert metrics["runs"] == records
    assert metrics["seconds"] == 6.0
    assert metrics["mean"] == {"test_accuracy": pytest.approx(2 / 3), "seconds": 2.0}
    assert metrics["std"]["test_accuracy"] == pytest.approx(statistics.stdev(accuracies))


def test_a_single_run_has_no_deviation(run):
    metrics = summarise(run, [{"seed": 0, "test_accuracy": 0.5, "seconds": 1.0}])
    assert metrics["std"] == {"test_accuracy": None, "seconds": None}


def test_a_failed_write_leaves_the_old_file_whole(tmp_path):
    run = RunFolder(tmp_path)
    run.write_json("metrics.json", {"good": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_json("metrics.json", {"bad": float("nan")})
    assert run.read_json("metrics.json") == {"good": 1}


def test_predictions_come_back_as_saved(tmp_path):
    run = RunFolder(tmp_path)
    run.save_predictions(test_probabilities=np.eye(3, dtype=np.float32), test_labels=np.arange(3))
    found = run.predictions()
    assert np.array_equal(found["test_probabilities"], np.eye(3))
    assert found["test_labels"].tolist() == [0, 1, 2]
    assert os.listdir(tmp_path) == ["predictions.npz"]


def test_history_is_on_disk_line_by_line(tmp_path):
    run = RunFolder(tmp_path)
    for epoch in (1, 2):
        run.log(epoch=epoch, loss=0.5)
        lines = (tmp_path / "history.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == list(range(1, epoch + 1))


def test_a_run_that_does_not_write_reads_what_another_rank_wrote(tmp_path):
    first = RunFolder(tmp_path)
    first.write_json("config.json", {"a": 1})
    first.log(epoch=1)
    second = RunFolder(tmp_path, writes=False)
    second.write_json("config.json", {"a": 2})
    second.log(epoch=2)
    second.save_checkpoint({})
    second.part("seed-0").save_predictions(x=[1])
    assert second.read_json("config.json") == {"a": 1}
    assert second.history() == [{"epoch": 1}]
    assert not list(tmp_path.rglob("*.pt"))
    assert not list(tmp_path.rglob("*.npz"))


def test_an_interrupted_save_keeps_the_old_file(tmp_path, monkeypatch):
    run, path = RunFolder(tmp_path), tmp_path / "m.pt"
    run.save_model("m.pt", create("linear"), "linear", FACTS)
    before = path.read_bytes()

    def interrupted(content, file):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.save_model("m.pt", create("linear"), "linear", FACTS)
    assert path.read_bytes() == before


def test_a_saved_model_is_one_that_models_reads(tmp_path):
    RunFolder(tmp_path).save_model("m.pt", create("linear", 4), "linear", FACTS, num_classes=4)
    saved = read_model(tmp_path / "m.pt")
    assert (saved.name, saved.options, saved.data) == ("linear", {"num_classes": 4}, FACTS)


# --- Damage ---


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"runs": 3}', b'{"runs": []}', b'{"runs": [{"seed": 0}]}', b"\xff\xfe"]
)
def test_damaged_metrics_are_named_with_the_way_out(run, content):
    run.path("metrics.json").write_bytes(content)
    with pytest.raises(UserError, match=r"metrics.json: .* delete it, and --resume makes it again"):
        run.records()


@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "text"])
def test_damaged_predictions_and_checkpoints_are_named_with_the_way_out(run, damage):
    run.save_predictions(x=np.arange(1000))
    run.save_checkpoint({"model": {"w": torch.arange(1000)}})
    for name, read in (("predictions.npz", run.predictions), ("last.pt", run.load_checkpoint)):
        whole = run.path(name).read_bytes()
        bit = bytearray(whole)
        bit[len(bit) // 2] ^= 1  # inside of the numbers
        damaged = {"empty": b"", "cut": whole[: len(whole) // 2], "bit": bit, "text": b"{}"}
        run.path(name).write_bytes(damaged[damage])
        with pytest.raises(UserError, match=f"{name}: damaged: delete it, and --resume makes it again"):
            read()
