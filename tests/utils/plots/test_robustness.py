"""Figures of robustness: every error, every corruption and every disputed label is where it belongs."""

import numpy as np

from data.robustness import CORRUPTIONS, LEVELS
from utils.plots import robustness as plots


def test_every_error_is_a_cell_of_its_corruption(drawn):
    errors = {name: np.full((len(CORRUPTIONS), LEVELS), share) for name, share in (("a", 0.5), ("b", 0.001))}
    errors["a"][2, 4] = 0.0449
    fig = drawn(plots.plot_errors, errors, None)
    assert [ax.get_title().partition(" ")[0] for ax in fig.axes] == list(CORRUPTIONS)
    texts = [text.get_text() for text in fig.axes[2].texts]
    assert texts == ["50", "50", "50", "50", "4.5", *["0.1"] * 5]
    assert [x.get_text() for x in fig.axes[0].get_yticklabels()] == ["a", "b"]
    assert [x.get_text() for x in fig.axes[2].get_xticklabels()] == ["0.1", "0.2", "0.3", "0.4", "0.5"]
    colors = fig.axes[2].collections[0].get_array().flatten()
    assert np.allclose(colors[[0, 4, 5]], [0.5, 0.0449, plots.LEAST])  # a log scale has no zero


def test_examples_have_a_row_per_corruption(drawn):
    images = np.zeros((len(CORRUPTIONS), LEVELS + 1, 4, 4), np.uint8)
    images[5, 1] = 200
    left, right = drawn(plots.plot_examples, images, None).axes
    names = [x.get_text().partition("\n")[0] for ax in (left, right) for x in ax.get_yticklabels()]
    assert names == list(CORRUPTIONS)
    assert [x.get_text() for x in left.get_xticklabels()] == ["clean", "1", "2", "3", "4", "5"]
    shown = right.images[0].get_array()
    assert shown[2:6, 8:12].min() == 200  # the first row on the right, the second column
    assert left.images[0].get_array().max() == 0


def test_a_label_that_is_in_both_parts_has_a_frame(drawn):
    digit = np.zeros((4, 4), np.uint8)
    parts = [
        ("first", [(digit, "label 5", True), (digit, "label 6", False)]),
        ("second", [(digit, "7", False)] * 3),
    ]
    fig = drawn(plots.plot_disputed_labels, parts, None, columns=2)
    shown = [ax for ax in fig.axes if ax.images]
    assert [ax.get_title() for ax in shown] == ["label 5", "label 6", "7", "7", "7"]
    widths = [ax.spines["left"].get_linewidth() for ax in shown]
    assert widths[0] > widths[1] == widths[4]
    assert [sub.get_suptitle() for sub in fig.subfigs] == ["first", "second"]
