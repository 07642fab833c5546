"""Figures of bags: what is drawn, for one and several numbers of training bags and for every pooling."""

import numpy as np
import pytest

from models.mil import POOLINGS
from utils.plots import mil as plots
from utils.plots.style import method_color

LENGTHS = np.array([3, 2, 20])
IMAGES = np.random.default_rng(0).integers(0, 255, (25, 1, 6, 6), dtype=np.uint8)
KEYS = np.arange(25) == 1
SHARES = np.concatenate([[0.1, 0.7, 0.2], [0.5, 0.5], np.full(20, 0.05)])


def shown(fig):
    return [ax for ax in fig.axes if ax.images]


def test_every_instance_has_its_share_and_a_frame_that_is_the_wider_the_greater_it_is(drawn):
    probabilities = np.array([0.9, 0.2, 0.1])
    fig = drawn(plots.plot_bags, IMAGES, LENGTHS, KEYS, SHARES, probabilities, None, "a title")
    tiles = shown(fig)
    assert [ax.get_title() for ax in tiles] == ["0.10", "0.70", "0.20", "0.50", "0.50"]  # 20 don't fit
    assert np.array_equal(tiles[1].images[0].get_array(), IMAGES[1, 0])
    widths = [ax.spines["left"].get_linewidth() for ax in tiles]
    assert widths[1] == max(widths) > widths[0] == min(widths)
    assert widths[3] == widths[4] == min(widths)  # equal shares: nobody stands out
    assert [ax.title.get_color() == plots.TARGET for ax in tiles] == [False, True, False, False, False]
    captions = [text.get_text() for ax in fig.axes for text in ax.texts]
    assert captions == ["positive\nP(pos.) 0.90", "negative\nP(pos.) 0.20"]
    assert fig.get_suptitle() == "a title"


def test_bags_that_are_all_too_long_are_cut(drawn):
    fig = drawn(plots.plot_bags, IMAGES, LENGTHS, KEYS, SHARES, np.ones(3), None, "", columns=1)
    assert len(shown(fig)) == 3


@pytest.mark.parametrize("method", POOLINGS)
def test_only_attention_is_called_attention(method):
    assert ("attention" in plots.share_name(method)) == ("attention" in method)


def test_plain_bags_frame_the_targets(drawn):
    fig = drawn(plots.plot_plain_bags, IMAGES, LENGTHS, KEYS, None)
    colors = [ax.spines["top"].get_edgecolor() for ax in shown(fig)]
    assert len(colors) == 25
    assert sum(color == colors[1] for color in colors) == 1
    captions = [text.get_text() for ax in fig.axes for text in ax.texts]
    assert captions == ["positive, 3", "negative, 2", "negative, 20"]


def test_the_corner_of_a_roc_curve_has_the_same_range_on_all_pages(drawn):
    good, bad = np.linspace(0.99, 1, len(plots.RATES)).tolist(), plots.RATES.tolist()
    for curves in ({"attention": [good]}, {"max": [bad, good, []], "mean": []}):
        fig = drawn(plots.plot_roc, curves, None, "a title")
        corner = fig.axes[1]
        assert (corner.get_xlim(), corner.get_ylim()) == plots.CORNER
    mean = next(line for line in fig.axes[0].get_lines() if line.get_label() == "max (mean of 2)")
    assert np.allclose(mean.get_ydata(), (np.array(good) + bad) / 2)


def test_a_roc_curve_of_one_class_only_is_empty(drawn):
    assert drawn(plots.plot_roc, {"max": [[]]}, None, "").axes[0].get_legend() is None


def cell(method, bags, aucs):
    std = float(np.std(aucs, ddof=1)) if len(aucs) > 1 else None
    runs = [{"seed": i, "test_auc": auc} for i, auc in enumerate(aucs)]
    mean = {"test_auc": float(np.mean(aucs))}
    roc = np.linspace(0.5, 1, len(plots.RATES)).tolist()
    head = {"method": method, "train_bags": bags, "runs": runs, "mean_test_roc": roc}
    return {**head, "mean": mean, "std": {"test_auc": std}}


