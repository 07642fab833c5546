"""The committed results, read and checked; what can't be read is one line each."""

import json

import pytest
from made_up import benchmark, classifier_records, make_run, make_sweep, write_json

from report.results import (
    Experiment,
    RowSpec,
    is_clean,
    published_bags,
    read_collection,
    read_experiments,
    read_json,
    read_result,
    read_sweep,
    read_times,
    run_folders,
    sweep_folders,
)
from utils.errors import UserError


def test_an_experiment_is_a_run_with_rows(tmp_path):
    rows = [{"label": "first"}, {"metric": "test_auc", "references": ["a"], "cell": {"method": "max"}}]
    entry = {"name": "sweep", "command": "python train_mil.py --sweep", "rows": rows, "section": "extra"}
    write_json(
        tmp_path / "experiments.json", experiments=[entry, {"name": "x", "command": "python ensemble.py"}]
    )
    first, second = read_experiments(tmp_path)
    assert (first.script, first.folder, first.section) == ("train_mil", "mil/sweep", "extra")
    assert first.rows[0] == RowSpec("first")
    assert first.rows[1] == RowSpec(metric="test_auc", references=["a"], cell={"method": "max"})
    assert second == Experiment("x", "python ensemble.py", (RowSpec(),))
    assert second.folder == "ensemble/x"


@pytest.mark.parametrize("entry", [{"minutes": 3}, {"rows": [{"minutes": 3}]}])
def test_an_unknown_field_of_an_experiment_is_named(tmp_path, entry):
    write_json(
        tmp_path / "experiments.json", experiments=[{"name": "x", "command": "python train_cnn.py", **entry}]
    )
    with pytest.raises(UserError, match=r"experiments.json: .*minutes"):
        read_experiments(tmp_path)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"command": "rm -rf results"}, "x must run a script of this repository"),
        ({"command": "python ../other.py"}, "script of this repository"),
        ({"command": "python"}, "script of this repository"),
        ({"command": "python 'train_cnn.py"}, "script of this repository"),
        ({"command": 3}, "command must be of type str, not int"),
        ({"name": "../x"}, "not the name of a run"),
    ],
)
def test_an_experiment_runs_a_script_of_this_repository(tmp_path, entry, said):
    entry = {"name": "x", "command": "python train_cnn.py", **entry}
    write_json(tmp_path / "experiments.json", experiments=[entry])
    with pytest.raises(UserError, match=said):
        read_experiments(tmp_path)


def test_runs_and_sweeps_are_told_apart_and_dry_runs_left_out(tmp_path):
    make_run(tmp_path / "cnn" / "wide", classifier_records([0.99]))
    make_run(tmp_path / "cnn" / "tried", classifier_records([0.99]), dry_run=True)
    make_run(tmp_path / "cnn" / "demo", classifier_records([0.99]))
    make_sweep(tmp_path / "mil" / "sweep", {("mean", 50): 0.8})
    (tmp_path / "mil" / "begun").mkdir()
    (tmp_path / "mil" / "begun" / "config.json").write_text("{}")
    (tmp_path / "mil" / "begun" / "records-0.jsonl").write_text("")
    assert [path.name for path in run_folders(tmp_path)] == ["tried", "wide"]
    assert [path.name for path in sweep_folders(tmp_path)] == ["begun", "sweep"]
    assert read_result(tmp_path / "cnn" / "tried") is None
    assert read_result(tmp_path / "cnn" / "wide").key == "cnn/wide"
    assert read_sweep(tmp_path / "mil" / "sweep").metrics["trainings"] == [2, 2]


def test_a_run_without_records_is_named(tmp_path):
    make_run(tmp_path / "cnn" / "wide", classifier_records([0.99]))
    path = tmp_path / "cnn" / "wide" / "metrics.json"
    write_json(path, dataset="mnist", device="x", seconds=0, runs=[], mean={}, std={})
    with pytest.raises(UserError, match=r"metrics.json: no runs$"):
        read_result(path.parent)


