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


def check(tree):
    assert report.main(["--results-dir", f"{tree}/results", "--readme", f"{tree}/README.md"]) in (0, 1)


@pytest.mark.parametrize("seed", range(25))
def test_a_wrong_value_anywhere_is_a_line(tree, seed):
    rng = random.Random(seed)
    files = sorted((tree / "results").rglob("*.json"))
    for file in (*rng.choices(files, k=4), *files[-2:]):
        whole = file.read_text()
        content = json.loads(whole)
        path, _ = rng.choice(list(places(content)))
        file.write_text(json.dumps(with_value(content, path, rng.choice(WRONG))))
        check(tree)
        file.write_text(whole)


def test_no_text_or_number_of_a_result_is_markup_or_out_of_range(tree):
    for file in sorted((tree / "results").rglob("*.json")):
        whole = file.read_text()
        content, done = json.loads(whole), set()
        for path, old in places(content):
            kind = file.parent.parent, *(step for step in path if isinstance(step, str))
            if isinstance(old, str | float) and kind not in done:
                done.add(kind)
                for wrong in [EVIL] if isinstance(old, str) else (math.nan, -1.5, 7.5):
                    file.write_text(json.dumps(with_value(content, path, wrong)))
                    check(tree)
        file.write_text(whole)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, "[]", "3", "\xff", "{}"])
def test_files_that_are_no_json_objects_are_a_line(tree, text):
    for file in sorted((tree / "results").rglob("*.json")):
        whole = file.read_bytes()
        file.write_bytes(text.encode("latin-1"))
        check(tree)
        file.write_bytes(whole)
