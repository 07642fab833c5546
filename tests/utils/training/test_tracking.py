"""Live tracking: optional packages, imported on use, with a clear error when missing."""

import contextlib
import sys
from types import ModuleType, SimpleNamespace

import pytest

from utils.errors import UserError
from utils.runs.folder import RunFolder
from utils.training import tracking


@pytest.mark.parametrize("found", [None, ModuleType("a folder of that name")])
@pytest.mark.parametrize(("kind", "start"), tracking.STARTS.items())
def test_a_missing_package_is_a_user_error_before_the_training(monkeypatch, kind, start, found):
    monkeypatch.setitem(sys.modules, start[0], found)
    with pytest.raises(UserError, match=f"pip install {kind}"):
        tracking.load(kind)


def test_every_number_of_an_epoch_is_sent_and_the_run_is_closed(tmp_path, monkeypatch):
    sent = []

    @contextlib.contextmanager
    def init(name, **options):
        sent.append(name)
        yield SimpleNamespace(log=lambda *values: sent.append(values))
        sent.append("end")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for kind in ("wandb", "none"):
        with tracking.tracker(kind, RunFolder(tmp_path / "cnn" / "mine")) as track:
            track({"train_loss": 0.5}, 3)
    assert sent == ["cnn/mine", ({"train_loss": 0.5}, 3), "end"]
