"""Figures of a classifier: what is drawn, for any number of runs, models and classes."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from utils.plots import cnn as plots
from utils.plots.style import TEST, method_color

FASHION = ("T-shirt/top", "Trouser", "Ankle boot")


def line(epoch, value, **more):
    """A line of history.jsonl whose losses are `value`, and whose accuracies 1 - value / 10."""
    losses = {"train_loss": value, "val_loss": value + 1}
    accuracies = {"train_accuracy": 1 - value / 10, "val_accuracy": 1 - value / 20}
    return {"epoch": epoch, **losses, **accuracies, "lr": 0.1 / epoch, **more}


def lines(axes, color, width=None):
    """The y values of all lines of a colour; of the means only, with their width."""
    found = [x for x in axes.get_lines() if to_hex(x.get_color()) == color.lower()]
    return [x.get_ydata().tolist() for x in found if width is None or x.get_linewidth() >= width]


def texts(fig):
    return [text.get_text() for text in fig.legends[0].get_texts()]


def test_curves_are_the_runs_about_their_mean(drawn):
    history = [line(e, v + s, seed=s) for s in (0, 2) for e, v in ((1, 3.0), (2, 1.0), (3, 0.5))]
    fig = drawn(plots.plot_learning_curves, history, None)
    loss, error, rate = fig.axes
    assert lines(loss, plots.TRAINING) == [[3, 1, 0.5], [5, 3, 2.5], [4, 2, 1.5]]
    assert lines(loss, plots.VALIDATION, 1) == [[5, 3, 2.5]]
    assert lines(error, plots.TRAINING, 1) == [pytest.approx([40, 20, 15])]
    assert lines(error, plots.VALIDATION, 1) == [pytest.approx([20, 10, 7.5])]
    assert rate.get_lines()[-1].get_ydata().tolist() == pytest.approx([0.1, 0.05, 0.1 / 3])
    assert texts(fig) == ["training (mean of 2)", "validation (mean of 2)"]
    assert error.get_yscale() == "log"


def test_several_models_have_a_mean_each_though_they_end_at_different_epochs(drawn):
    history = [line(e, 4.0 + s, seed=s, model="linear") for s in (0, 2) for e in (1, 2, 3, 4)]
    history += [line(e, 1.0, seed=1, model="lenet") for e in (1, 2)]
    fig = drawn(plots.plot_learning_curves, history, None)
    loss = fig.axes[0]
    assert lines(loss, method_color("linear"), 1) == [[5] * 4, [6] * 4]  # training, validation
    assert lines(loss, method_color("lenet"), 1) == [[1] * 2, [2] * 2]
    assert texts(fig) == ["linear (mean of 2)", "lenet", "training", "validation"]
    styles = [x.get_linestyle() for x in loss.get_lines() if x.get_linewidth() >= 1]
    assert styles == ["--", "-"] * 2


def test_a_training_of_one_epoch_is_a_curve_of_its_steps(drawn):
    names = ("train_loss", "train_accuracy", "lr")
    steps = {"step": [10, 20, 40], **{name: [0.9, 0.5, 0.4] for name in names}}
    fig = drawn(plots.plot_learning_curves, [line(1, 3.0, steps=steps)], None)
    loss, error, rate = fig.axes
    training, validation = loss.get_lines()
    assert training.get_xdata().tolist() == [0.25, 0.5, 1]
    assert training.get_ydata().tolist() == [0.9, 0.5, 0.4]
    assert (validation.get_xdata().tolist(), validation.get_marker()) == ([1], "o")
    assert error.get_lines()[0].get_ydata().tolist() == pytest.approx([10, 50, 60])
    assert rate.get_lines()[0].get_ydata().tolist() == [0.9, 0.5, 0.4]


def test_the_test_error_of_every_run_is_where_its_training_ends(drawn):
    history = [line(e, 1.0, seed=s) for s, last in ((0, 3), (1, 2)) for e in range(1, last + 1)]
    records = [{"seed": 0, "epochs": 3, "test_accuracy": 0.98}, {"epochs": 2, "test_accuracy": 0.97}]
    fig = drawn(plots.plot_learning_curves, history, None, records=records)
    crosses = [x for x in fig.axes[1].get_lines() if x.get_marker() == "x"]
    points = [(*x.get_xdata(), *x.get_ydata()) for x in crosses]
    assert points == [(3, pytest.approx(2)), (2, pytest.approx(3))]
    assert {x.get_color() for x in crosses} == {TEST}
    assert texts(fig)[-1] == "test, every run"


def test_curves_of_bags_show_the_auc_and_need_no_training_auc(drawn):
    history = [{"epoch": e, "train_loss": 1.0, "val_auc": 1 - 0.01 * e, "lr": 0.1} for e in (1, 2, 3)]
    fig = drawn(plots.plot_learning_curves, history, None, "auc", [{"epochs": 3, "test_auc": None}])
    (error,) = fig.axes[1].get_lines()
    assert error.get_ydata().tolist() == pytest.approx([1, 2, 3])
    assert "AUC" in fig.axes[1].get_title()
    assert texts(fig) == ["training"]


def test_an_error_of_zero_is_a_gap(drawn):
    drawn(plots.plot_learning_curves, [line(e, 0.0) for e in (1, 2, 3)], None).canvas.draw()


def test_a_confusion_matrix_has_the_names_of_the_classes(drawn):
    counts = np.array([[90, 3, 0], [0, 80, 5], [1, 0, 70]])
    fig = drawn(plots.plot_confusion, counts, None, "a title", FASHION)
    ax, bar = fig.axes
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [label.get_text() for label in labels] == list(FASHION)
    shown = sorted(text.get_text() for text in ax.texts if text.get_text())
    assert shown == sorted(["90", "80", "70", "3", "5", "1"])
    assert ax.collections[0].get_clim() == (0, 5)  # the diagonal has no part in the scale
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("predicted", "true", "a title")


def test_a_confusion_matrix_of_many_classes_has_no_numbers_and_fewer_names(drawn):
    counts = np.eye(47, dtype=int)
    fig = drawn(plots.plot_confusion, counts, None, "", [f"class {i}" for i in range(47)])
    assert not [text for text in fig.axes[0].texts if text.get_text()]
    assert [x.get_text() for x in fig.axes[0].get_xticklabels()][:3] == ["class 0", "class 2", "class 4"]


def mistakes(drawn, classes, **kwargs):
    images = np.arange(5 * 16, dtype=np.uint8).reshape(5, 1, 4, 4)
    labels = np.array([0, 0, 1, 1, 2])
    probabilities = np.array([[0.2, 0.8, 0], [1, 0, 0], [0.1, 0, 0.9], [0, 1, 0], [0.6, 0.2, 0.2]])
    fig = drawn(plots.plot_mistakes, images, labels, probabilities, None, classes, **kwargs)
    return [ax for ax in fig.axes if ax.images], images, fig


def test_mistakes_are_in_the_order_of_their_confidence(drawn):
    shown, images, fig = mistakes(drawn, ("0", "1", "2"))
    titles = [ax.get_title() for ax in shown]
    assert titles == ["1 → 2\n#2  90%", "0 → 1\n#0  80%", "2 → 0\n#4  60%"]
    assert np.array_equal(shown[0].images[0].get_array(), images[2, 0])
    assert fig.get_suptitle() == plots.MISTAKES


def test_mistakes_have_class_names_and_can_be_limited(drawn):
    shown, *_ = mistakes(drawn, FASHION, among=np.array([1, 1, 0, 1, 1], dtype=bool), count=1)
    assert [ax.get_title() for ax in shown] == ["T-shirt/top\n→ Trouser\n#0  80%"]


def test_no_mistakes_are_said_to_be_none(drawn):
    shown, _, fig = mistakes(drawn, FASHION, among=False)
    assert shown == []
    assert fig.axes[0].get_title() == "no mistakes"


def test_templates_have_the_names_of_their_classes_and_one_scale(drawn):
    weights = np.random.default_rng(0).normal(size=(3, 28, 28))
    weights[1] *= 5
    fig = drawn(plots.plot_filters, weights, None, FASHION)
    shown = [ax for ax in fig.axes if ax.images]
    assert [ax.get_title() for ax in shown] == list(FASHION)
    largest = np.abs(weights).max()
    assert {ax.images[0].get_clim() for ax in shown} == {(-largest, largest)}
    assert np.array_equal(shown[2].images[0].get_array(), weights[2])
    assert fig.axes[-1].get_ylabel() == "weight"


def test_other_filters_have_a_scale_each_and_may_be_too_many(drawn):
    weights = np.random.default_rng(0).normal(size=(30, 5, 5)) * np.arange(30)[:, None, None]
    fig = drawn(plots.plot_filters, weights, None, count=20)
    shown = [ax.images[0] for ax in fig.axes if ax.images]
    limits = [np.abs(w).max() or 1.0 for w in weights[:20]]
    assert [image.get_clim()[1] for image in shown] == limits
    assert "20 of 30 filters" in fig.get_suptitle()
