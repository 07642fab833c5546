"""Sweeps: every job once, torn lines skipped, cells with mean and deviation."""

import statistics
from types import SimpleNamespace

import pytest

from utils.runs.files import append_line
from utils.runs.folder import RunFolder
from utils.runs.sweep import collect, read_records

ARGS = SimpleNamespace(quiet=True)
TODO = [{"method": method, "seed": seed} for seed in (0, 1) for method in ("mean", "max")]


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path)
    config = {"script": "s", "name": "n", "command": "c", "device": "d", "arguments": {"dataset": "mnist"}}
    folder.write_json("config.json", config)
    return folder


def train(job):
    auc = 0.5 + 0.1 * job["seed"] + (0.2 if job["method"] == "max" else 0)
    return {**job, "test_auc": auc, "test_auc_low": 0.1, "roc": [auc, 1.0], "seconds": 2.0}


def test_a_sweep_is_summarised_by_cell(run):
    content = collect(train, TODO, ARGS, run, group=("method",))
    assert content == run.read_json("sweep.json")
    assert content["trainings"] == [4, 4]
    assert content["seconds"] == 8.0
    mean, largest = content["cells"]
    assert (mean["method"], largest["method"]) == ("mean", "max")
    assert mean["mean"]["test_auc"] == pytest.approx(0.55)
    assert mean["std"]["test_auc"] == pytest.approx(statistics.stdev([0.5, 0.6]))
    assert mean["mean_roc"] == [0.55, 1.0]
    assert [row["seed"] for row in mean["runs"]] == [0, 1]
    assert "test_auc_low" not in mean["mean"]  # an interval is no metric to average


def test_jobs_with_a_record_are_not_trained_again(run):
    calls = []

    def counted(job):
        calls.append(job)
        return train(job)

    collect(counted, TODO[:2], ARGS, run, group=("method",))
    content = collect(counted, TODO, ARGS, run, group=("method",))
    assert calls == TODO
    assert content["trainings"] == [4, 4]


def test_a_line_that_is_no_record_of_the_sweep_is_dropped(run):
    with run.path("records-0.jsonl").open("w") as file:
        file.write('{"seed": 1, "tes\n{"seed": 2}\n{"seed": 3, "seconds": 1.5}\n')
    assert read_records(run, ("seed",)) == [{"seed": 3, "seconds": 1.5}]
    assert read_records(run, ("seed", "method")) == []


def test_records_of_all_ranks_count(run):
    append_line(run.path("records-0.jsonl"), train(TODO[0]))
    append_line(run.path("records-1.jsonl"), train(TODO[1]))
    calls = []
    collect(lambda job: calls.append(job) or train(job), TODO, ARGS, run, group=("method",))
    assert calls == TODO[2:]
