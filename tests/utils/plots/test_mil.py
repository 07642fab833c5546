"""Figures of bags: what is plotted, for one and several numbers of training bags."""

import numpy as np

from utils.plots import mil as plots
from utils.plots.style import LEAST_ERROR


def test_bags_are_rows_with_weights_and_framed_targets(images):
    pixels = np.arange(25)[:, None, None, None] * np.ones((1, 6, 6))
    bags = {"lengths": np.array([3, 20, 2]), "keys": np.arange(25) == 1}
    more = {"attention": np.arange(25) / 100, "probabilities": np.array([0.9, 0.1, 0.2])}
    (part,), columns, title = images(plots.plot_bags, pixels, bags | more, None, "a title")
    assert (columns, title, part.frames) == (3, "a title", {1: plots.TARGET})
    assert part.rows == ["positive\nP(pos.) 0.90", "negative\nP(pos.) 0.20"]  # 20 don't fit
    assert part.texts == ["0.00", "0.01", "0.02", "0.23", "0.24", ""]
    assert np.array_equal(part.tiles[:, 0, 0], [0, 1, 2, 23, 24, np.nan], equal_nan=True)
    bags = {"lengths": np.array([25]), "keys": np.ones(25, bool)}
    (part,), *_ = images(plots.plot_bags, pixels, bags, None)
    assert (len(part.tiles), part.rows, part.texts) == (12, ["positive"], [])  # cut: longer than a row


def cell(method, bags, aucs):
    runs = [{"test_auc": auc} for auc in aucs]
    return {"method": method, "train_bags": bags, "runs": runs, "mean": {"test_auc": float(np.mean(aucs))}}


REFERENCES = [
    {"name": "published", "points": [[50, 0.95], [100, 0.97]]},
    {"name": "no", "points": [[50, 0.8]]},
]


def test_one_number_of_bags_is_a_row_for_each_method(drawn, texts):
    cells = [cell("attention", 100, [0.9, 0.96]), cell("max", 100, [1.0, 1.0])]
    (axes,) = drawn(plots.plot_auc, cells, None, REFERENCES).axes
    assert texts(axes.get_yticklabels()) == ["attention", "max", "published"]
    points = {(round(x, 6), y) for line in axes.get_lines() for x, y in line.get_xydata()}
    assert points == {(10, 0), (4, 0), (7, 0), (LEAST_ERROR, 1), (3, 2)}
    assert axes.get_title() == "100 training bags, 2 repeats"


def test_several_numbers_of_bags_are_curves(drawn):
    cells = [cell(m, n, [a, a + 0.02]) for m, a in (("max", 0.9), ("mean", 0.8)) for n in (100, 50)]
    fig = drawn(plots.plot_auc, cells[1:], None, REFERENCES)
    curves = {line.get_label(): line for line in fig.axes[0].get_lines()}
    assert list(curves) == ["max", "mean", "published", "no"]
    assert np.allclose(curves["mean"].get_xydata(), [[50, 19], [100, 19]])
    assert np.allclose(curves["published"].get_xydata(), [[50, 5], [100, 3]])


def test_a_shortcut_has_a_row_per_method_and_a_point_per_kind_of_test_bags(drawn, texts):
    cells = []
    for method, bags, *means in (
        ("mean", 9, 1, 0.8, 0.7, 0.1),
        ("max", 9, 0.9, 0.9, 0.9, 0.8),
        ("old", 5, 1),
    ):
        mean = dict(zip(plots.SHORTCUT_TESTS, means, strict=False))
        cells.append({"method": method, "train_bags": bags, "runs": [mean] * 2, "mean": mean})
        cells[-1]["std"] = dict.fromkeys(mean, 0.05)
    (axes,) = drawn(plots.plot_shortcut, cells, None).axes
    assert texts(axes.get_yticklabels()) == ["mean", "max"]
    points = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() != "None"]
    assert points == [1, 0.9, 0.8, 0.9, 0.7, 0.9, 0.1, 0.8]
    assert axes.get_xlabel() == "test AUC, 9 training bags, mean ± 1 SD of 2 repeats"
    assert np.allclose(axes.collections[0].get_segments()[0][:, 0], [0.95, 1])  # not above 1
