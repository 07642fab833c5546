"""Committed results: read and checked, with one line for whatever is missing or damaged."""

import json

import pytest

from utils.errors import UserError
from utils.runs.results import (
    Experiment,
    is_sweep,
    published_bags,
    read_experiments,
    read_json,
    read_result,
    run_folders,
)

CONFIG = {"format": 1, "script": "train_cnn", "command": "c", "arguments": {}}
METRICS = {"format": 1, "dataset": "mnist", "device": "d", "seconds": 1, "runs": [], "mean": {}, "std": {}}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def make_run(folder, **arguments):
    write(folder / "config.json", {**CONFIG, "arguments": arguments})
    write(folder / "metrics.json", METRICS)
    write(folder / "history.jsonl", '{"epoch": 1}\n{"epoch": 2}\n')
    return folder


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "missing"),
        ("{", "not valid JSON"),
        ("[1]", "format null"),
        ({"format": 2}, "format 2, but this code reads format 1"),
        ({"format": 1, "a": 1}, "lacks b, c"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, said):
    path = tmp_path / "x.json"
    if content is not None:
        write(path, content)
    with pytest.raises(UserError, match=said) as caught:
        read_json(path, "a", "b", "c")
    assert str(path) in str(caught.value)


def test_a_finished_run_is_read_and_a_dry_run_is_none(tmp_path):
    result = read_result(make_run(tmp_path / "a"))
    assert [line["epoch"] for line in result.history] == [1, 2]
    assert result.metrics == METRICS
    assert read_result(make_run(tmp_path / "b", dry_run=True)) is None
    (tmp_path / "a" / "history.jsonl").unlink()
    with pytest.raises(UserError, match=r"history\.jsonl: missing"):
        read_result(tmp_path / "a")


def test_runs_are_found_finished_or_not_but_no_sweep_demo_or_dry_run(tmp_path):
    for name in ("cnn/b", "cnn/a", "cnn/demo-2", "cnn/dry-run", "mil/sweep"):
        make_run(tmp_path / name)
    write(tmp_path / "mil" / "sweep" / "sweep.json", {})
    write(tmp_path / "simclr" / "unfinished" / "config.json", CONFIG)
    found = [folder.relative_to(tmp_path).as_posix() for folder in run_folders(tmp_path)]
    assert found == ["cnn/a", "cnn/b", "simclr/unfinished"]
    assert is_sweep(tmp_path / "mil" / "sweep")


def test_an_experiment_knows_its_script_and_folder(tmp_path):
    entry = {"name": "wide", "command": "python train_cnn.py --model wide"}
    write(tmp_path / "experiments.json", {"format": 1, "experiments": [entry]})
    (experiment,) = read_experiments(tmp_path)
    assert experiment == Experiment(**entry)
    assert (experiment.script, experiment.folder) == ("train_cnn", "cnn/wide")
    write(tmp_path / "experiments.json", {"format": 1, "experiments": [{**entry, "colour": "red"}]})
    with pytest.raises(UserError, match=r"experiments\.json: .*colour"):
        read_experiments(tmp_path)


def test_published_metrics_of_bags_become_lines_of_points(tmp_path):
    references = {
        "mil-50": {"task": "MIL, best", "value": 0.9},
        "mil-attention-50": {"task": "MIL, attention", "value": 0.8},
        "mil-100": {"task": "MIL, best", "value": 0.95},
        "mil-note": {"task": "no number of bags", "value": 0.1},
        "cnn-50": {"task": "another", "value": 0.1},
    }
    write(tmp_path / "references.json", {"format": 1, "references": references})
    assert published_bags(tmp_path) == [
        {"name": "best, published", "points": [[50, 0.9], [100, 0.95]]},
        {"name": "attention, published", "points": [[50, 0.8]]},
    ]
