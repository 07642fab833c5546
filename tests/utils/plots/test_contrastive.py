"""Figures of representations: what is drawn, for any image size and any number of classes."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from utils.plots import contrastive as plots
from utils.plots.style import PALETTE, class_colors


def contrastive_history(seeds=(0, 1)):
    keys = ("train_loss", "train_contrastive_accuracy", "train_alignment", "train_uniformity")
    lines = [
        {"seed": s, "epoch": e, **dict.fromkeys(keys, 1.0 / (e + s)), "val_knn_accuracy": 0.98 + 0.001 * e}
        for s in seeds
        for e in (1, 2, 3)
    ]
    for line in lines:
        if line["epoch"] == 2:  # k-NN is not scored after every epoch
            del line["val_knn_accuracy"]
    return lines


def test_contrastive_curves_give_knn_an_axis_of_its_own(drawn):
    fig = drawn(plots.plot_contrastive_curves, contrastive_history(), np.log(511), None)
    loss, error, pairs, geometry = fig.axes
    mean = error.get_lines()[-1]
    assert mean.get_xdata().tolist() == [1, 3]
    assert mean.get_ydata().tolist() == pytest.approx([1.9, 1.7])
    low, high = error.get_ylim()
    assert high - low < 0.5  # so that a change of tenths can be seen
    assert loss.get_lines()[2].get_ydata().tolist() == pytest.approx([0.75, 5 / 12, 7 / 24])
    chance = next(line for line in loss.get_lines() if line.get_label() == "chance")
    assert chance.get_ydata()[0] == pytest.approx(np.log(511))
    assert pairs.get_lines()[-1].get_ydata()[0] == pytest.approx(75)
    labels = geometry.get_legend_handles_labels()[1]
    assert labels == ["alignment (mean of 2)", "uniformity (mean of 2)"]


def test_a_history_without_some_numbers_is_drawn_without_them(drawn):
    history = [{"epoch": e, "train_loss": 1.0} for e in (1, 2)]
    fig = drawn(plots.plot_contrastive_curves, history, 5.0, None)
    assert [len(ax.get_lines()) for ax in fig.axes] == [2, 0, 0, 0]


def test_views_of_an_image_are_above_one_another(drawn):
    views = np.zeros((4, 2, 5, 7)) + np.arange(4)[:, None, None, None]
    views[:, 1] += 10
    fig = drawn(plots.plot_views, views, None, columns=2)
    image = fig.axes[0].images[0].get_array()
    first_row, second_row = image[3:8], image[11:16]
    assert set(np.unique(first_row[:, 3:10])) == {0}
    assert set(np.unique(second_row[:, 3:10])) == {10}
    assert set(np.unique(image[19:24, 13:20])) == {3}


def test_queries_and_neighbours_of_another_class_are_framed(drawn):
    queries, neighbours = np.zeros((2, 5, 7)), np.ones((2, 3, 5, 7))
    labels, others = np.array([0, 1]), np.array([[0, 0, 1], [1, 1, 1]])
    fig = drawn(plots.plot_neighbours, queries, neighbours, labels, others, None)
    frames = [(p.get_xy(), to_hex(p.get_edgecolor())) for p in fig.axes[0].patches]
    wrong = ((3 * (7 + 4) + 4 - 1.5, 2.5), PALETTE[1].lower())
    assert frames == [((2.5, 2.5), "#000000"), ((2.5, 5 + 4 + 2.5), "#000000"), wrong]
    assert {(p.get_width(), p.get_height()) for p in fig.axes[0].patches} == {(9, 7)}


def test_a_map_names_its_classes_at_their_medians(drawn):
    points = np.array([[0, 0], [1, 2], [9, 2], [5, 5]], dtype=float)
    maps = [{"title": "pixels", "points": points, "labels": [0, 0, 0, 1]}]
    fig = drawn(plots.plot_maps, maps * 2, None, classes=("Shirt", "Bag", "Coat"))
    assert len(fig.axes) == 2
    texts = {text.get_text(): text.get_position() for text in fig.axes[0].texts}
    assert texts == {"Shirt": (1, 2), "Bag": (5, 5)}
    dots = fig.axes[0].collections[0]
    assert np.array_equal(dots.get_offsets(), points)
    assert [to_hex(c) for c in dots.get_facecolors()] == [
        c.lower() for c in np.array(class_colors(3))[[0, 0, 0, 1]]
    ]


def test_a_map_of_many_classes_without_names_has_their_numbers(drawn):
    labels = np.arange(47)
    maps = [{"title": "", "points": np.stack([labels, labels], 1), "labels": labels}]
    axes = drawn(plots.plot_maps, maps, None).axes[0]
    assert [text.get_text() for text in axes.texts] == [str(i) for i in range(47)]
    assert len({to_hex(c) for c in axes.collections[0].get_facecolors()}) == 47


def test_error_against_labels_has_a_named_band_of_one_deviation(drawn):
    curve = {"label": "probe", "color": 0, "style": "-", "points": [[1, [0.8, 0.9]], [10, [0.95]]]}
    fig = drawn(plots.plot_error_against_labels, [curve], None)
    (axes,) = fig.axes
    assert axes.get_lines()[0].get_ydata().tolist() == pytest.approx([15, 5])
    corners = axes.collections[0].get_paths()[0].vertices
    std = 100 * np.std([0.8, 0.9], ddof=1)
    at_one = corners[corners[:, 0] == 1][:, 1]
    assert (at_one.min(), at_one.max()) == (pytest.approx(15 - std), pytest.approx(15 + std))
    assert axes.get_legend_handles_labels()[1] == ["probe", "± 1 SD of the draws"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "10"]


def test_a_deviation_beyond_the_mean_ends_where_the_log_axis_can_show_it(drawn):
    curve = {"label": "probe", "color": 0, "style": "-", "points": [[1, [0.9, 1.0]], [10, [0.99]]]}
    axes = drawn(plots.plot_error_against_labels, [curve], None).axes[0]
    assert axes.collections[0].get_paths()[0].vertices[:, 1].min() == plots.LEAST_BAND
