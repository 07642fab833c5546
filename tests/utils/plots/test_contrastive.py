"""Figures of representations: what is plotted, for any image size and any number of classes."""

import numpy as np
from matplotlib.colors import to_hex

from utils.plots import contrastive as plots
from utils.plots.style import class_colors


def test_views_of_an_image_are_above_one_another(images):
    views = np.arange(4)[:, None, None, None] + np.array([0.0, 10])[:, None, None] * np.ones((2, 5, 7))
    (part,), columns, _ = images(plots.plot_views, views, None, columns=2)
    assert (columns, part.tiles[3, :5].min(), part.tiles[3, 6:].max()) == (2, 3, 13)
    assert np.isnan(part.tiles[:, 5]).all()


def test_a_map_names_its_classes_at_their_medians_and_marks_unseen_ones(drawn, texts):
    part = {"title": "t", "points": [[0.0, 0], [1, 2], [9, 2], [5, 5]], "labels": [0, 0, 0, 1]}
    fig = drawn(plots.plot_maps, [part, part], None, classes=("Shirt", "Bag", "Coat"))
    ax, _ = fig.axes
    assert {text.get_text(): text.get_position() for text in ax.texts} == {"Shirt": (1, 2), "Bag": (5, 5)}
    assert ax.collections[0].get_offsets().tolist() == part["points"]
    colors = [color.lower() for color in class_colors(3)[[0, 0, 0, 1]]]
    assert [to_hex(color) for color in ax.collections[0].get_facecolors()] == colors
    assert len(set(class_colors(47))) == 47
    fig = drawn(plots.plot_maps, [{**part, "seen": [0]}], None)
    assert texts(fig.legends[0].get_texts()) == ["trained on", "unseen"]
    assert fig.axes[0].collections[1].get_offsets().tolist() == [[5, 5]]
    assert texts(fig.axes[0].texts) == ["0", "1"]
