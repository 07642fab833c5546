"""A full disk, a deleted folder, several starters at once: one line, and nothing is lost."""

import errno
import os
import resource
import shutil
import signal

import pytest
import trials
from test_crashes import cnn
from trials import FORK, assert_one_line, content

import train_cnn
from utils.runs.folder import RunFolder

pytestmark = [pytest.mark.reliability, pytest.mark.usefixtures("one_figure")]

RUN = ("--name", "run", "--resume", "--runs", "2", "--epochs", "1")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_dir):
    """An undisturbed run: its results folder and their content."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        trials.replace_figures(patch, [train_cnn], lambda run, *args: run.path("curves.png").touch())
        trial = trials.run(lambda: cnn(*RUN)(tiny_dir, folder))
    assert trial.code == 0, trial.err
    return folder, content(folder)


def limit_files(size):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def fail_sync(write):
    """Some file systems tell only at the end of a write that the disk is full."""
    sync, calls = os.fsync, []

    def fail(number):
        calls.append(number)
        if len(calls) >= write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(number)

    os.fsync = fail


SIZES = (0, 200, 1000, 5000, 20_000)
FULL = {f"files of {size} bytes": (limit_files, size, "File too large") for size in SIZES}
FULL |= {f"write {write}": (fail_sync, write, "No space left on device") for write in range(1, 19, 2)}


@pytest.mark.parametrize(("fill", "number", "said"), FULL.values(), ids=FULL)
def test_a_full_disk_is_one_line_and_the_run_resumes(tmp_path, tiny_dir, whole, fill, number, said):
    full = trials.run(lambda: (fill(number), cnn(*RUN)(tiny_dir, tmp_path)))
    assert_one_line(full, "train_cnn.py: error: ", str(tmp_path), said)
    assert not list(tmp_path.rglob("*.tmp"))
    again = trials.run(lambda: cnn(*RUN)(tiny_dir, tmp_path))
    assert again.code == 0, again.err
    assert content(tmp_path) == whole[1]


@pytest.mark.parametrize("part", ["cnn/run/seed-0", "cnn/run", "cnn", "."])
def test_a_folder_that_is_deleted_in_a_training_is_one_line(tmp_path, tiny_dir, monkeypatch, part):
    save = RunFolder.save_checkpoint

    def delete(self, state):
        save(self, state)
        shutil.rmtree(tmp_path / "gone" / part)

    monkeypatch.setattr(RunFolder, "save_checkpoint", delete)
    trial = trials.run(lambda: cnn(*RUN)(tiny_dir, tmp_path / "gone"))
    assert_one_line(trial, "train_cnn.py: error: ", "No such file or directory")


# --- Several starters ---


def start_together(count, function):
    """Call function(i) in `count` processes that begin at once; return their trials."""
    begin = FORK.Barrier(count)

    def work(number):
        begin.wait()
        function(number)

    waits = [trials.start(lambda number=number: work(number)) for number in range(count)]
    return [wait() for wait in waits]


def test_each_of_several_starters_gets_a_folder_of_its_own(tmp_path, tiny_dir):
    ended = start_together(6, lambda number: cnn("--seed", str(number))(tiny_dir, tmp_path))
    assert [trial.code for trial in ended] == [0] * 6, [trial.err for trial in ended]
    names = {"linear", *(f"linear-{number}" for number in range(2, 7))}
    assert {path.name for path in (tmp_path / "cnn").iterdir()} == names
    seeds = [RunFolder(tmp_path / "cnn" / name).records()[0]["seed"] for name in names]
    assert sorted(seeds) == list(range(6))


@pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
def test_of_several_starters_of_one_name_one_gets_it(tmp_path, tiny_dir, whole, flag, monkeypatch):
    """The winner stays until all have tried; the lock itself is what the others meet."""
    repeat, words = train_cnn.repeat, [word for word in RUN if word != "--resume"]
    tried = FORK.Barrier(4)

    def wait_for_the_others(*args):
        tried.wait()
        return repeat(*args)

    monkeypatch.setattr(train_cnn, "repeat", wait_for_the_others)

    def work(number):
        try:
            cnn(*words, flag)(tiny_dir, tmp_path)
        except SystemExit:
            tried.wait()
            raise

    ended = start_together(4, work)
    assert sorted(trial.code for trial in ended) == [0, 2, 2, 2]
    for loser in (trial for trial in ended if trial.code):
        assert_one_line(loser, "cnn/run is in use by")
    assert content(tmp_path) == whole[1]
