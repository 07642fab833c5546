"""Histories: every run thinly, the mean over the runs, and a panel for what was logged."""

import numpy as np
import pytest

from utils.plots import history, style


def test_a_curve_goes_through_the_logged_steps_of_its_epochs():
    first = {"epoch": 1, "loss": 2.5, "steps": {"step": [2, 4], "loss": [3.0, 2.0]}, "val_loss": 1.5}
    second = {"epoch": 2, "loss": 1.5, "val_loss": 1.2}
    assert history.curve_of([first, second], "loss") == ([0.5, 1.0, 2], [3.0, 2.0, 1.5])
    assert history.curve_of([first, second], "val_loss") == ([1, 2], [1.5, 1.2])


def lines_of(epochs, value, **more):
    return [{"epoch": e + 1, "val_loss": value + e, "train_loss": value, **more} for e in range(epochs)]


def test_runs_are_thin_lines_about_their_mean_which_ends_with_the_shortest(drawn, texts):
    lines = lines_of(3, 1.0, seed=0, fold=0) + lines_of(2, 3.0, seed=0, fold=1)
    fig = drawn(history.plot_history, lines, None)
    *thin, mean = fig.axes[0].get_lines()[3:]
    assert [line.get_ydata().tolist() for line in thin] == [[1, 2, 3], [3, 4]]
    assert (mean.get_xydata().tolist(), mean.get_linewidth() > 1) == ([[1, 2], [2, 3]], True)
    assert texts(fig.legends[0].get_texts()) == ["training (mean of 2)", "validation (mean of 2)"]


def test_several_models_have_a_colour_and_a_mean_each(drawn, texts):
    lines = [line for seed in (0, 2) for line in lines_of(4, 4.0 + seed, seed=seed, model="linear")]
    fig = drawn(history.plot_history, lines + lines_of(2, 1.0, seed=1, model="lenet"), None)
    means = [line for line in fig.axes[0].get_lines() if line.get_linewidth() >= 1]
    looks = [(line.get_ydata()[0], line.get_linestyle(), line.get_color()) for line in means]
    models = ((5, "linear"), (1, "lenet"))
    assert looks == [(y, line, style.method_color(name)) for y, name in models for line in ("--", "-")]
    assert texts(fig.legends[0].get_texts()) == ["linear (mean of 2)", "lenet"]


@pytest.mark.parametrize(("value", "scale"), [(1.0, "linear"), (0.5, "log")])
def test_an_error_that_is_always_zero_has_a_linear_axis(drawn, recwarn, value, scale):
    fig = drawn(history.plot_history, [{"epoch": e, "val_auc": v} for e, v in ((1, value), (2, 1.0))], None)
    assert [ax.get_yscale() for ax in fig.axes] == [scale]  # and no panel without numbers
    assert fig.axes[0].get_lines()[0].get_ydata().tolist() == [100 - 100 * value, 0]
    fig.canvas.draw()
    assert not recwarn.list


@pytest.mark.parametrize("metric", ["accuracy", "auc"])
def test_the_test_error_of_every_run_is_where_its_training_ends(drawn, texts, metric):
    key, test = f"val_{metric}", f"test_{metric}"
    lines = [{"epoch": e, "train_loss": 2.0 / e, "val_loss": 1.0, key: 1 - 0.1 / e} for e in (1, 2)]
    records = [{"epochs": 2, test: 0.98}, {"epochs": 1, test: 0.97}]
    records += [{"epochs": 2, test: None, "best_epoch": 1}]
    fig = drawn(history.plot_history, lines, None, records, chance=2.5)
    loss, error = fig.axes
    assert [line.get_ydata()[0] for line in loss.get_lines() if line.get_ls() == "-"] == [2, 1]
    dotted = [[line for line in ax.get_lines() if line.get_ls() == ":"][0] for ax in fig.axes]
    assert [line.get_xdata() for line in dotted] == [[1, 1], [1, 1]]
    assert np.allclose(error.get_lines()[0].get_ydata(), [10, 5])
    assert np.allclose([line.get_xydata()[0] for line in error.get_lines()[1:3]], [[2, 2], [1, 3]])
    assert {line.get_color() for line in error.get_lines()[1:]} == {style.TEST}
    names = ["training", "validation", "chosen epoch", "chance", "test, every run"]
    assert texts(fig.legends[0].get_texts()) == names
    assert (error.get_yscale(), "AUC" in error.get_title()) == ("log", metric == "auc")


def test_every_panel_shows_what_the_history_has(drawn):
    keys = [key for panel in history.PANELS for key in panel.curves]
    fig = drawn(history.plot_history, [{"epoch": e} | dict.fromkeys(keys, 0.75) for e in (1, 2)], None)
    assert [len(ax.get_lines()) for ax in fig.axes] == [len(panel.curves) for panel in history.PANELS]
    assert [ax.get_lines()[0].get_ydata()[0] for ax in fig.axes[:5]] == [0.75, 25, 25, 25, 75]
