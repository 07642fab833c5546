"""Figures are tested by what is on them, before they become pixels."""

import pytest

from utils.plots import style


@pytest.fixture
def drawn(monkeypatch):
    """Return a function that calls a plot function and returns the figure in place of saving it."""
    figures = []
    monkeypatch.setattr(style, "save", lambda fig, *rest: figures.append(fig))
    yield lambda plot, *args, **options: (plot(*args, **options), figures[-1])[1]
    style.plt.close("all")


@pytest.fixture
def images(monkeypatch):
    """Return a function that calls a plot function and returns the parts, columns and title of its images."""

    def call(plot, *args, **options):
        found = []

        def take(part, columns, path, title="", **rest):
            found.append(((part,), columns, title))

        monkeypatch.setitem(plot.__globals__, "plot_images", take)
        plot(*args, **options)
        return found[-1]

    return call


@pytest.fixture
def texts():
    return lambda artists: [artist.get_text() for artist in artists]
