"""Crash points: a process is killed before each change of a file that a run makes, in many modes before some.

The same command must then end as if nothing had happened, bit for bit, and until a new run has something to
keep, the run that it replaces must not be lost.
"""

import importlib
import shutil

import fingerprint
import numpy as np
import pytest
import trials
from helpers import base_flags
from trials import CRASH, Crash, content

import ensemble
import train_cnn
import train_few_labels
import train_mil
import train_moco
import train_simclr
import train_triplet

pytestmark = [pytest.mark.reliability, pytest.mark.usefixtures("one_figure")]

SCRIPTS = (ensemble, train_cnn, train_few_labels, train_mil, train_moco, train_simclr, train_triplet)


def command(script, *words):
    """A command as a function of the folders of data and results."""
    return lambda data, results: script.main(base_flags(data, results, *words))


def cnn(*more):
    small = ("--model", "linear", "--epochs", "2", "--batch-size", "64", "--lr", "0.01")
    return command(train_cnn, *small, *more)


def mil(*more):
    small = ("--model", "linear", "--epochs", "1", "--mean-length", "3", "--std-length", "1")
    bags = ("--val-bags", "4", "--test-bags", "8", "--bags-per-epoch", "0")
    return command(train_mil, *small, *bags, *more)


def fingerprinted(mode):
    script, *words = fingerprint.MODES[mode].split()
    return command(importlib.import_module(script), *RUN, "--resume", *words)


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
# Commands of the fingerprint, each killed before POINTS changes.
MODES = ("cnn-folds", "cnn-all", "ensemble", "ensemble-bagging", "ensemble-snapshot", "ensemble-fusion")
MODES += ("simclr", "supcon", "moco", "triplet", "mil")
POINTS = 3
FEW = ("--labels", "10,100", "--draws", "2", "--methods", "pixels-knn,pixels-linear")
SOME = {mode: fingerprinted(mode) for mode in MODES}
SOME |= {"few-labels": command(train_few_labels, *RUN, "--resume", *FEW)}
CASES |= {mode: (train, None, None) for mode, train in SOME.items()}


@pytest.mark.parametrize("case", CASES)
def test_a_crash_at_a_change_of_a_file_loses_nothing(tmp_path, tiny_dir, case):
    train, before, then = CASES[case]
    (tmp_path / "before").mkdir()
    if before:
        assert trials.run(lambda: before(tiny_dir, tmp_path / "before")).code == 0
        if then:
            then(tmp_path / "before")
    old = content(tmp_path / "before" / "cnn" / "run")
    shutil.copytree(tmp_path / "before", tmp_path / "whole")
    if case in SOME:
        train(tiny_dir, tmp_path / "loaded")  # so that the trials find everything loaded
    changes = Crash(tmp_path / "whole")
    whole = trials.run(lambda: train(tiny_dir, tmp_path / "whole"), changes)
    assert whole.code == 0, whole.err
    expected = content(tmp_path / "whole")
    points = 1 + np.arange(changes.count.value)
    assert len(points) > 15
    if case in SOME:
        points = np.random.default_rng(list(case.encode())).choice(points, POINTS, replace=False)
    for at in points:
        results = tmp_path / str(at)
        shutil.copytree(tmp_path / "before", results)
        crashed = trials.run(lambda results=results: train(tiny_dir, results), Crash(results, at))
        assert crashed.code == CRASH, (at, crashed.err)
        kept = [content(place) for place in (results / "cnn").glob("run*")]  # under its or another name
        assert not before or case == "a dry run" or old in kept, at
        again = trials.run(lambda results=results: train(tiny_dir, results))
        assert again.code == 0, (at, again.err)
        assert content(results) == expected, at
        shutil.rmtree(results)
