"""Figures of representations: what is plotted, for any image size and any number of classes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from utils.plots import contrastive as plots
from utils.plots.style import PALETTE, class_colors


def test_curves_show_what_the_history_has(drawn, texts):
    history = [{"epoch": e, "train_loss": 1.0 / e, "train_contrastive_accuracy": 0.75} for e in (1, 2, 3)]
    for line, accuracy in zip(history[::2], (0.98, 0.99), strict=True):  # not after every epoch
        line["val_knn_accuracy"] = accuracy
    fig = drawn(plots.plot_contrastive_curves, history, np.log(511), None)
    loss, error, task = fig.axes
    assert error.get_lines()[0].get_xydata().tolist() == [[1, pytest.approx(2)], [3, pytest.approx(1)]]
    assert task.get_lines()[0].get_ydata().tolist() == [75] * 3
    assert loss.get_lines()[1].get_ydata()[0] == pytest.approx(np.log(511))
    assert texts(fig.legends[0].get_texts()) == ["training", "chance", "validation"]
    history[0] |= {"train_batch_accuracy": 0.5, "train_alignment": 0.1}
    fig = drawn(plots.plot_contrastive_curves, history, 8.3, None)
    assert [len(ax.get_lines()) for ax in fig.axes] == [2, 1, 2, 1]


def test_views_of_an_image_are_above_one_another(images):
    views = np.arange(4)[:, None, None, None] + np.array([0.0, 10.0])[:, None, None] * np.ones((2, 5, 7))
    (part,), columns, _ = images(plots.plot_views, views, None, columns=2)
    assert columns == 2
    assert (part.tiles[3, :5] == 3).all()
    assert np.isnan(part.tiles[:, 5]).all()
    assert (part.tiles[3, 6:] == 13).all()


def test_an_encoder_has_neighbours_with_framed_mistakes_and_a_map(drawn, images, tmp_path):
    data = [
        SimpleNamespace(images=torch.arange(4)[:, None, None, None], labels=torch.tensor([0, 0, 1, 1]))
    ] * 2
    data[1].classes = ("cat", "dog")
    arrays = {"queries": np.array([0, 2]), "nearest": np.array([[1, 3], [3, 2]])}
    columns = {
        "digit": np.array([0, 1]),
        **{k: np.array([1.0, 2]) for k in ("x", "y", "pixels_x", "pixels_y")},
    }
    run = SimpleNamespace(
        path=tmp_path.joinpath, write_text=lambda name, text: (tmp_path / name).write_text(text)
    )
    maps = []
    plot_maps, plots.plot_maps = plots.plot_maps, lambda *args, **kwargs: maps.append((args, kwargs))
    try:
        (part,), count, _ = images(plots.plot_encoder, run, data, arrays, columns, "features")
    finally:
        plots.plot_maps = plot_maps
    assert part.tiles[..., 0, 0].tolist() == [[0, 1, 3], [2, 3, 2]]
    assert (count, part.frames) == (3, {0: "black", 3: "black", 2: PALETTE[1]})
    assert (tmp_path / "map.csv").read_text().splitlines()[1] == "0,1.0,1.0,1.0,1.0"
    assert [entry["title"] for entry in maps[0][0][0]] == ["t-SNE of raw pixels", "t-SNE of features"]


def test_a_map_names_its_classes_at_their_medians_and_marks_unseen_ones(drawn, texts):
    part = {"title": "t", "points": [[0.0, 0], [1, 2], [9, 2], [5, 5]], "labels": [0, 0, 0, 1]}
    fig = drawn(plots.plot_maps, [part, part], None, classes=("Shirt", "Bag", "Coat"))
    assert len(fig.axes) == 2
    ax = fig.axes[0]
    assert {text.get_text(): text.get_position() for text in ax.texts} == {"Shirt": (1, 2), "Bag": (5, 5)}
    assert ax.collections[0].get_offsets().tolist() == part["points"]
    colors = class_colors(3)[[0, 0, 0, 1]]
    assert [to_hex(color) for color in ax.collections[0].get_facecolors()] == [c.lower() for c in colors]
    assert not fig.legends
    fig = drawn(plots.plot_maps, [{**part, "seen": [0]}], None)
    assert texts(fig.legends[0].get_texts()) == ["trained on", "unseen"]
    assert fig.axes[0].collections[1].get_offsets().tolist() == [[5, 5]]
    assert texts(fig.axes[0].texts) == ["0", "1"]
