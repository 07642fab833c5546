"""Figures of robustness: every error, every corruption and every disputed label is where it belongs."""

import numpy as np

from data.robustness import CORRUPTIONS, LEVELS
from utils.plots import robustness as plots


def test_every_error_is_a_cell_of_its_corruption(drawn, texts):
    errors = {name: np.full((len(CORRUPTIONS), LEVELS), share) for name, share in (("a", 0.5), ("b", 0.001))}
    errors["a"][2, 4] = 0.0449
    fig = drawn(plots.plot_errors, errors, None)
    assert [ax.get_title().partition(" ")[0] for ax in fig.axes] == list(CORRUPTIONS)
    assert texts(fig.axes[2].texts) == ["50", "50", "50", "50", "4.5", *["0.1"] * 5]
    colors = fig.axes[2].collections[0].get_array().flatten()
    assert np.allclose(colors[[0, 4, 5]], [0.5, 0.0449, plots.LEAST])  # a log scale has no zero


def test_digits_have_a_text_and_maybe_a_frame(images):
    digit = np.zeros((4, 4), np.uint8)
    tiles = [(digit, "label 6", False), (digit, "label 5", True)]
    (part,), columns, title = images(plots.plot_labels, tiles, None, "a title")
    assert (columns, title) == (8, "a title")
    assert (part.texts, part.frames) == (("label 6", "label 5"), {1: plots.FRAMED})
