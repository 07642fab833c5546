"""Live tracking: optional packages, imported on use, with a clear error when missing."""

import sys
from types import SimpleNamespace

import pytest

from utils.errors import UserError
from utils.runs import tracking
from utils.runs.folder import RunFolder


@pytest.mark.parametrize(
    ("kind", "module", "package"),
    [("tensorboard", "torch.utils.tensorboard", "tensorboard"), ("wandb", "wandb", "wandb")],
)
def test_a_missing_package_is_a_user_error_before_the_training(monkeypatch, kind, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"pip install {package}"):
        tracking.load(kind)
    assert tracking.load("none") is None


def test_every_number_of_an_epoch_is_sent_and_the_run_is_closed(tmp_path, monkeypatch):
    sent = []
    run = SimpleNamespace(
        log=lambda values, step: sent.append((step, values)), finish=lambda: sent.append("end")
    )
    started = {}
    fake = SimpleNamespace(init=lambda **kwargs: started.update(kwargs) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    tracker = tracking.Tracker("wandb", RunFolder(tmp_path / "cnn" / "mine"))
    tracker.log({"train_loss": 0.5}, 3)
    tracker.close()
    assert started["name"] == "cnn/mine"
    assert sent == [(3, {"train_loss": 0.5}), "end"]


def test_no_tracking_does_nothing(tmp_path):
    tracker = tracking.Tracker("none", RunFolder(tmp_path))
    tracker.log({"train_loss": 0.5}, 1)
    tracker.close()
    assert not list(tmp_path.iterdir())
