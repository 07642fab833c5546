"""Repeats and sweeps: jobs and folders, what is skipped, how they are summarised."""

import statistics
from types import SimpleNamespace

import numpy as np
import pytest

from utils.runs.files import append_line
from utils.runs.folder import RunFolder
from utils.runs.repeat import collect, jobs, parts, read_records, repeat, share_out

TODO = [{"method": method, "seed": seed} for seed in (0, 1) for method in ("mean", "max")]


def arguments(**changes):
    return SimpleNamespace(**{"seed": 3, "runs": 1, "folds": None, "quiet": True, **changes})


def trainer(calls):
    """A training that takes a second and whose accuracy is a tenth of its seed."""

    def train(job, part):
        calls.append(job)
        part.log(epoch=1)
        part.save_predictions(x=np.zeros(1))
        return {**job, "test_accuracy": job["seed"] / 10, "seconds": 1.0}

    return train


def test_every_job_has_a_folder_and_a_single_one_that_of_the_run(run):
    assert jobs(SimpleNamespace(seed=3)) == [{"seed": 3}]
    assert jobs(arguments(runs=2)) == [{"seed": 3}, {"seed": 4}]
    assert jobs(arguments(folds=2)) == [{"seed": 3, "fold": 0}, {"seed": 3, "fold": 1}]
    assert parts(run, arguments()) == [run]
    assert [part.folder.name for part in parts(run, arguments(runs=2))] == ["seed-3", "seed-4"]
    assert [part.folder.name for part in parts(run, arguments(folds=2))] == ["fold-0", "fold-1"]


def test_every_part_is_summarised_and_the_run_over_all_of_them_and_finished_ones_are_skipped(run):
    metrics = repeat(trainer([]), arguments(runs=2), run)
    assert metrics["mean"]["test_accuracy"] == pytest.approx(0.35)
    assert metrics == run.read_json("metrics.json")
    part = RunFolder(run.path("seed-4"))
    assert part.records() == metrics["runs"][1:]
    assert part.read_json("config.json") == run.read_json("config.json")
    assert run.history() == [{"seed": 3, "epoch": 1}, {"seed": 4, "epoch": 1}]
    run.path("seed-3/predictions.npz").unlink()
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


# --- Sweeps ---


def measure(job):
    auc = 0.5 + 0.1 * job["seed"] + (0.2 if job["method"] == "max" else 0)
    return {**job, "test_auc": auc, "test_auc_low": 0.1, "seconds": 2.0}


def test_a_sweep_is_summarised_by_cell(run):
    content = collect(measure, TODO, arguments(), run, group=("method",))
    assert content == run.read_json("sweep.json")
    assert (content["trainings"], content["seconds"]) == ([4, 4], 8.0)
    mean, largest = content["cells"]
    assert (mean["method"], largest["method"]) == ("mean", "max")
    assert mean["mean"] == {"test_auc": pytest.approx(0.55), "seconds": 2.0}  # an interval is not averaged
    assert mean["std"]["test_auc"] == pytest.approx(statistics.stdev([0.5, 0.6]))
    assert mean["runs"][1] == {"seed": 1, "test_auc": 0.6, "seconds": 2.0}


def test_jobs_with_a_record_of_any_rank_are_not_trained_again(run):
    append_line(run.path("records-0.jsonl"), measure(TODO[0]))
    append_line(run.path("records-1.jsonl"), measure(TODO[1]))
    calls = []
    content = collect(lambda job: calls.append(job) or measure(job), TODO, arguments(), run, ("method",))
    assert calls == TODO[2:]
    assert content["trainings"] == [4, 4]


def test_a_line_that_is_no_record_of_the_sweep_is_dropped(run):
    run.path("records-0.jsonl").write_text('{"seed": 1, "tes\n{"seed": 2}\n{"seed": 3, "seconds": 1.5}\n')
    assert read_records(run, ("seed",)) == [{"seed": 3, "seconds": 1.5}]
    assert read_records(run, ("seed", "method")) == []
