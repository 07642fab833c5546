"""Run folders from elsewhere, in which any value may be anything: one line, never a crash or a traceback."""

import contextlib
import copy
import math
import sys

import pytest
import torch
import trials
from torch import nn

from models import CheckpointError
from utils.errors import UserError
from utils.runs.folder import RunFolder
from utils.training.fit import FitConfig, classification_step, fit

pytestmark = pytest.mark.reliability

WRONG = (None, True, -1, 10**400, math.nan, "text", [], {}, {"a": [{}]}, b"x", torch.zeros(1))


def places(content, path=()):
    """Every place in nested dicts and lists."""
    yield path
    children = content.items() if isinstance(content, dict) else ()
    for key, value in enumerate(content) if isinstance(content, list) else children:
        yield from places(value, (*path, key))


def with_value(content, path, value):
    """A copy of the content with another value at a place."""
    if not path:
        return value
    changed = copy.copy(content)
    changed[path[0]] = with_value(content[path[0]], path[1:], value)
    return changed


def value_at(content, path):
    for key in path:
        content = content[key]
    return content


# --- Checkpoints ---


class Noise:
    """Two random batches."""

    def __len__(self):
        return 2

    def epoch(self, number):
        generator = torch.Generator().manual_seed(number)
        for _ in range(2):
            yield torch.randn(8, 1, 28, 28, generator=generator), torch.arange(8)


def train(run, epochs, **how):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 9), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(1600, 10))
    config = FitConfig(epochs=epochs, lr=0.01, quiet=True, **how)
    network.to(memory_format=torch.channels_last)
    return fit(network, classification_step(network), Noise(), config, run, lambda *_: {"val_loss": 1.0})


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
def test_a_foreign_checkpoint_is_refused_or_harmless(tmp_path, monkeypatch, how):
    """In one process: memory that is corrupted may show only later."""
    train(RunFolder(tmp_path), 2, **how)
    run, state = RunFolder(tmp_path, writes=False), RunFolder(tmp_path).load_checkpoint()

    def resume_with_each():
        for path in list(places(state))[2:]:
            value = value_at(state, path)
            for other in foreign_tensors(value) if isinstance(value, torch.Tensor) else WRONG:
                print(path, file=sys.stderr)
                changed = with_value(state, path, other)
                monkeypatch.setattr(run, "load_checkpoint", lambda changed=changed: changed)
                with contextlib.suppress(CheckpointError, UserError):
                    train(run, 3, **how)

    trial = trials.run(resume_with_each)
    assert trial.code == 0, "\n".join(trial.lines[-20:])
    assert len(trial.lines) > 200
