"""Figures are tested by what is on them, before they become pixels."""

import matplotlib.pyplot as plt
import pytest

from utils.plots import style


@pytest.fixture
def drawn(monkeypatch):
    """Return a function that calls a plot function and returns the figure in place of saving it."""

    def draw(function, *args, **kwargs):
        figures = []
        monkeypatch.setattr(style, "save", lambda fig, *rest: figures.append(fig))
        function(*args, **kwargs)
        assert len(figures) == 1
        return figures[0]

    yield draw
    plt.close("all")


@pytest.fixture
def images(monkeypatch):
    """Return a function that calls a plot function and returns the arguments of plot_images."""

    def call(function, *args, **kwargs):
        calls = []
        monkeypatch.setitem(function.__globals__, "plot_images", lambda *given, **more: calls.append(given))
        function(*args, **kwargs)
        ((parts, columns, *_, title),) = calls
        return parts, columns, title

    return call


@pytest.fixture
def texts():
    """Return the texts of tick labels, legends or other artists."""
    return lambda artists: [artist.get_text() for artist in artists]
