"""Figures of representations: what is plotted, for any image size and any number of classes."""

import numpy as np
from matplotlib.colors import to_hex

from utils.plots import contrastive as plots
from utils.plots.style import class_colors


def test_curves_show_what_the_history_has(drawn, texts):
    history = [{"epoch": e, "train_loss": 1.0 / e, "train_contrastive_accuracy": 0.75} for e in (1, 2, 3)]
    history[2]["val_knn_accuracy"] = 0.98  # not after every epoch
    fig = drawn(plots.plot_contrastive_curves, history, 6.5, None)
    loss, error, task = fig.axes
    assert np.allclose(error.get_lines()[0].get_xydata(), [[3, 2]])
    assert task.get_lines()[0].get_ydata().tolist() == [75] * 3
    assert loss.get_lines()[1].get_ydata()[0] == 6.5
    assert texts(fig.legends[0].get_texts()) == ["training", "chance", "validation"]
    history[0] |= {"train_batch_accuracy": 0.5, "train_alignment": 0.1}
    fig = drawn(plots.plot_contrastive_curves, history, 8.3, None)
    assert [len(ax.get_lines()) for ax in fig.axes] == [2, 1, 2, 1]


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
