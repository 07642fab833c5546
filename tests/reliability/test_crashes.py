"""Crash points: a process is killed before each change of a file that a run makes, once.

The same command must then end as if nothing had happened, and until a new run has something to keep, the run
that it replaces must not be lost.
"""

import shutil

import pytest
import trials
from trials import CRASH, Crash, content

import train_cnn
import train_mil
from utils.plots import style

pytestmark = pytest.mark.reliability


def cnn(*more):
    small = ("--model", "linear", "--epochs", "2", "--batch-size", "64", "--lr", "0.01", *more)
    return lambda data, results: train_cnn.main([*where(data, results), *small])


def mil(*more):
    small = ("--model", "linear", "--epochs", "1", "--mean-length", "3", "--std-length", "1", *more)
    bags = ("--train-bags", "8", "--val-bags", "4", "--test-bags", "8", "--bags-per-epoch", "0")
    return lambda data, results: train_mil.main([*where(data, results), *small, *bags])


def where(data, results):
    folders = ("--data-dir", str(data), "--results-dir", str(results))
    return [*folders, "--device", "cpu", "--precision", "fp32", "--quiet"]


def delete_uncommitted(results):
    """Leave what a fresh clone has."""
    for pattern in ("*.pt", "*.npz"):
        for path in results.rglob(pattern):
            path.unlink()


RUN = ("--name", "run")
OLD = cnn(*RUN, "--seed", "1")
# The command, what was there before, and what then happened to it.
CASES = {
    "a new run": (cnn(*RUN, "--resume"), None, None),
    "a run in the place of another": (cnn(*RUN, "--overwrite"), OLD, None),
    "a run of a fresh clone": (cnn(*RUN, "--seed", "1", "--resume"), OLD, delete_uncommitted),
    "a run of two seeds": (cnn(*RUN, "--resume", "--runs", "2", "--epochs", "1"), None, None),
    "a sweep": (mil(*RUN, "--resume", "--sweep", "6,4", "--method", "mean"), None, None),
    "a dry run": (cnn("--dry-run"), cnn("--dry-run", "--seed", "1"), None),
}


@pytest.fixture(autouse=True)
def one_figure(monkeypatch):
    """One small figure: many take many times as long as the training, and are written alike."""

    def plot(run, *args):
        fig, _ = style.figure(size=(0.5, 0.5))
        style.save(fig, run.path("curves.png"))

    trials.replace_figures(monkeypatch, (train_cnn, train_mil), plot)


def is_whole(folder, old):
    """Whether the old run is in its place or has another name."""
    return old in [content(place) for place in folder.glob("run*")]


@pytest.mark.parametrize("case", CASES)
def test_a_crash_at_any_change_of_a_file_loses_nothing(tmp_path, tiny_dir, case):
    command, before, then = CASES[case]
    (tmp_path / "before").mkdir()
    if before:
        assert trials.run(lambda: before(tiny_dir, tmp_path / "before")).code == 0
        if then:
            then(tmp_path / "before")
    old = content(tmp_path / "before" / "cnn" / "run")
    shutil.copytree(tmp_path / "before", tmp_path / "whole")
    whole = trials.run(lambda: command(tiny_dir, tmp_path / "whole"), Crash(tmp_path / "whole"))
    assert whole.code == 0, whole.err
    expected = content(tmp_path / "whole")
    assert whole.changes > 15
    for at in range(1, whole.changes + 1):
        results = tmp_path / str(at)
        shutil.copytree(tmp_path / "before", results)
        crashed = trials.run(lambda results=results: command(tiny_dir, results), Crash(results, at))
        assert crashed.code == CRASH, (at, crashed.err)
        assert not before or case == "a dry run" or is_whole(results / "cnn", old), at
        again = trials.run(lambda results=results: command(tiny_dir, results))
        assert again.code == 0, (at, again.err)
        assert content(results) == expected, at
        shutil.rmtree(results)
    print(f"{case}: {whole.changes} crash points")
