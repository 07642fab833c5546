"""Run folders: names, refusals, atomic files, the shape of metrics.json."""

import json
import os
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import FACTS

from models import create, read_model
from utils.errors import UserError
from utils.runs.folder import RunFolder, device_name, open_run, summarise


def arguments(folder, **changes):
    base = {
        "results_dir": str(folder),
        "name": None,
        "resume": False,
        "overwrite": False,
        "rescore": False,
        "dry_run": False,
        "dataset": "mnist",
        "device": "cpu",
        "lr": 0.1,
        "quiet": True,
    }
    return SimpleNamespace(**{**base, **changes})


def start(folder, **changes):
    return open_run("train_cnn", arguments(folder, **changes), "cnn", "python train_cnn.py")


def finish(run):
    run.save_predictions(x=np.zeros(1))
    return summarise(run, [{"seed": 0, "test_accuracy": 0.5, "seconds": 1.0}])


def test_unnamed_runs_take_the_next_free_name(tmp_path):
    names = [start(tmp_path).folder.relative_to(tmp_path).as_posix() for _ in range(3)]
    assert names == ["cnn/cnn", "cnn/cnn-2", "cnn/cnn-3"]


def test_config_says_what_made_the_run(tmp_path):
    config = start(tmp_path).read_json("config.json")
    assert config["script"] == "train_cnn"
    assert config["command"] == "python train_cnn.py"
    assert config["arguments"]["lr"] == 0.1
    assert config["device"] == device_name("cpu")
    assert {"python", "torch", "torchvision", "numpy"} == set(config["versions"])
    # Where results lie and how much is printed change no metric.
    assert not {"results_dir", "quiet", "resume"} & set(config["arguments"])


def test_a_taken_name_is_refused_and_untouched(tmp_path):
    run = start(tmp_path, name="mine")
    finish(run)
    with pytest.raises(UserError, match="--resume .* --overwrite"):
        start(tmp_path, name="mine")
    assert run.finished


def test_overwrite_starts_from_nothing(tmp_path):
    finish(start(tmp_path, name="mine"))
    run = start(tmp_path, name="mine", overwrite=True)
    assert sorted(os.listdir(run.folder)) == ["config.json"]


def test_a_folder_that_is_no_run_is_never_deleted(tmp_path):
    (tmp_path / "cnn" / "mine").mkdir(parents=True)
    (tmp_path / "cnn" / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="is not the folder of a run"):
        start(tmp_path, name="mine", overwrite=True)
    assert (tmp_path / "cnn" / "mine" / "thesis.txt").read_text() == "precious"


def test_resume_goes_on_only_with_the_same_arguments(tmp_path):
    finish(start(tmp_path, name="mine"))
    assert start(tmp_path, name="mine", resume=True).finished
    with pytest.raises(UserError, match=r"--lr was 0\.1, now 0\.2"):
        start(tmp_path, name="mine", resume=True, lr=0.2)


def test_resume_starts_a_run_that_is_not_there_or_has_metrics_only(tmp_path):
    assert not start(tmp_path, name="new", resume=True).finished
    run = start(tmp_path, name="cloned")
    finish(run)
    run.path("predictions.npz").unlink()  # not committed, so absent in a fresh clone
    again = start(tmp_path, name="cloned", resume=True, lr=0.2)
    assert not again.path("metrics.json").exists()
    assert again.read_json("config.json")["arguments"]["lr"] == 0.2


@pytest.mark.parametrize("flag", ["resume", "overwrite"])
def test_resume_and_overwrite_need_a_name(tmp_path, flag):
    with pytest.raises(UserError, match="need --name"):
        start(tmp_path, **{flag: True})


def test_a_dry_run_has_its_own_name_and_replaces_itself(tmp_path):
    finish(start(tmp_path, dry_run=True))
    run = start(tmp_path, dry_run=True)
    assert run.folder.name == "dry-run"
    assert not run.finished


def test_a_dry_run_never_touches_a_run(tmp_path):
    finish(start(tmp_path, name="wide"))
    run = start(tmp_path, name="wide", dry_run=True)
    assert run.folder.name == "dry-run"
    assert (tmp_path / "cnn" / "wide" / "metrics.json").exists()


def test_a_results_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "results").write_text("a file, not a folder")
    with pytest.raises(UserError, match="cannot write to"):
        start(tmp_path / "results")


def test_metrics_have_mean_and_sample_deviation_over_runs(tmp_path):
    run = start(tmp_path)
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


def test_a_single_run_has_no_deviation(tmp_path):
    metrics = finish(start(tmp_path))
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


# --- Scoring a finished run again ---


def finished_run(folder, *labels):
    """A run with its checkpoint: alone or, with labels, one per part."""
    run = start(folder, name="mine", draws=3)
    for part in [run.part(label) for label in labels] or [run]:
        part.write_json("config.json", run.read_json("config.json"))
        part.save_checkpoint({})
        finish(part)
    summarise(run, [{"seed": 0, "test_accuracy": 0.5, "seconds": 1.0}])
    return run


def rescore(folder, **changes):
    return start(folder, name="mine", rescore=True, **{"draws": 3, **changes})


def test_rescoring_keeps_who_trained_and_records_who_scored(tmp_path, monkeypatch):
    old = finished_run(tmp_path).read_json("config.json")
    monkeypatch.setattr("utils.runs.folder.git_commit", lambda: "later")
    monkeypatch.setattr("utils.runs.folder.device_name", lambda device: "another machine")
    run = rescore(tmp_path, draws=5)  # how it is evaluated may change
    new = run.read_json("config.json")
    assert {key: new[key] for key in ("commit", "device", "versions")} == {
        key: old[key] for key in ("commit", "device", "versions")
    }
    assert new["rescored"] == {"commit": "later", "versions": old["versions"]}
    assert new["arguments"] == {**old["arguments"], "draws": 5}
    assert run.path("last.pt").exists()


def test_rescoring_with_another_training_is_refused(tmp_path):
    run = finished_run(tmp_path)
    before = run.read_json("config.json")
    with pytest.raises(UserError, match=r"--lr was 0\.1, now 0\.2"):
        rescore(tmp_path, lr=0.2)
    assert run.read_json("config.json") == before


@pytest.mark.parametrize(("labels", "missing"), [([], "last.pt"), (["seed-0", "seed-1"], "seed-1/last.pt")])
def test_rescoring_without_every_checkpoint_is_refused_and_changes_nothing(tmp_path, labels, missing):
    run = finished_run(tmp_path, *labels)
    run.path(missing).unlink()
    before = run.read_json("config.json")
    with pytest.raises(UserError, match=f"--rescore needs .*{missing}, which is not committed"):
        rescore(tmp_path)
    assert run.read_json("config.json") == before


def test_rescoring_needs_a_finished_run_and_its_name(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        rescore(tmp_path)
    assert not (tmp_path / "cnn").exists()
    start(tmp_path, name="mine", draws=3)
    with pytest.raises(UserError, match="no finished run"):
        rescore(tmp_path)
    with pytest.raises(UserError, match="need --name"):
        start(tmp_path, rescore=True)


def test_a_saved_model_is_one_that_models_reads(tmp_path):
    RunFolder(tmp_path).save_model("m.pt", create("linear", 4), "linear", FACTS, num_classes=4)
    saved = read_model(tmp_path / "m.pt")
    assert (saved.name, saved.options, saved.data) == ("linear", {"num_classes": 4}, FACTS)
