"""results.csv, load_results and --compare: all committed numbers in one place, and tests of differences."""

import csv
import json
import statistics

import pytest
from helpers import ROOT, load_script, refusal
from made_up import make_run

from report.records import load_results

main = load_script("report").main
LINES = list(csv.DictReader((ROOT / "results/results.csv").open()))


def committed(line):
    """The values behind a line of results.csv, read from its run's own file."""
    run, *cell = line["name"].split("/")
    path = ROOT / "results" / line["page"] / run
    content = json.loads((path / ("sweep.json" if cell else "metrics.json")).read_text())
    if cell:
        heads = {
            "/".join(str(x) for x in part.values() if isinstance(x, int | str)): part
            for part in content["cells"]
        }
        content = heads["/".join(cell)] | {"device": content["device"]}
    draws = line["metric"].removesuffix("accuracy") + "accuracies"
    values = [value for record in content["runs"] for value in record.get(draws, [])]
    return content, values or [record[line["metric"]] for record in content["runs"]]


def test_every_line_of_results_csv_is_what_its_run_says():
    assert len(LINES) > 200
    for line in LINES:
        content, values = committed(line)
        assert float(line["mean"]) == pytest.approx(statistics.fmean(values), abs=1e-6), line
        assert (int(line["n"]), line["device"]) == (len(values), content["device"]), line
        if line["spread"]:
            assert float(line["spread"]) == pytest.approx(statistics.stdev(values), abs=1e-6), line


def test_committed_numbers_are_rows_of_their_trainings(tree):
    rows = load_results(tree / "results")
    accuracies = [row for row in rows if row["run"] == "cnn/wide" and row["metric"] == "test_accuracy"]
    assert [(row["seed"], row["value"]) for row in accuracies] == [(0, 0.9974), (1, 0.9976), (2, 0.9978)]
    head = {"run": "cnn/wide", "seed": 0, "draw": 0, "metric": "test_accuracy", "value": 0.9974}
    tail = {"labelled": 54000, "unlabelled": 0, "seconds": 1200, "device": "Intel(R) Xeon(R), 2 threads"}
    assert accuracies[0] == head | tail
    draws = [
        row for row in rows if row["metric"] == "test_linear_10_accuracy" and row["run"] == "simclr/simclr"
    ]
    assert [(row["seed"], row["draw"], row["value"]) for row in draws] == [
        (0, 0, 0.8),
        (0, 1, 0.9),
        (0, 0, 0.94),
        (0, 1, 0.96),
    ]
    (cell,) = (
        row
        for row in rows
        if row["run"] == "few_labels/more/pixels-knn/10"
        and row["seed"] == 2
        and row["metric"] == "test_accuracy"
    )
    assert (cell["value"], cell["labelled"], cell["seconds"]) == (0.6, 10, 50)
    metrics = {row["metric"] for row in rows if row["run"] == "ensemble/ten"}
    assert {"average_test_cross_entropy", "greedy_loss_test_accuracy"} < metrics
    assert "average_test_loss" not in metrics


def words(tree, *names):
    return ["--results-dir", str(tree / "results"), "--compare", *names]


def test_two_runs_are_compared_by_a_test_of_their_difference(tree, capsys):
    for name, values in (("a", (0.9, 0.95)), ("b", (0.91, 0.92))):
        records = [{"seed": seed, "seconds": 1.0, "test_auc": value} for seed, value in enumerate(values)]
        make_run(tree / "results/mil" / name, records, "train_mil", train_bags=50, builder="natural")
    assert main(words(tree, "mil/a", "mil/b")) == 0
    # The pairs differ by -0.01 and 0.03: mean 0.01, standard error 0.02, t = 0.5, one degree of freedom
    assert capsys.readouterr().out == "mil/a - mil/b: +0.01 (-0.24 to +0.26; paired t-test, n = 2; p = 0.7)\n"


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ("cnn/wide cnn/fast", "cnn/wide and cnn/fast: a single training has no spread to test with"),
        ("cnn/wide cnn/gone", "cnn/gone: no such result; results/results.csv lists them"),
        ("ensemble/ten cnn/wide", "ensemble/ten: libraries of one pool overlap"),
        (
            "cnn/wide cnn/old --metric f1",
            "cnn/wide has no f1; choose from train_images, seconds, test_accuracy",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_line(tree, capsys, names, line):
    assert line in refusal(main, words(tree, *names.split()), capsys)


def test_no_table_has_more_than_eight_columns():
    for page in (ROOT / "README.md", *(ROOT / "results").rglob("README.md")):
        wide = [
            line for line in page.read_text().splitlines() if line.startswith("|") and line.count(" |") > 8
        ]
        assert not wide, page