def test_times_are_optional_and_checked(tmp_path):
    assert read_times(tmp_path) == {}
    entry = {"seconds_per_epoch": 2.0, "threads": 1, "cpu": "x"}
    write_json(tmp_path / "times.json", times={"cnn/wide": entry})
    assert read_times(tmp_path) == {"cnn/wide": entry}
    write_json(tmp_path / "times.json", times={"cnn/wide": {"threads": 1}})
    with pytest.raises(UserError, match=r"times.json: cnn/wide lacks seconds_per_epoch, cpu$"):
        read_times(tmp_path)


def test_a_collection_holds_all_that_can_be_read_and_names_the_rest(tmp_path):
    make_run(tmp_path / "cnn" / "wide", classifier_records([0.99]), commit="0123-dirty")
    make_run(tmp_path / "cnn" / "bad", classifier_records([0.99]))
    (tmp_path / "cnn" / "bad" / "metrics.json").write_text("{")
    make_sweep(tmp_path / "mil" / "sweep", {("mean", 50): 0.8})
    write_json(tmp_path / "benchmarks" / "fast.json", **benchmark(commit=None))
    write_json(tmp_path / "experiments.json", experiments=[{"name": "x", "command": "python ensemble.py"}])
    write_json(tmp_path / "references.json", references={})
    found = read_collection(tmp_path)
    assert (set(found.results), set(found.sweeps), set(found.benchmarks)) == (
        {"cnn/wide"},
        {"mil/sweep"},
        {"fast"},
    )
    assert found.faults == [f"{tmp_path}/cnn/bad/metrics.json: not valid JSON; half-written?"]
    assert [note.removeprefix(f"{tmp_path}/") for note in found.notes] == [
        "cnn/wide: not from a clean commit (0123-dirty)",
        "benchmarks/fast.json: not from a clean commit (None)",
        "ensemble/x: not run yet; python ensemble.py",
    ]
    assert found.experiment("ensemble/x").name == "x"
    assert found.experiment("cnn/wide") is None
    assert [is_clean(commit) for commit in ("0123", "0123-dirty", None)] == [True, False, False]


def test_published_bags_are_lines_of_points(tmp_path):
    references = {
        "mil-50": {"task": "50 training bags, theirs", "value": 0.931},
        "mil-100": {"task": "100 training bags, theirs", "value": 0.969},
        "mil-ilse-50": {"task": "50 training bags, attention", "value": 0.768},
    }
    write_json(tmp_path / "references.json", references=references)
    assert published_bags(tmp_path) == [{"name": "theirs, published", "points": [[50, 0.931], [100, 0.969]]}]


CONFIG = {"format": 1, "script": "train_cnn", "command": "c", "arguments": {}}
METRICS = {
    "format": 1,
    "dataset": "mnist",
    "device": "d",
    "seconds": 1,
    "runs": [{"seed": 0}],
    "mean": {},
    "std": {},
}


def write_file(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def make_folder(folder, **arguments):
    write_file(folder / "config.json", {**CONFIG, "arguments": arguments})
    write_file(folder / "metrics.json", METRICS)
    write_file(folder / "history.jsonl", '{"epoch": 1}\n{"epoch": 2}\n')
    return folder


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "missing"),
        ("{", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ({"format": 2}, "format 2, but this code reads format 1"),
        ({"format": 1, "a": 1}, "lacks b, c"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, said):
    path = tmp_path / "x.json"
    if content is not None:
        write_file(path, content)
    with pytest.raises(UserError, match=said) as caught:
        read_json(path, dict.fromkeys("abc", object))
    assert str(path) in str(caught.value)


def test_a_finished_run_is_read_and_a_dry_run_is_none(tmp_path):
    result = read_result(make_folder(tmp_path / "a"))
    assert [line["epoch"] for line in result.history] == [1, 2]
    assert result.metrics == METRICS
    assert read_result(make_folder(tmp_path / "b", dry_run=True)) is None
    (tmp_path / "a" / "history.jsonl").unlink()
    with pytest.raises(UserError, match=r"history\.jsonl: missing"):
        read_result(tmp_path / "a")
