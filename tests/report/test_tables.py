"""Numbers in words: spreads of every kind, values, times, devices, Markdown."""

from pathlib import Path

import pytest

from report.results import Result
from report.tables import (
    collapsed,
    deviation,
    devices_text,
    duration,
    number,
    number_text,
    significant,
    table,
    value_text,
)


def result(records, **arguments):
    return Result(Path("results/cnn/x"), {"arguments": arguments}, {"runs": records}, [])


def test_several_trainings_have_mean_and_standard_deviation():
    found = number(result([{"test_accuracy": 0.98}, {"test_accuracy": 0.99}]), "test_accuracy")
    assert (found.kind, found.samples) == ("std", "2 runs")
    assert found.mean == pytest.approx(0.985)
    assert found.high - found.mean == pytest.approx(0.0070710678)
    assert number_text(found) == "98.50 ± 0.71 %"


def test_folds_are_called_folds():
    records = [{"test_accuracy": 0.98}, {"test_accuracy": 0.99}]
    assert number(result(records, folds=2), "test_accuracy").samples == "2 folds"


def test_few_labels_spread_over_all_draws_of_all_trainings():
    records = [
        {"test_linear_10_accuracy": 0.85, "test_linear_10_accuracies": [0.8, 0.9]},
        {"test_linear_10_accuracy": 0.95, "test_linear_10_accuracies": [0.94, 0.96]},
    ]
    found = number(result(records), "test_linear_10_accuracy")
    assert found.values == [0.8, 0.9, 0.94, 0.96]
    assert (found.kind, found.samples) == ("std", "4 draws")
    # mean 0.9, squared distances 0.01, 0, 0.0016, 0.0036: sqrt(0.0152 / 3) = 0.0712, not the 0.0707 of means
    assert number_text(found) == "90.00 ± 7.12 %"


def test_libraries_of_one_pool_have_a_range_and_no_deviation():
    records = [{"test_accuracy": value} for value in (0.9966, 0.9964, 0.9965)]
    found = number(result(records, sources=["ensemble/pool"]), "test_accuracy")
    assert (found.kind, found.samples) == ("range", "3 overlapping libraries")
    assert number_text(found) == "99.64 to 99.66 %"
    same = number(result(records[:1] * 2, sources=["ensemble/pool"]), "test_accuracy")
    assert number_text(same) == "99.66 %"


def test_a_single_run_has_its_interval_where_the_record_has_one():
    record = {"test_accuracy": 0.99, "test_accuracy_low": 0.988, "test_accuracy_high": 0.9917}
    found = number(result([record]), "test_accuracy")
    assert (found.kind, found.samples) == ("interval", "1")
    assert number_text(found) == "99.00 % (98.80 to 99.17)"
    assert number_text(number(result([{"test_knn_accuracy": 0.99}]), "test_knn_accuracy")) == "99.00 %"


def test_an_area_under_the_curve_is_no_percentage():
    found = number(result([{"test_auc": 0.97}, {"test_auc": 0.98}]), "test_auc")
    assert number_text(found) == "0.9750 ± 0.0071"


def test_a_tiny_deviation_keeps_a_digit():
    assert [deviation(std) for std in (0.0012, 0.0002, 0.00007)] == ["0.12", "0.02", "0.007"]


@pytest.mark.parametrize(
    ("metric", "values", "text"),
    [
        ("test_accuracy", [0.9977], "99.77 %"),
        ("average_test_accuracy", [0.99, 0.98], "98.00 to 99.00 %"),
        ("greedy_loss_test_mcnemar_p", [0.1796, 0.1094, 0.146], "0.11 to 0.18"),
        ("test_auc", [0.96723], "0.9672"),
        ("seconds", [30.0, 400.0], "30 s to 6.7 min"),
    ],
)
def test_values_in_sentences(metric, values, text):
    assert value_text(metric, values) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.46, "0.5 s"), (7.41, "7.4 s"), (119, "119 s"), (420, "7.0 min"), (4260, "71 min"), (9000, "2.5 h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_significant_digits():
    assert [significant(value) for value in (18300.4, 41.892, 0.01234)] == ["18,300", "41.9", "0.0123"]


def test_devices_that_differ_in_threads_are_named_together():
    devices = ["Intel(R) Xeon(R), 2 threads", "Intel(R) Xeon(R), 1 thread", "NVIDIA H200"]
    assert devices_text(devices) == "Intel Xeon, 1 or 2 threads; NVIDIA H200"
    assert devices_text(["Xeon, 1 threads"]) == "Xeon, 1 thread"


def test_markdown():
    assert table(["a", "b"], [["1|2", ""]]) == "| a | b |\n| --- | --- |\n| 1\\|2 |  |"
    assert collapsed("more", "text") == "<details>\n<summary>more</summary>\n\ntext\n\n</details>"
