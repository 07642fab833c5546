"""Live tracking: optional packages, imported on use, with a clear error when missing."""

import sys
from types import SimpleNamespace

import pytest

from utils.errors import UserError
from utils.runs import tracking
from utils.runs.folder import RunFolder


@pytest.mark.parametrize(("kind", "module"), tracking.MODULES.items())
def test_a_missing_package_is_a_user_error_before_the_training(monkeypatch, kind, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"pip install {kind}"):
        tracking.load(kind)


def test_every_number_of_an_epoch_is_sent_and_the_run_is_closed(tmp_path, monkeypatch):
    sent = []
    session = SimpleNamespace(
        log=lambda *args, **kw: sent.append((args, kw)), finish=lambda: sent.append("end")
    )
    fake = SimpleNamespace(init=lambda **kwargs: sent.append(kwargs["name"]) or session)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for kind in ("wandb", "none"):
        tracker = tracking.Tracker(kind, RunFolder(tmp_path / "cnn" / "mine"))
        tracker.log({"train_loss": 0.5}, 3)
        tracker.close()
    assert sent == ["cnn/mine", (({"train_loss": 0.5},), {"step": 3}), "end"]
