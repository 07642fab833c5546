"""Figures of a classifier: what is plotted, for any number of runs, models and classes."""

import numpy as np
import pytest

from utils.plots import cnn as plots
from utils.plots.style import TEST

FASHION = ("T-shirt/top", "Trouser", "Ankle boot")


def test_learning_curves_have_the_test_error_of_every_run_where_its_training_ends(drawn, texts):
    history = [
        {"epoch": e, "seed": s, "train_loss": 2.0 / e, "val_loss": 1.0, "val_accuracy": 1 - 0.1 / e}
        for s in (0, 1)
        for e in (1, 2)
    ]
    records = [{"epochs": 2, "test_accuracy": 0.98}, {"epochs": 1, "test_accuracy": 0.97}, {"epochs": 2}]
    fig = drawn(plots.plot_learning_curves, history, None, records=records)
    loss, error = fig.axes
    assert loss.get_lines()[2].get_ydata().tolist() == [2, 1]
    assert error.get_lines()[2].get_ydata().tolist() == pytest.approx([10, 5])
    crosses = [line for line in error.get_lines() if line.get_marker() == "x"]
    assert [(*x.get_xdata(), *x.get_ydata()) for x in crosses] == [
        (2, pytest.approx(2)),
        (1, pytest.approx(3)),
    ]
    assert {line.get_color() for line in crosses} == {TEST}
    assert texts(fig.legends[0].get_texts())[-1] == "test, every run"
    assert (error.get_yscale(), error.get_title()) == ("log", "error (%, log scale)")


def test_curves_of_bags_show_the_auc_and_need_no_training_auc(drawn):
    history = [{"epoch": e, "train_loss": 1.0, "val_auc": 1 - 0.01 * e} for e in (1, 2, 3)]
    records = [{"epochs": 3, "test_auc": None}]
    _, error = drawn(plots.plot_learning_curves, history, None, "auc", records).axes
    (line,) = error.get_lines()
    assert line.get_ydata().tolist() == pytest.approx([1, 2, 3])
    assert "AUC" in error.get_title()


def test_a_confusion_matrix_has_the_names_of_the_classes(drawn, texts):
    counts = np.array([[90, 3, 0], [0, 80, 5], [1, 0, 70]])
    ax = drawn(plots.plot_confusion, counts, None, "a title", FASHION).axes[0]
    assert texts(ax.get_xticklabels()) == texts(ax.get_yticklabels()) == list(FASHION)
    assert sorted(filter(None, texts(ax.texts))) == sorted(["90", "80", "70", "3", "5", "1"])
    assert ax.collections[0].get_clim() == (0, 5)  # the diagonal has no part in the scale
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("predicted", "true", "a title")


def test_a_confusion_matrix_of_many_classes_has_no_numbers_and_fewer_names(drawn, texts):
    names = [f"class {i}" for i in range(47)]
    ax = drawn(plots.plot_confusion, np.eye(47, dtype=int), None, "", names).axes[0]
    assert not any(texts(ax.texts))
    assert texts(ax.get_xticklabels()) == names[::2]


@pytest.mark.parametrize(
    ("classes", "among", "expected"),
    [
        ("012", True, ["1 → 2\n#2  90%", "0 → 1\n#0  80%", "2 → 0\n#4  60%"]),
        (FASHION, np.arange(5) < 2, ["T-shirt/top\n→ Trouser\n#0  80%"]),
        (FASHION, False, []),
    ],
)
def test_mistakes_are_in_the_order_of_their_confidence(images, classes, among, expected):
    pixels = np.arange(5 * 16, dtype=np.uint8).reshape(5, 1, 4, 4)
    p = np.array([[0.2, 0.8, 0], [1, 0, 0], [0.1, 0, 0.9], [0, 1, 0], [0.6, 0.2, 0.2]])
    (part,), _, title = images(
        plots.plot_mistakes, pixels, np.array([0, 0, 1, 1, 2]), p, None, classes, among
    )
    assert part.texts == expected
    assert title == (plots.MISTAKES if expected else "no mistakes")
    if among is True:
        assert np.array_equal(part.tiles, pixels[[2, 0, 4], 0])


def test_templates_share_one_scale_and_filters_have_one_each(images):
    weights = np.random.default_rng(0).normal(size=(30, 5, 5)) * np.arange(30)[:, None, None]
    (part,), _, title = images(plots.plot_filters, weights[:3], None, FASHION)
    assert part.texts == FASHION
    assert np.allclose(part.tiles, weights[:3] / np.abs(weights[:3]).max())
    assert "template" in title
    (part,), *_ = images(plots.plot_filters, weights, None, count=20)
    assert np.abs(part.tiles).max((1, 2)).tolist() == [0] + [1] * 19
