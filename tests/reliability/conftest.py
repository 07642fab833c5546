"""One training in the process of the tests, so that its forked trials find everything loaded."""

import pytest
import trials
from test_crashes import SCRIPTS, cnn

from utils.plots import style


@pytest.fixture(scope="session", autouse=True)
def warm(tmp_path_factory, tiny_dir):
    cnn("--name", "warm")(tiny_dir, tmp_path_factory.mktemp("warm"))


@pytest.fixture
def one_figure(monkeypatch):
    """One small figure: many take many times as long as the training, and are written alike."""

    def plot(run, *args):
        fig, _ = style.figure(size=(0.5, 0.5))
        style.save(fig, run.path("curves.png"))

    trials.replace_figures(monkeypatch, SCRIPTS, plot)
