"""Figures of metric learning: what is plotted, with and without unseen classes."""

import numpy as np

from utils.plots import triplet as plots


def test_curves_show_what_collapses(drawn, texts):
    keys = ("loss", "active_triplets", "positive_distance", "negative_distance", "embedding_norm")
    history = [{"epoch": e, **{f"train_{key}": 1.0 / e for key in keys}} for e in (1, 2)]
    history[1]["val_precision_at_1"] = 0.75
    fig = drawn(plots.plot_embedding_curves, history, None)
    _, share, distance, norm = fig.axes
    assert [line.get_ydata().tolist() for line in share.get_lines()] == [[100, 50], [75]]
    assert len(distance.get_lines()) == 2
    assert norm.get_lines()[0].get_ydata().tolist() == [1, 0.5]
    assert texts(fig.legends[0].get_texts())[1:3] == ["training: active triplets", "validation: P@1"]


def test_error_against_data_has_a_panel_for_each_series(drawn):
    curves = [{"label": "1-shot", "points": [[10, [0.5, 0.7]], [100, [0.8]]]}]
    panels = [{"title": "t", "xlabel": "images", "log": log, "curves": curves} for log in (True, False)]
    fig = drawn(plots.plot_accuracy, panels, None)
    assert [ax.get_xscale() for ax in fig.axes] == ["log", "linear"]
    assert all(np.allclose(ax.get_lines()[0].get_ydata(), [40, 20]) for ax in fig.axes)
