"""Numbers in words: spreads of every kind, units, times, devices, data, Markdown."""

from pathlib import Path

import pytest

from report import text
from report.results import Result, Results
from report.rows import data_counts, number

TWO = [{"test_accuracy": 0.98}, {"test_accuracy": 0.99}]
ONE = [{"test_accuracy": 0.99, "test_accuracy_low": 0.988, "test_accuracy_high": 0.9917}]
DRAWS = [{"test_accuracies": [0.8, 0.9]}, {"test_accuracies": [0.94, 0.96]}]
BAGS = {"builder": "natural", "train_bags": 50}


def result(records, mean=(), folder="cnn", **arguments):
    path = Path("results") / folder / "x" / "metrics.json"
    return Result(path, {}, arguments, arguments.get("method", ""), "", 0.0, records, dict(mean))


@pytest.mark.parametrize(
    ("records", "arguments", "kind", "words"),
    [
        (TWO, {}, "std", "98.50 ± 0.71 %"),
        # mean 0.9, squared distances 0.01, 0, 0.0016, 0.0036: sqrt(0.0152 / 3), not the 0.0707 of means
        (DRAWS, {}, "std", "90.00 ± 7.12 %"),
        (TWO, {"sources": ["ensemble/pool"]}, "range", "98.00 to 99.00 %"),
        (ONE, {}, "interval", "99.00 % (98.80 to 99.17)"),
        (TWO[1:], {}, "interval", "99.00 % (98.79 to 99.18)"),  # Wilson's interval of 9,900 of 10,000
    ],
)
def test_a_number_has_the_spread_of_its_values(records, arguments, kind, words):
    made = number(result(records, **arguments), "test_accuracy")
    assert (made.kind, made.text) == (kind, words)
    assert made.short == words.partition(" (")[0]


@pytest.mark.parametrize(
    ("metric", "shares", "words"),
    [
        ("test_accuracy", [0.9977], "99.77 %"),
        ("average_test_accuracy", [0.99, 0.98], "98.00 to 99.00 %"),
        ("greedy_loss_test_mcnemar_p", [0.1796, 0.1094, 0.146], "0.11 to 0.18"),
        ("test_auc", [0.96723], "0.967"),
        ("test_auc", [0.9996], "> 0.999"),
        ("test_loss", [0.0335], "0.0335"),
        ("seconds", [30.0, 400.0], "30 s to 6.7 min"),
        ("shared_mistakes", [8], "8"),
    ],
)
def test_values_in_sentences(metric, shares, words):
    assert text.values(metric, shares) == words


def test_durations_deviations_significant_digits_tables_and_devices():
    times = {0.46: "0.5 s", 7.41: "7.4 s", 119: "119 s", 420: "7.0 min", 4260: "71 min", 9000: "2.5 h"}
    assert {seconds: text.duration(seconds) for seconds in times} == times
    assert [text.percent(std) for std in (0.0012, 0.00006, 0.00004)] == ["0.12", "0.01", "< 0.01"]
    assert text.spread([0.9998, 0.9999], text.thousandths) == "> 0.999"
    assert text.spread([0.9, 0.9002], text.thousandths) == "0.900 ± < 0.001"
    assert [text.significant(each) for each in (18300.4, 41.892, 0.01234)] == ["18,300", "41.9", "0.0123"]
    names = ["Intel(R) Xeon(R), 2 threads", "Intel(R) Xeon(R), 1 thread", "Intel Xeon, 1 threads", "H200"]
    assert text.table(["a", "b"], [["1|2", ""]]) == "| a | b |\n| --- | --- |\n| 1\\|2 |  |"
    assert text.devices(names) == "H200; Intel Xeon, 1 thread; Intel Xeon, 2 threads"


@pytest.mark.parametrize(
    ("records", "rival", "beyond"),
    [
        (TWO, {"value": 0.97}, False),  # t = 0.015 / 0.005 = 3, p = 0.20
        (TWO, {"value": 0.9}, True),  # t = 17, p = 0.037
        (TWO, {"value": 0.9, "std": 0.03, "runs": 2}, False),
        (ONE, {"value": 0.9881}, False),
        (ONE, {"value": 0.9879}, True),
    ],
)
def test_a_difference_from_prior_work_is_tested(records, rival, beyond):
    assert number(result(records), "test_accuracy").is_beyond_noise(rival) == beyond


@pytest.mark.parametrize(
    ("folder", "metric", "arguments", "counts"),
    [
        ("cnn", "test_accuracy", {"val_fraction": 0.1}, (60000, 0)),
        ("cnn", "test_accuracy", {"val_fraction": 0.0}, (54000, 0)),
        ("cnn", "test_accuracy", {"val_fraction": 0.1, "folds": 10}, (60000, 0)),
        ("cnn", "test_accuracy", {"val_fraction": 0.1, "labels_per_class": 10}, (100, 0)),
        ("simclr", "test_knn_accuracy", {"method": "simclr"}, (60000, 54000)),
        ("simclr", "test_random_linear_accuracy", {"method": "simclr"}, (60000, 0)),
        ("simclr", "test_self_trained_1_accuracy", {"method": "simclr"}, (10, 53990)),
        ("moco", "test_kmeans_accuracy", {}, (0, 54000)),
        ("simclr", "test_linear_10_accuracy", {"method": "supcon"}, (60000, 0)),
        ("few_labels", "test_accuracy", {"labels": 100}, (100, 53900)),
        ("few_labels", "test_accuracy", {"labels": 100, "method": "pixels-knn"}, (100, 0)),
        ("few_labels", "test_accuracy", {"labels": 0}, (0, 54000)),
        ("mil", "test_auc", BAGS, (50, 0)),
        ("mil", "test_auc", {**BAGS, "val_bags": 20}, (70, 0)),
        ("mil", "test_auc", {**BAGS, "encoder": "x/best.pt"}, (50, 0)),
        ("mil", "test_auc", {**BAGS, "encoder": "cnn/x/best.pt"}, (59, 0)),
        ("mil", "test_auc", {**BAGS, "encoder": "moco/x/encoder.pt"}, (50, 9)),
    ],
)
def test_data_include_those_that_validate(folder, metric, arguments, counts):
    runs = {f"{key}/x": result([], {"train_images": 9}, key) for key in ("cnn", "moco")}
    mean = {"train_images": 54000, **({"test_knn_accuracy": 0.9} if folder in ("simclr", "moco") else {})}
    results = Results(Path("results"), runs=runs)
    assert data_counts(results, result([], mean, folder, **arguments), metric) == counts
