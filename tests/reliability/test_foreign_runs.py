"""Run folders from elsewhere, in which any value may be anything: one line, never a crash or a traceback."""

import contextlib
import io
import json
import math
import os
import random
import shutil
import signal
import sys

import numpy as np
import pytest
import torch
import trials
from PIL import Image
from test_crashes import cnn, command, mil
from torch import nn
from trials import places, with_value

import ensemble
import predict
import train_cnn
import train_mil
from data import BatchLoader
from models import CheckpointError
from utils.errors import UserError
from utils.runs import folder
from utils.runs.folder import RunFolder
from utils.training.fit import FitConfig, classification_step, fit

pytestmark = pytest.mark.reliability

WRONG = (None, True, -1, 10**400, math.nan, "text", [], {}, {"a": [{}]}, b"x", torch.zeros(1))


# --- Checkpoints ---


def train(run, digits, epochs, **how):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 9), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(1600, 10))
    config = FitConfig(epochs=epochs, lr=0.01, quiet=True, **how)
    network.to(memory_format=torch.channels_last)
    batches = BatchLoader(digits, torch.arange(16), 8)
    return fit(network, classification_step(network), batches, config, run, lambda *_: {"val_loss": 1.0})


def foreign_tensors(value):
    """Tensors that are not what a training saved: another size, type, layout or storage."""
    yield from (value[..., None], value.flatten()[:0], value.double(), value.to(torch.complex64))
    yield from (value.to_sparse(), value * math.nan, torch.empty_like(value, device="meta"), None)
    yield from (value.new_zeros([1] * value.ndim).expand(value.shape), value.clone().as_strided_((1,), (0,)))


@pytest.mark.parametrize(
    "how",
    [
        {"optimizer": "adamw", "ema": 0.9, "schedule": "one-cycle"},
        {"optimizer": "adam", "schedule": "plateau"},
        {"optimizer": "sgd", "schedule": "step", "patience": 9},
    ],
)
def test_a_foreign_checkpoint_is_refused_or_harmless(tmp_path, digits, monkeypatch, how):
    """In one process: memory that is corrupted may show only later."""
    train(RunFolder(tmp_path), digits, 2, **how)
    run, state = RunFolder(tmp_path, writes=False), RunFolder(tmp_path).load_checkpoint()

    def resume_with_each():
        for path, value in list(places(state))[1:]:
            for other in foreign_tensors(value) if isinstance(value, torch.Tensor) else WRONG:
                print(path, file=sys.stderr)
                changed = with_value(state, path, other)
                monkeypatch.setattr(run, "load_checkpoint", lambda changed=changed: changed)
                with contextlib.suppress(CheckpointError, UserError):
                    train(run, digits, 3, **how)

    trial = trials.run(resume_with_each)
    assert trial.code == 0, "\n".join(trial.lines[-20:])
    assert len(trial.lines) > 200


# --- Files of a run ---

CNN = ("--name", "run", "--resume", "--runs", "2", "--epochs", "2")
SWEEP = ("--name", "run", "--resume", "--sweep", "6,4", "--method", "mean")


