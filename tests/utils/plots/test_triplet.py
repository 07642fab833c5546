"""The figure of metric learning: error against digits and against images."""

import numpy as np

from utils.plots import triplet as plots


def test_error_against_data_has_a_panel_for_digits_and_one_for_images(drawn, texts):
    name = "test_10way_1shot_accuracy"
    cells = [(2, 100, [0.5, 0.7]), (3, 100, [0.8]), (3, 10, [0.9])]
    cells = [
        {"digits": d, "images": n, "runs": [{name: a, "seed": 0} for a in shares]} for d, n, shares in cells
    ]
    left, right = drawn(plots.plot_accuracy, cells, None).axes
    assert [ax.get_xscale() for ax in (left, right)] == ["linear", "log"]
    lines = [next(line for line in ax.get_lines() if "shot" in line.get_label()) for ax in (left, right)]
    assert np.allclose(lines[0].get_xydata(), [[2, 40], [3, 20]])
    assert np.allclose(lines[1].get_xydata(), [[10, 10], [100, 20]])
    assert texts(right.texts) == ["10-way\n1-shot"]
