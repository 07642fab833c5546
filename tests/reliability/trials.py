"""Trials in processes of their own: forked from the test, so that one costs a fraction of a second.

A trial may be ended before any change of a file, as by kill -9 or a power failure.
"""

import copy
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from helpers import without_seconds

from utils.runs.files import read_lines

CRASH, FORK = 137, multiprocessing.get_context("fork")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")


class Trial(NamedTuple):
    """What a process left: its exit code, and the text on its stderr."""

    code: int
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.strip().splitlines()


class Crash:
    """Counts the changes of files below `folder`, and ends the process before number `at`.

    A change is an opening for writing, the end of a write, a rename, a deletion or a new folder. At the end
    of a write the last bytes are missing, as after a power failure.
    """

    def __init__(self, folder: Path, at: int | None = None):
        self.folder, self.at = os.path.realpath(folder), at
        self.count = FORK.Value("i", 0)  # seen by the test, too

    def start(self):
        sys.addaudithook(self.hook)  # there is no way to remove it, and none is needed in a forked process
        sync = os.fsync

        def torn(number):
            self.change(lambda: os.ftruncate(number, max(os.fstat(number).st_size - 7, 0)))
            sync(number)

        os.fsync = torn

    def hook(self, event, arguments):
        path = arguments[0] if arguments else None
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if not (writes or event in CHANGES) or not isinstance(path, str | os.PathLike):
            return
        if os.path.abspath(path).startswith(self.folder) or event in ("os.remove", "os.rmdir"):
            self.change()

    def change(self, tear: Callable = lambda: None):
        self.count.value += 1
        if self.count.value == self.at:
            tear()
            os._exit(CRASH)


def assert_one_line(trial: Trial, *words: str) -> None:
    """A user error: exit code 2 and one line with these words."""
    assert (trial.code, len(trial.lines)) == (2, 1), trial.err
    assert all(word in trial.err for word in words), trial.err


def run(function: Callable, crash: Crash | None = None) -> Trial:
    """Call a function in a forked process and wait for its end."""
    return start(function, crash)()


def start(function: Callable, crash: Crash | None = None) -> Callable[[], Trial]:
    """Start a forked process that calls a function; return what waits for its end."""
    err, err_in = os.pipe()
    process = FORK.Process(target=_call, args=(function, crash, err_in))
    process.start()
    os.close(err_in)

    def wait():
        with os.fdopen(err, "rb") as told:
            text = told.read().decode(errors="replace")
        process.join()
        return Trial(process.exitcode, text)

    return wait


def _call(function, crash, err):
    """Call the function with its stderr in `err`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, closefd=False) for number in (1, 2))
    if crash:
        crash.start()
    function()


def replace_figures(monkeypatch, scripts: Iterable, plot: Callable) -> None:
    """Let the functions of the scripts that plot call `plot`: figures take longer than trainings."""
    for script in scripts:
        for name in [name for name in vars(script) if name.startswith("plot_")]:
            monkeypatch.setattr(script, name, plot)


# --- Nested dicts and lists ---

GONE = object()


def places(content, path: tuple = ()):
    """Yield (path, value) of everything inside."""
    parts = enumerate(content) if isinstance(content, list) else ()
    for key, value in content.items() if isinstance(content, dict) else parts:
        yield (*path, key), value
        yield from places(value, (*path, key))


def with_value(content, path: Sequence, value):
    """Return a copy with another value at a place, or with none for GONE."""
    changed, (key, *rest) = copy.copy(content), path
    if rest:
        changed[key] = with_value(content[key], rest, value)
    elif value is GONE:
        del changed[key]
    else:
        changed[key] = value
    return changed


# --- What a run left ---


def content(results: Path) -> dict:
    """Return what counts of all runs below a results folder but replaced ones: times aside, bit for bit."""
    paths = {path.relative_to(results).as_posix(): path for path in sorted(results.rglob("*"))}
    return {name: _content(path) for name, path in paths.items() if path.is_file() and ".old-" not in name}


def _content(path):
    if path.name == "metrics.json":
        return without_seconds(json.loads(path.read_text()))
    if path.name == "config.json":
        config = json.loads(path.read_text())
        return {key: config[key] for key in ("script", "name", "arguments", "command")}
    if path.name == "sweep.json":
        return [without_seconds(cell) for cell in json.loads(path.read_text())["cells"]]
    if path.suffix == ".jsonl":
        return [{k: v for k, v in line.items() if "seconds" not in k} for line in read_lines(path)]
    if path.name in ("best.pt", "encoder.pt"):
        return {key: value.tolist() for key, value in torch.load(path, weights_only=True)["weights"].items()}
    return "a file"
