"""Figures of metric learning: what is drawn, with and without unseen classes."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from utils.plots import triplet as plots
from utils.plots.style import PALETTE, class_colors


def test_curves_show_what_collapses_and_average_the_trainings(drawn):
    keys = ("loss", "active_triplets", "positive_distance", "negative_distance", "embedding_norm")
    history = [
        {"seed": s, "epoch": e, **{f"train_{key}": 1.0 / (e + s) for key in keys}}
        for s in (0, 1)
        for e in (1, 2)
    ]
    history[1]["val_precision_at_1"] = history[3]["val_precision_at_1"] = 0.75
    loss, share, distance, norm = drawn(plots.plot_embedding_curves, history, None).axes
    assert loss.get_lines()[-1].get_ydata().tolist() == pytest.approx([0.75, 5 / 12])
    labels = share.get_legend_handles_labels()[1]
    assert labels == ["active triplets, training (mean of 2)", "P@1, validation (mean of 2)"]
    assert share.get_lines()[-1].get_xdata().tolist() == [2]
    assert share.get_lines()[-1].get_ydata().tolist() == [75]
    assert len(distance.get_legend_handles_labels()[1]) == 2
    assert norm.get_ylim()[0] == 0


def test_a_history_without_validation_is_drawn_without_it(drawn):
    fig = drawn(plots.plot_embedding_curves, [{"epoch": 1, "train_loss": 1.0}], None)
    assert [len(ax.get_lines()) for ax in fig.axes] == [1, 0, 0, 0]


def test_a_map_marks_seen_and_unseen_classes(drawn):
    points = np.array([[0, 0], [2, 2], [9, 2], [5, 5]], dtype=float)
    fig = drawn(plots.plot_embedding_map, points, np.array([0, 0, 1, 1]), [0], ("a", "b"), None, "title")
    (ax,) = fig.axes
    names = {text.get_text(): text for text in ax.texts}
    assert names["a"].get_position() == (1, 1)
    assert names["b"].get_position() == (7, 3.5)
    frames = [type(names[name].get_bbox_patch().get_boxstyle()).__name__ for name in ("a", "b")]
    assert frames == ["Circle", "Square"]
    assert len(ax.get_legend_handles_labels()[1]) == 2
    fig = drawn(plots.plot_embedding_map, points, np.array([0, 0, 1, 1]), [0, 1], ("a", "b"), None, "title")
    assert fig.axes[0].get_legend() is None


def pairs(groups):
    distances, same = np.linspace(0, 1, 40), np.arange(40) < 20
    return {group: (distances, same, (np.array([0.01, 1]), np.array([0.5, 1]))) for group in groups}


@pytest.mark.parametrize(("groups", "panels"), [(("",), 1), (("", "seen_", "unseen_"), 2)])
def test_histograms_have_a_panel_per_group_and_a_roc(drawn, groups, panels):
    *shown, roc = drawn(plots.plot_distances, pairs(groups), 0.4, None).axes
    assert len(shown) == panels
    for ax in shown:
        threshold = next(line for line in ax.get_lines() if line.get_label() == "threshold")
        assert threshold.get_xdata()[0] == 0.4
    assert len(roc.get_lines()) == len(groups)
    assert roc.get_xscale() == "log"


def test_support_rows_frame_unseen_classes_and_wrong_neighbours(drawn):
    support, others = np.zeros((2, 5, 5)), np.ones((2, 3, 5, 5))
    wrong = np.array([[False, False, True], [False, False, False]])
    arguments = (support, others, others, wrong, np.array([False, True]), None)
    fig = drawn(plots.plot_support, *arguments)
    frames = [(p.get_xy(), to_hex(p.get_edgecolor())) for p in fig.axes[0].patches]
    cell = 5 + 4
    expected = [((2, 2), PALETTE[0].lower()), ((2, cell + 2), PALETTE[1].lower())]
    assert frames == [*expected, ((3 * cell + 2, 2), "#000000")]
    assert [text.get_text() for text in fig.axes[0].texts][0] == "support"


def test_accuracy_against_data_has_means_and_deviations(drawn):
    curves = [{"label": "1-shot", "points": [[10, [0.5, 0.7]], [100, [0.8]]]}]
    panels = [
        {"title": "t", "xlabel": "images", "log": True, "curves": curves},
        {"title": "t", "xlabel": "digits", "log": False, "curves": curves},
    ]
    fig = drawn(plots.plot_accuracy, panels, None)
    assert [ax.get_xscale() for ax in fig.axes] == ["log", "linear"]
    for ax in fig.axes:
        assert ax.get_lines()[0].get_ydata().tolist() == pytest.approx([60, 80])
        low, high = ax.collections[0].get_segments()[0][:, 1]
        assert high - low == pytest.approx(2 * 100 * np.std([0.5, 0.7], ddof=1))
    assert to_hex(fig.axes[0].get_lines()[0].get_color()) == class_colors(1)[0].lower()
