"""Figures are tested by what is on them, before they become pixels."""

import sys

import matplotlib.pyplot as plt
import pytest


@pytest.fixture
def drawn(monkeypatch):
    """Return a function that calls a figure function and returns the figure in place of saving it."""

    def draw(function, *args, **kwargs):
        figures = []
        module = sys.modules[function.__module__]
        monkeypatch.setattr(module, "save", lambda fig, *rest: figures.append(fig))
        function(*args, **kwargs)
        assert len(figures) == 1
        return figures[0]

    yield draw
    plt.close("all")
