"""Figures of bags: what is plotted, for one and several numbers of training bags."""

import numpy as np

from utils.plots import mil as plots


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


def test_numbers_of_bags_are_curves(drawn):
    cells = [cell(m, n, [a, a + 0.02]) for m, a in (("max", 0.9), ("mean", 0.8)) for n in (100, 50)]
    (axes,) = drawn(plots.plot_auc, cells[1:], None).axes
    curves = {line.get_label(): line for line in axes.get_lines()}
    assert np.allclose(curves["mean"].get_xydata(), [[50, 19], [100, 19]])
    assert np.allclose(curves["max"].get_xydata(), [[50, 9]])


def test_a_shortcut_has_a_row_per_method_and_a_point_per_kind_of_test_bags(drawn, texts):
    cells = []
    for method, bags, *means in (
        ("mean", 9, 1, 0.8, 0.7, 0.1),
        ("max", 9, 0.9, 0.9, 0.9, 0.8),
        ("old", 5, 1),
    ):
        runs = [[mean + step for mean in means] for step in (-0.05, 0.05)]
        runs = [dict(zip(plots.SHORTCUT_TESTS, values, strict=False)) for values in runs]
        cells.append({"method": method, "train_bags": bags, "runs": runs})
    (axes,) = drawn(plots.plot_shortcut, cells, None).axes
    assert texts(axes.get_yticklabels()) == ["mean", "max"]
    points = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() != "None"]
    assert np.allclose(points, [1, 0.9, 0.8, 0.9, 0.7, 0.9, 0.1, 0.8])
    assert axes.get_xlabel() == "test AUC, mean ± 1 SD of 2 repeats, 9 training bags"
    assert np.allclose(axes.collections[0].get_segments()[0][:, 0], [1 - 0.05 * 2**0.5, 1])  # not above 1
