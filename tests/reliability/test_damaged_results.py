"""report.py on damaged results: it names what is wrong and renders the rest; never another exception."""

import json
import random

import pytest
from helpers import load_script
from made_up import make_tree

report = load_script("report")
pytestmark = pytest.mark.reliability

WRONG = (None, True, -1, 1e308, "text", "", [], {}, [[]], {"a": {}}, ["x"], "../../x")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Results of every script; nothing is drawn or written."""
    monkeypatch.setattr(report, "write", lambda path, output: None)
    return make_tree(tmp_path)


def places(content, path=()):
    """Every place in a JSON value."""
    yield path
    children = content.items() if isinstance(content, dict) else ()
    children = enumerate(content) if isinstance(content, list) else children
    for key, value in children:
        yield from places(value, (*path, key))


def spoilt(content, rng):
    """Replace or delete one value at a random place."""
    *path, last = rng.choice([place for place in places(content) if place])
    parent = content
    for key in path:
        parent = parent[key]
    if rng.random() < 0.3:
        del parent[last]
    else:
        parent[last] = rng.choice(WRONG)
    return content


def check(tree):
    assert report.main(["--results-dir", f"{tree}/results", "--readme", f"{tree}/README.md"]) in (0, 1)


@pytest.mark.parametrize("seed", range(25))
def test_a_wrong_value_anywhere_is_a_line(tree, seed):
    rng = random.Random(seed)
    files = sorted((tree / "results").rglob("*.json"))
    for file in (*rng.choices(files, k=4), *files[-2:]):
        whole = file.read_text()
        file.write_text(json.dumps(spoilt(json.loads(whole), rng)))
        check(tree)
        file.write_text(whole)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, "[]", "3", "\xff", "{}"])
def test_files_that_are_no_json_objects_are_a_line(tree, text):
    for file in sorted((tree / "results").rglob("*.json")):
        whole = file.read_bytes()
        file.write_bytes(text.encode("latin-1"))
        check(tree)
        file.write_bytes(whole)
