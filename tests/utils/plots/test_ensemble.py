"""Figures of an ensemble: the numbers on them are those of the metrics."""

from pathlib import Path

import numpy as np
import pytest
from evaluation.ensemble.evaluate import evaluate_library

from evaluation.ensemble.library import Library, Member
from evaluation.ensemble.selection import COMBINATIONS, METRICS, best_single, greedy, growth
from utils.plots import ensemble as plots

MEMBERS, IMAGES, CLASSES = 6, 80, 4


def library(members=MEMBERS):
    """Members of different skill and confidence, so that calibrated and plain losses differ."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, CLASSES, IMAGES)

    def probabilities():
        logits = rng.normal(size=(members, IMAGES, CLASSES))
        logits[:, np.arange(IMAGES), labels] += np.linspace(0.5, 2.5, members)[:, None]
        logits *= np.linspace(4, 0.5, members)[:, None, None]
        p = np.exp(logits)
        return (p / p.sum(2, keepdims=True)).astype(np.float32)

    record = {"train_images": 100, "seconds": 1.0}
    who = [Member([Path()], f"{'mlp' if i % 2 else 'lenet'} {i}", record, {}) for i in range(members)]
    return Library(who, probabilities(), labels, np.arange(IMAGES), probabilities(), labels)


class Nowhere:
    def save_predictions(self, **arrays):
        pass


@pytest.fixture(scope="module")
def judged():
    """A library, its selections and its record in metrics.json."""
    found = library()
    calibrated = found.calibrated()
    selections = {metric: greedy(calibrated, found.val_y, metric) for metric in METRICS}
    best = best_single(calibrated, found.val_y)
    return found, selections, best, evaluate_library(found, "average", {"seed": 0}, Nowhere())


def by_label(axes):
    return {line.get_label(): line.get_ydata() for line in axes.get_lines()}


def test_the_selection_ends_at_the_metrics_of_the_tables(drawn, judged):
    found, selections, best, record = judged
    fig = drawn(plots.plot_selection, found, selections, best, None, "6 members")
    (loss_seen, error_seen), (loss, error) = np.array(fig.axes).reshape(2, 2)
    for axes, metric, shown in (
        (loss, "loss", lambda name: record[name]),
        (error, "accuracy", lambda name: 100 - 100 * record[name]),
    ):
        size, lines = selections[metric].size, by_label(axes)
        for part, name in (("val", "validation"), ("test", "test")):
            chosen = lines[f"{name}, selection"][size - 1]
            assert chosen == pytest.approx(shown(f"greedy_{metric}_{part}_{metric}"), rel=1e-6)
            average, single = (lines[f"{name}, {what}"][0] for what in ("plain average", "best single"))
            assert average == pytest.approx(shown(f"average_{part}_{metric}"), rel=1e-6)
            assert single == pytest.approx(shown(f"best_single_{part}_{metric}"), rel=1e-6)
        assert set(lines["chosen size"]) == {0, 1}
    assert f"{record['greedy_loss_test_loss']:.4f}" in loss.get_title()
    assert f"{100 - 100 * record['greedy_accuracy_test_accuracy']:.2f} %" in error.get_title()
    assert loss_seen.get_lines()[0].get_ydata().tolist() == selections["loss"].losses
    accuracies = 100 - 100 * np.array(selections["accuracy"].accuracies)
    assert error_seen.get_lines()[0].get_ydata().tolist() == accuracies.tolist()
    assert "6 members" in fig.get_suptitle()


def test_the_weights_after_the_chosen_step_are_those_of_the_selection(judged):
    _, selections, *_ = judged
    for selection in selections.values():
        weights = plots.prefix_weights(selection, MEMBERS)
        assert len(weights) == len(selection.path)
        assert np.array_equal(weights[selection.size - 1], selection.weights)
        assert all(w.sum() == pytest.approx(1) for w in weights)


def test_weights_are_colours_and_the_chosen_ones_numbers(drawn, judged):
    found, selections, *_ = judged
    fig = drawn(plots.plot_weights, found.names, selections, None, "6 members")
    names = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    used = {found.names[i] for selection in selections.values() for i in selection.path}
    assert set(names) == used
    for axes, selection in zip(fig.axes, selections.values(), strict=False):
        table = axes.images[0].get_array()
        weights = [selection.weights[found.names.index(name)] for name in names]
        assert table[:, selection.size - 1].tolist() == pytest.approx(weights)
        assert [text.get_text() for text in axes.texts] == [f"{w:.2f}" for w in weights if w]
    assert fig.axes[0].images[0].get_clim() == fig.axes[1].images[0].get_clim()
    weights = [selections["loss"].weights[found.names.index(name)] for name in names]
    assert weights == sorted(weights, reverse=True)


def test_growth_shows_single_subsets_and_says_that_they_overlap(drawn, judged):
    found, *_ = judged
    accuracies = growth(found.test_p, found.test_y, draws=5)
    fig = drawn(plots.plot_growth, accuracies, None, "6 members")
    (axes,) = fig.axes
    dots = np.array([line.get_ydata() for line in axes.get_lines() if line.get_label().startswith("_")])
    assert np.allclose(np.sort(dots, 0), np.sort(100 - 100 * accuracies, 0))
    assert np.allclose(by_label(axes)["mean of 5 random subsets"], 100 - 100 * accuracies.mean(0))
    assert not axes.collections  # no band
    assert "all of size 6 are the same" in axes.get_title()


def test_agreement_has_one_scale_and_the_members_of_a_model_together(drawn):
    overlap = np.eye(4) + 0.1 * np.array([[0, 1, 2, 3], [1, 0, 4, 5], [2, 4, 0, 6], [3, 5, 6, 0]])
    names = ["mlp 0", "lenet 1", "mlp 2", "lenet 3"]
    fig = drawn(plots.plot_agreement, overlap, names, None, "4 members")
    axes = fig.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["lenet 1", "lenet 3", "mlp 0", "mlp 2"]
    assert axes.collections[0].get_clim() == (0, 100)
    assert [text.get_text() for text in axes.texts][:3] == ["50", "10", "40"]


def test_agreement_of_many_members_shows_some_of_their_names(drawn):
    names = [f"wide {i}" for i in range(70)]
    axes = drawn(plots.plot_agreement, np.ones((70, 70)), names, None, "70 members").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == names[::3]
    assert not axes.texts


def test_members_are_drawn_with_the_plain_average(drawn, judged):
    found, _, _, record = judged
    error, loss = drawn(plots.plot_members, found, None, "6 members").axes
    wrong = (found.test_p.argmax(2) != found.test_y).mean(1)
    assert np.allclose(by_label(error)["test"], 100 * wrong)
    average = 100 - 100 * record["average_val_accuracy"]
    assert by_label(error)["validation, plain average"][0] == pytest.approx(average)
    assert by_label(loss)["test, plain average"][0] == pytest.approx(record["average_test_loss"])
    assert [label.get_text() for label in loss.get_xticklabels()] == found.names


def test_combinations_have_intervals_with_caps_and_a_dot_per_library(drawn, judged):
    *_, record = judged
    other = {key: 0.9 * v if isinstance(v, float) else v for key, v in record.items()}
    axes = drawn(plots.plot_combinations, [record, other], COMBINATIONS, None).axes[0]
    _, caps, (bars,) = axes.containers[0]
    assert len(caps) == 2
    low, high = np.array(bars.get_segments())[:, :, 0].T
    for ends, key in ((low, "accuracy_high"), (high, "accuracy_low")):
        shares = [[r[f"{n}_test_{key}"] for r in (record, other)] for n in COMBINATIONS]
        assert np.allclose(ends, 100 - 100 * np.mean(shares, 1))
    dots = [line.get_xdata() for line in axes.get_lines() if len(line.get_xdata()) == len(COMBINATIONS)]
    expected = [[100 - 100 * r[f"{n}_test_accuracy"] for n in COMBINATIONS] for r in (record, other)]
    assert np.allclose(dots[-3:], [*expected, np.mean(expected, 0)])
    assert "2 libraries" in axes.get_xlabel()
    assert [x.get_text() for x in axes.get_yticklabels()] == [plots.LABELS[name] for name in COMBINATIONS]
