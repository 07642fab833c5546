"""report.py on damaged results: it names what is wrong and renders the rest; never another exception."""

import copy
import json
import random

import pytest
from helpers import load_script
from made_up import benchmark, classifier_records, make_run, make_sweep, write_json

report = load_script("report")
pytestmark = pytest.mark.reliability

WRONG = (None, True, -1, 1e308, "text", "", [], {}, [[]], {"a": {}}, ["x"], "../../x")
EXPERIMENTS = [
    {"name": "wide", "command": "python train_cnn.py --model wide", "rows": [{"references": ["best"]}]},
    {"name": "sweep", "command": "python train_mil.py --sweep 50,100 --runs 2", "section": "sweeps"},
]
BEST = {"task": "one CNN", "metric": "accuracy", "value": 0.99748, "source": "best", "url": "u"}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A results folder with two runs, a sweep and a benchmark; nothing is drawn or written."""
    monkeypatch.setattr(report, "write", lambda path, output: None)
    folder = tmp_path / "results"
    write_json(folder / "experiments.json", experiments=EXPERIMENTS)
    write_json(folder / "references.json", references={"best": BEST, "ceiling": BEST})
    history = [{"epoch": 1, "train_loss": 0.3, "seconds": 1.0}]
    make_run(folder / "cnn" / "wide", classifier_records([0.997, 0.998]), history=history, model="wide")
    make_run(folder / "cnn" / "fast", classifier_records([0.99]), history=history, model="fast")
    make_sweep(folder / "mil" / "sweep", {("attention", 50): 0.97, ("mean", 100): 0.9})
    write_json(folder / "benchmarks" / "fast.json", **benchmark())
    times = {"cnn/wide": {"seconds_per_epoch": 2.0, "threads": 1, "cpu": "x", "commit": "a"}}
    write_json(folder / "times.json", times=times)
    return folder


def places(content, path=()):
    """Every place in a JSON value."""
    yield path
    children = content.items() if isinstance(content, dict) else ()
    children = enumerate(content) if isinstance(content, list) else children
    for key, value in children:
        yield from places(value, (*path, key))


def spoilt(content, rng):
    """Replace or delete one value at a random place."""
    content = copy.deepcopy(content)
    *path, last = rng.choice([place for place in places(content) if place])
    parent = content
    for key in path:
        parent = parent[key]
    if rng.random() < 0.3:
        del parent[last]
    else:
        parent[last] = rng.choice(WRONG)
    return content


def check(results, capsys):
    readme = results.parent / "README.md"
    readme.write_text("<!-- report:results begin -->\n<!-- report:results end -->\n")
    assert report.main(["--results-dir", str(results), "--readme", str(readme)]) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(25))
def test_a_wrong_value_anywhere_is_a_line(results, seed, capsys):
    rng = random.Random(seed)
    files = sorted(results.rglob("*.json"))
    for _ in range(4):
        file = rng.choice(files)
        whole = file.read_text()
        file.write_text(json.dumps(spoilt(json.loads(whole), rng)))
        check(results, capsys)
        file.write_text(whole)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, "[]", "3", "\xff", "{}"])
def test_files_that_are_no_json_objects_are_a_line(results, text, capsys):
    for file in sorted(results.rglob("*.json*")):
        whole = file.read_bytes()
        file.write_bytes(text.encode("latin-1"))
        check(results, capsys)
        file.write_bytes(whole)
