"""Repeating a training: its jobs and folders, what is skipped."""

from types import SimpleNamespace

import numpy as np
import pytest

from utils.runs.folder import RunFolder
from utils.runs.repeat import jobs, parts, repeat, share_out


def arguments(**changes):
    base = {"seed": 3, "runs": 1, "folds": None, "quiet": True}
    return SimpleNamespace(**{**base, **changes})


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_json(
        "config.json", {"script": "s", "name": "n", "device": "d", "arguments": {"dataset": "mnist"}}
    )
    return folder


def trainer(calls):
    """A training that takes a second and whose accuracy is a tenth of its seed."""

    def train(job, part):
        calls.append(job)
        part.log(epoch=1)
        part.save_predictions(x=np.zeros(1))
        return {**job, "test_accuracy": job["seed"] / 10, "seconds": 1.0}

    return train


def test_jobs_are_seeds_or_the_folds_of_one_seed():
    assert jobs(arguments(runs=2)) == [{"seed": 3}, {"seed": 4}]
    assert jobs(arguments(folds=2)) == [{"seed": 3, "fold": 0}, {"seed": 3, "fold": 1}]
    assert jobs(SimpleNamespace(seed=3)) == [{"seed": 3}]


def test_a_single_training_has_the_folder_of_the_run(run):
    assert parts(run, arguments()) == [run]
    assert [part.folder.name for part in parts(run, arguments(runs=2))] == ["seed-3", "seed-4"]
    assert [part.folder.name for part in parts(run, arguments(folds=2))] == ["fold-0", "fold-1"]


def test_every_part_is_summarised_and_the_run_over_all_of_them(run):
    metrics = repeat(trainer([]), arguments(runs=2), run)
    assert metrics["mean"]["test_accuracy"] == pytest.approx(0.35)
    assert metrics == run.read_json("metrics.json")
    part = RunFolder(run.path("seed-4"))
    assert part.read_json("metrics.json")["runs"] == metrics["runs"][1:]
    assert part.read_json("config.json") == run.read_json("config.json")
    assert run.history() == [{"seed": 3, "epoch": 1}, {"seed": 4, "epoch": 1}]


def test_finished_parts_are_skipped(run):
    repeat(trainer([]), arguments(runs=2), run)
    RunFolder(run.path("seed-3")).path("predictions.npz").unlink()
    calls = []
    repeat(trainer(calls), arguments(runs=2), run)
    assert calls == [{"seed": 3}]


@pytest.mark.parametrize(("together", "expected"), [(False, [1, 3]), (True, [0, 1, 2, 3])])
def test_ranks_take_turns_unless_they_share_each_training(monkeypatch, together, expected):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = []
    share_out(done.append, [(i,) for i in range(4)], together)
    assert done == expected
