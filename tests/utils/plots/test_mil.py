"""Figures of bags: what is plotted, for one and several numbers of training bags."""

import numpy as np
import pytest

from utils.plots import mil as plots
from utils.plots.style import LEAST_ERROR, method_color

IMAGES = np.random.default_rng(0).integers(0, 255, (25, 1, 6, 6), dtype=np.uint8)
BAGS = {"lengths": np.array([3, 20, 2]), "keys": np.arange(25) == 1}


def test_bags_are_rows_with_weights_and_framed_targets(images):
    more = {"attention": np.arange(25) / 100, "probabilities": np.array([0.9, 0.1, 0.2])}
    (part,), columns, title = images(plots.plot_bags, IMAGES, BAGS | more, None, "a title")
    assert (columns, title) == (3, "a title")
    assert part.rows == ["positive\nP(pos.) 0.90", "negative\nP(pos.) 0.20"]  # 20 don't fit
    assert part.texts == ["0.00", "0.01", "0.02", "0.23", "0.24", ""]
    assert part.frames == {1: plots.TARGET}
    assert np.array_equal(part.tiles[:5], IMAGES[[0, 1, 2, 23, 24], 0])
    assert np.isnan(part.tiles[5]).all()


def test_bags_that_are_all_too_long_are_cut(images):
    bags = {"lengths": np.array([25]), "keys": np.arange(25) == 20}
    (part,), columns, _ = images(plots.plot_bags, IMAGES, bags, None)
    assert (columns, part.rows, part.texts) == (12, ["positive"], [])
    assert np.array_equal(part.tiles, IMAGES[:12, 0])


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
    assert curves["published"].get_linestyle() == "None"
    assert curves["max"].get_color() == method_color("max")
    assert "2 repeats" in fig.legends[0].get_title().get_text()


def test_a_shortcut_has_a_row_per_method_and_a_point_per_kind_of_test_bags(drawn, texts):
    def tested(method, bags, *means):
        mean = dict(zip(plots.SHORTCUT_TESTS, means, strict=True))
        return {
            "method": method,
            "train_bags": bags,
            "runs": [mean] * 2,
            "mean": mean,
            "std": dict.fromkeys(mean, 0.05),
        }

    cells = [tested("mean", 200, 1.0, 0.8, 0.7, 0.1), tested("max", 200, 0.9, 0.9, 0.9, 0.8)]
    fig = drawn(plots.plot_shortcut, [*cells, tested("max", 50, 0.5, 0.5, 0.5, 0.5)], None)
    (axes,) = fig.axes
    assert texts(axes.get_yticklabels()) == ["mean", "max"]
    points = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() != "None"]
    assert points == [1.0, 0.9, 0.8, 0.9, 0.7, 0.9, 0.1, 0.8]
    assert axes.get_xlabel() == "test AUC, 200 training bags, mean ± 1 SD of 2 repeats"
    assert texts(fig.legends[0].get_texts()) == [label for label, *_ in plots.SHORTCUT_TESTS.values()] + [
        "chance"
    ]
    assert sorted(axes.collections[0].get_segments()[0][:, 0]) == pytest.approx([0.95, 1.0])  # not above 1