COMMANDS = {"cnn": cnn(*CNN), "mil": mil(*SWEEP), "combine": command(ensemble, "--from", "cnn/run")}
PAIR = command(ensemble, "--members", "2", "--model", "linear", "--epochs", "1", "--name", "run")
READ = ("--single", "--model")
COMMANDS["ensemble"] = lambda _, results: predict.main([f"{results}/7.png", *READ, f"{results}/ensemble/run"])


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Figures take longer than the rest; one reads what the real ones read."""
    trials.replace_figures(monkeypatch, [train_cnn, train_mil, ensemble], lambda run, *args: run.history())


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_dir):
    """A run of two seeds and a sweep, undisturbed."""
    results = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        trials.replace_figures(patch, [train_cnn, train_mil, ensemble], lambda *args: None)
        for work in (COMMANDS["cnn"], COMMANDS["mil"], PAIR):
            assert trials.run(lambda work=work: work(tiny_dir, results)).code == 0
    Image.fromarray(np.pad(np.full((8, 3), 255, np.uint8), 10)).save(results / "7.png")
    return results


def attempt(command, data, whole, results, change):
    """Change a copy of the runs and call a command; return its only line, of exit code 2, or nothing."""
    shutil.copytree(whole, results)
    change(results)
    said = io.StringIO()
    signal.alarm(60)  # against waiting for ever
    with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        command(data, results)
        said = io.StringIO()  # no error
    signal.alarm(0)
    shutil.rmtree(results)
    assert said.getvalue().count("\n") <= 1, said.getvalue()
    return said.getvalue()


def lines_of(path):
    """The JSON values of a file, and a function that writes changed ones."""
    text = path.read_text()
    if path.suffix == ".json":
        return json.loads(text), lambda content: path.write_text(json.dumps(content))
    lines = [json.loads(line) for line in text.splitlines()]
    return lines, lambda content: path.write_text("".join(json.dumps(line) + "\n" for line in content))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_foreign_value_in_a_file_of_a_run_is_one_line_or_no_matter(tmp_path, tiny_dir, whole, name):
    rng, command = random.Random(0), COMMANDS[name]
    files = sorted((whole / ("cnn" if name == "combine" else name)).rglob("*.json*"))
    for file in [path.relative_to(whole) for path in files if "seed-1" not in path.parts]:
        content, _ = lines_of(whole / file)
        steps = {tuple(step for step in path if isinstance(step, str)): path for path, _ in places(content)}
        for path in steps.values():
            value = rng.choice([wrong for wrong in WRONG if not isinstance(wrong, bytes | torch.Tensor)])

            def change(results, file=file, path=path, value=value):
                content, write = lines_of(results / file)
                write(with_value(content, path, value))
                for summary in results.rglob("metrics.json") if name in ("cnn", "mil") else ():
                    if rng.random() < 0.5 and summary != results / file:
                        summary.unlink()

            attempt(command, tiny_dir, whole, tmp_path / "results", change)


OTHERS = {
    "link": lambda path, outside: path.symlink_to(outside),
    "pipe": lambda path, outside: os.mkfifo(path),
    "device": lambda path, outside: path.symlink_to("/dev/zero"),
    "folder": lambda path, outside: path.mkdir(),
}
PARTS = ("config.json", "metrics.json", "history.jsonl", "seed-1", "seed-1/config.json", "seed-1/last.pt")
PARTS += ("seed-1/history.jsonl", "seed-1/metrics.json", "seed-1/predictions.npz", "seed-1/best.pt")


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("suffix", ["", ".tmp"])
def test_what_is_no_file_is_one_line_and_changes_nothing_outside(tmp_path, tiny_dir, whole, kind, suffix):
    outside = tmp_path / "outside"
    for place in [f"cnn/run/{part}{suffix}" for part in PARTS] + ["mil/run/records-0.jsonl", "cnn/run"]:
        outside.mkdir() if place.endswith(("seed-1", "run")) else outside.touch()

        def change(results, place=place):
            path = results / place
            for file in [*results.rglob("metrics.json"), results / "mil/run/sweep.json"]:
                file.unlink()
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            OTHERS[kind](path, outside)

        attempt(COMMANDS[place[:3]], tiny_dir, whole, tmp_path / "results", change)
        left = any(outside.iterdir()) if outside.is_dir() else outside.read_bytes()
        assert place == "cnn/run" or not left
        shutil.rmtree(outside, ignore_errors=True)
        outside.unlink(missing_ok=True)


def arrays(probabilities, labels, **more):
    return {"test_probabilities": probabilities, "test_labels": labels, **more}


P, Y = np.full((100, 10), 0.1, np.float32), np.zeros(100, np.int64)
ARRAYS = {
    "text": arrays(P, Y.astype(str)),
    "of other sizes": arrays(P, Y[:50]),
    "no numbers": arrays(P * np.nan, Y),
    "whole numbers": arrays(P.astype(int), Y),
    "half classes": arrays(P, Y + 0.5),
    "classes as floats": arrays(P, Y.astype(float)),
    "swapped bytes": arrays(P.astype(">f4"), Y.astype(">i8")),
    "complex": arrays(P.astype(complex), Y),
    "records": arrays(np.zeros(100, [("a", "f4")]), Y),
    "scalars": arrays(np.float32(1), np.int64(1)),
    "of more axes": arrays(P[..., None], Y),
    "another array": arrays(P, Y, val_labels="text"),
    "a bomb": arrays(P, Y, val_labels=np.zeros(2**14)),
    "much else": arrays(P, Y, more=np.zeros(2**14)),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_foreign_predictions_are_one_line(tmp_path, tiny_dir, whole, monkeypatch, kind):
    monkeypatch.setattr(folder, "LARGEST", 2**16)

    def change(results):
        np.savez_compressed(results / "cnn/run/seed-0/predictions.npz", **ARRAYS[kind])

    line = attempt(COMMANDS["combine"], tiny_dir, whole, tmp_path / "results", change)
    assert "cnn/run/seed-" in line
    assert ("delete it" in line) == (kind == "a bomb")


def test_figures_that_cannot_be_drawn_are_one_line_and_lose_nothing(tmp_path, tiny_dir, monkeypatch):
    trials.replace_figures(monkeypatch, [train_cnn], lambda run, *args: 1 / 0)
    trial = trials.run(lambda: COMMANDS["cnn"](tiny_dir, tmp_path))
    trials.assert_one_line(trial, f"{tmp_path}/cnn/run: a figure cannot be drawn (ZeroDivisionError")
    assert len(RunFolder(tmp_path / "cnn/run").records()) == 2