def test_one_number_of_bags_is_a_dot_plot_with_a_row_per_method(drawn):
    cells = [cell("attention", 100, [0.9, 0.96]), cell("max", 100, [1.0, 1.0])]
    references = [
        {"name": "published", "points": [[50, 0.8], [100, 0.97]]},
        {"name": "elsewhere", "points": [[50, 0.8]]},
    ]
    (axes,) = drawn(plots.plot_auc, cells, None, references).axes
    assert [x.get_text() for x in axes.get_yticklabels()] == ["attention", "max", "published"]
    points = {(y, round(x, 6)) for line in axes.get_lines() for x, y in zip(*line.get_data(), strict=True)}
    assert {(0.22, 0.1), (0.22, 0.04), (0, 0.07), (1, plots.LEAST_GAP), (2, 0.03)} <= points
    std = np.std([0.9, 0.96], ddof=1)
    bar = axes.collections[0].get_segments()[0]
    assert np.allclose(sorted(bar[:, 0]), [0.07 - std, 0.07 + std])
    assert [text.get_text() for text in axes.texts] == ["0.9300 ± 0.0424", "1.0000 ± 0.0000"]
    assert "100 training bags, 2 repeats" in axes.get_title()
    assert "± 1 SD" in axes.get_title()
    assert axes.xaxis_inverted()  # better to the right
    axes.figure.canvas.draw()
    assert len([x for x in axes.get_xticklabels() if x.get_text()]) > 3
    assert "≥ 0.9999" in [x.get_text() for x in axes.get_xticklabels()]


def test_several_numbers_of_bags_are_curves(drawn):
    cells = [cell(m, n, [a, a + 0.02]) for m, a in (("max", 0.9), ("mean", 0.8)) for n in (50, 200)]
    references = [{"name": "published", "points": [[50, 0.95], [200, 0.98]]}]
    fig = drawn(plots.plot_auc, cells, None, references)
    (axes,) = fig.axes
    curves = {line.get_label(): line for line in axes.get_lines()}
    assert curves["max"].get_ydata().tolist() == pytest.approx([0.09, 0.09])
    assert curves["mean"].get_xdata().tolist() == pytest.approx([50, 200], rel=0.02)
    assert curves["published"].get_ydata().tolist() == pytest.approx([0.05, 0.02])
    assert curves["max"].get_color() == method_color("max")
    texts = [text.get_text() for text in fig.legends[0].get_texts()]
    assert set(texts) == {"max", "mean", "published", "± 1 SD of 2 repeats"}
    assert [x.get_text() for x in axes.get_xticklabels()] == ["50", "200"]
    assert axes.yaxis_inverted()


def test_the_roc_curves_of_a_sweep_are_those_of_the_fewest_bags(drawn):
    cells = [cell("max", 200, [0.9]), cell("max", 50, [0.8]), cell("mean", 50, [0.8])]
    fig = drawn(plots.plot_sweep_roc, cells, None)
    labels = [line.get_label() for line in fig.axes[0].get_lines() if not line.get_label().startswith("_")]
    assert labels == ["max", "mean"]
    assert "50 training bags" in fig.axes[0].get_title()


def test_a_shortcut_has_a_line_per_method_and_a_point_per_kind_of_test_bags(drawn):
    def tested(method, bags, *means):
        mean = dict(zip(plots.SHORTCUT_TESTS, means, strict=True))
        runs = [{"seed": 0, **mean}, {"seed": 1, **mean}]
        std = dict.fromkeys(mean, 0.05)
        return {"method": method, "train_bags": bags, "runs": runs, "mean": mean, "std": std}

    cells = [tested("mean", 200, 1.0, 0.8, 0.7, 0.1), tested("max", 200, 0.9, 0.9, 0.9, 0.8)]
    fig = drawn(plots.plot_shortcut, [*cells, tested("max", 50, 0.5, 0.5, 0.5, 0.5)], None)
    (axes,) = fig.axes
    assert [x.get_text() for x in axes.get_yticklabels()] == ["mean", "max"]
    points = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() != "None"]
    assert points == [1.0, 0.9, 0.8, 0.9, 0.7, 0.9, 0.1, 0.8]
    assert axes.get_xlabel() == "test AUC, 200 training bags, mean ± 1 SD of 2 repeats"
    assert len(fig.legends[0].get_texts()) == len(plots.SHORTCUT_TESTS)
    bar = axes.collections[0].get_segments()[0]
    assert np.allclose(sorted(bar[:, 0]), [0.95, 1.0])  # no AUC is above 1
