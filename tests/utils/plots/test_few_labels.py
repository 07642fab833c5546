"""Figures of the few-label study: error against labels, single draws, the worst draw."""

import numpy as np

from utils.plots import few_labels as plots

CELLS = [
    {"method": method, "labels": labels, "runs": [{"test_accuracy": share - 0.1}, {"test_accuracy": share}]}
    for method, share in (("simclr-self_trained", 0.9), ("pixels-knn", 0.7))
    for labels in (100, 0, 10)
]


def test_the_error_against_labels_goes_from_the_worst_to_the_best_method(drawn, texts):
    fig = drawn(plots.plot_error_against_labels, CELLS, None)
    assert texts(fig.legends[0].get_texts()) == ["pixels, knn", "simclr, self trained"]
    assert np.allclose(fig.axes[0].get_lines()[0].get_xydata(), [[10, 35], [100, 35]])
    assert fig.axes[0].collections[0].get_paths()[0].vertices[:, 1].max() == 40  # the worst draw


def test_single_draws_are_dots(drawn, texts):
    (axes,) = drawn(plots.plot_draws, CELLS[::3], None).axes
    assert texts(axes.get_yticklabels()) == ["pixels, knn", "simclr, self trained"]
    assert np.allclose(axes.get_lines()[2].get_xdata(), [20, 10])
    assert axes.get_title() == "100 labels"


def test_the_worst_draw_is_what_was_given_and_what_is_wrong(images):
    digits = np.zeros((20, 28, 28), np.uint8)
    arguments = (digits, digits[:3], np.array([1, 2, 3]), np.array([7, 8, 9]), "the worst", None)
    (given, wrong), _, title = images(plots.plot_worst_draw, *arguments)
    assert (len(given.tiles), wrong.texts, title) == (20, ["1→7", "2→8", "3→9"], "the worst")
