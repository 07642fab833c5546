"""report.py on damaged results: it names what is wrong and renders the rest; never another exception."""

import json
import math
import random
import re

import pytest
from helpers import load_script
from made_up import make_tree
from trials import GONE, places, with_value

report = load_script("report")
pytestmark = pytest.mark.reliability

EVIL = "<script>x</script> [a](b)\n# evil \x1b[31m \ud800 |"
WRONG = (EVIL, None, True, -1, 7.5, 1e308, math.nan, 10**400, "text", "", "../../x")
WRONG += ([], {}, [[]], {"a": {}}, ["x"], *[GONE] * 6)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Results of every script; nothing is drawn or written, and no page has markup of a result's."""

    def look(path, output):
        page = output.decode() if isinstance(output, bytes) else ""
        assert not re.search(
            r"(?<!\\)<script|(?<!\\)\[a\]|^# evil|\x1b|\bnan\b|[2-9]\d\d\.\d\d %|-\d\d\d?\.\d\d %", page, re.M
        ), page

    monkeypatch.setattr(report, "write", look)
    return make_tree(tmp_path)


def check(tree, file, content):
    """Render with this content, JSON or bytes, in the place of a file."""
    whole = file.read_bytes()
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    assert report.main(["--results-dir", f"{tree}/results", "--readme", f"{tree}/README.md"]) in (0, 1)
    file.write_bytes(whole)


def files(tree):
    return {file: json.loads(file.read_text()) for file in sorted((tree / "results").rglob("*.json"))}


@pytest.mark.parametrize("seed", range(25))
def test_a_wrong_value_anywhere_is_a_line(tree, seed):
    rng, contents = random.Random(seed), files(tree)
    for file in (*rng.choices([*contents], k=4), *[*contents][-2:]):
        path, _ = rng.choice(list(places(contents[file])))
        check(tree, file, with_value(contents[file], path, rng.choice(WRONG)))


def test_no_text_or_number_of_a_result_is_markup_or_out_of_range(tree):
    done = set()
    for file, content in files(tree).items():
        for path, old in places(content):
            kind = file, *(step for step in path if isinstance(step, str))
            if isinstance(old, str | float) and kind not in done:
                done.add(kind)
                for wrong in [EVIL] if isinstance(old, str) else (math.nan, -1.5, 7.5):
                    check(tree, file, with_value(content, path, wrong))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, "[]", "3", "\xff", "{}"])
def test_files_that_are_no_json_objects_are_a_line(tree, text):
    for file in files(tree):
        check(tree, file, text.encode("latin-1"))
