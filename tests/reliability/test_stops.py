"""Ctrl-C and SIGTERM at any moment of a real process, and a dead rank under torchrun."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import weakref

import pytest
import trials
from helpers import ROOT, base_flags, free_port, tiny_idx, without_seconds
from made_up import write_lists
from test_crashes import cnn

import train_cnn
from utils.runs.folder import RunFolder

pytestmark = [pytest.mark.reliability, pytest.mark.usefixtures("one_figure")]

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
# A function, and the number of the call in which the signal comes.
PLACES = {
    "data": ("utils.cli", "load", 1),
    "training": ("utils.training.fit", "update_average", 5),
    "callback": ("utils.training.fit", "update_average", 5),
    "saving": ("os", "fsync", 8),
    "evaluation": ("train_cnn", "evaluate_classifier", 1),
    "drawing": ("utils.plots.style", "save", 1),
    "printing": ("train_cnn", "report", 1),
}


class Part:
    """Something that may have a weak reference."""


def stop_itself(number):
    """Send a signal to this process, as another one would."""
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python handles it between two of its own steps


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("place", PLACES)
def test_a_signal_keeps_the_work_and_tells_how_to_resume(tmp_path, tiny_dir, monkeypatch, number, place):
    module, name, at = PLACES[place]
    function, calls = getattr(sys.modules[module], name), []

    def stop(*args, **kwargs):
        calls.append(args)
        if len(calls) == at:
            callback = weakref.ref(Part(), lambda part: stop_itself(number) if place == "callback" else None)
            if place != "callback":
                stop_itself(number)
            del callback
        return function(*args, **kwargs)

    command = cnn("--name", "run", "--ema", "0.9")
    whole = trials.run(lambda: command(tiny_dir, tmp_path / "whole"))
    assert whole.code == 0, whole.err
    monkeypatch.setattr(sys.modules[module], name, stop)
    stopped = trials.run(lambda: command(tiny_dir, tmp_path / "results"))
    assert stopped.code == CODES[number], stopped.err
    assert "Traceback" not in stopped.err
    told = re.fullmatch(r"stopped.*:\n  python train_cnn\.py (.*)", stopped.err.strip())
    assert told, stopped.err
    monkeypatch.undo()
    resumed = trials.run(lambda: train_cnn.main(shlex.split(told[1])))
    assert resumed.code == 0, resumed.err
    found = [RunFolder(tmp_path / x / "cnn/run").read_json("metrics.json") for x in ("whole", "results")]
    assert without_seconds(found[0]) == without_seconds(found[1])


@pytest.mark.parametrize("number", CODES)
def test_reproduce_ends_its_training_with_itself(tmp_path, number):
    started, experiment = tmp_path / "started", {"name": "a", "command": "python train_cnn.py"}
    training = f"import os, pathlib, time; pathlib.Path({str(started)!r}).write_text(str(os.getpid()))"
    (tmp_path / "train_cnn.py").write_text(f"{training}; time.sleep(600)")
    write_lists(tmp_path, experiment)
    code = f"import reproduce; reproduce.__file__ = {str(tmp_path / 'reproduce.py')!r}"
    words = [sys.executable, "-c", f"{code}; reproduce.main(['--results-dir', {str(tmp_path)!r}])"]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (started.exists() and started.read_text()):
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(60) == CODES[number]
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


MEETING = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"RANK": "x"}, "RANK=x in the environment"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE=-1 in the environment"),
        ({"WORLD_SIZE": "2"}, "the 2 ranks can't meet, start them with torchrun"),
        ({**MEETING, "RANK": "0", "MASTER_PORT": "x"}, "the 2 ranks can't meet"),
        ({**MEETING, "RANK": "0", "MASTER_PORT": "999999"}, "the 2 ranks can't meet"),
    ],
)
def test_ranks_that_cannot_meet_are_one_line(tmp_path, tiny_dir, changes, said):
    trial = trials.run(lambda: (os.environ.update(changes), cnn()(tiny_dir, tmp_path)))
    trials.assert_one_line(trial, f"train_cnn.py: error: {said}")


def test_a_closed_stderr_stops_no_training(tmp_path, tiny_dir, monkeypatch):
    trial = trials.run(lambda: (monkeypatch.setattr(sys, "stderr", None), cnn()(tiny_dir, tmp_path)))
    assert trial.code == 0
    assert RunFolder(tmp_path / "cnn/linear").finished


# --- A dead rank ---

DRIVER = """
import os, signal, sys
sys.path.insert(0, {root!r})
import train_simclr
from utils.errors import UserError
from utils.training import fit

save = fit.Training.end_epoch

def end_epoch(self, values, seconds):
    line = save(self, values, seconds)
    if os.environ["RANK"] == "1" and self.epoch == 2 and not os.path.exists({mark!r}):
        open({mark!r}, "w").close()
        if {how!r} == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise UserError("rank 1 has met a fault")
    return line

fit.Training.end_epoch = end_epoch
if __name__ == "__main__":
    train_simclr.main()
"""


@pytest.mark.parametrize("how", ["killed", "fault"])
def test_a_dead_rank_ends_the_others_and_its_line_is_the_last(tmp_path, how):
    data = tiny_idx(tmp_path / "data")
    small = ("--model", "fast", "--epochs", "3", "--batch-size", "90", "--unverified")
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER.format(root=str(ROOT), mark=str(tmp_path / "mark"), how=how))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    launcher += ["--master-port", free_port(), str(driver)]
    words = [*launcher, *base_flags(data, tmp_path / "results", *small)]
    start = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=240)
    assert done.returncode == 1
    assert time.monotonic() - start < 200
    *_, last, border = done.stderr.strip().splitlines()
    assert set(border) == {"="}
    if how == "fault":
        assert last.strip() == "traceback : train_simclr.py: error: rank 1 has met a fault"
    else:
        assert re.search(r"Signal 9 \(SIGKILL\) received by PID \d+", last)
    assert done.stderr.count("Traceback") == 1  # that of torchrun itself
    assert RunFolder(tmp_path / "results/simclr/simclr").resumable
