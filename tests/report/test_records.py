"""results.csv and --compare: all committed numbers in one place, and tests of differences."""

import csv
import json
import statistics

import pytest
from helpers import ROOT, load_script, refusal
from made_up import make_run

main = load_script("report").main
LINES = list(csv.DictReader((ROOT / "results/results.csv").open()))


def committed(line):
    """The content of the file and the values behind a line of results.csv."""
    run, *cell = line["name"].split("/")
    path = ROOT / "results" / line["page"] / run
    content = json.loads((path / ("sweep.json" if cell else "metrics.json")).read_text())
    parts = [part for part in content.get("cells", ()) if cell == [str(x) for x in list(part.values())[:2]]]
    records = parts[0]["runs"] if cell else content["runs"]
    draws = line["metric"].removesuffix("accuracy") + "accuracies"
    values = [value for record in records for value in record.get(draws, [])]
    return content, values or [record[line["metric"]] for record in records]


def test_every_line_of_results_csv_is_what_its_run_says():
    assert len(LINES) > 200
    for line in LINES:
        content, values = committed(line)
        assert float(line["mean"]) == pytest.approx(statistics.fmean(values), abs=1e-6), line
        assert (int(line["n"]), line["device"]) == (len(values), content["device"]), line
        if line["spread"]:
            assert float(line["spread"]) == pytest.approx(statistics.stdev(values), abs=1e-6), line


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
        ("cnn/wide cnn/old --metric f1", "cnn/wide has no f1; choose from train_images, seconds, test_acc"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tree, capsys, names, line):
    assert line in refusal(main, words(tree, *names.split()), capsys)


def test_no_table_has_more_than_eight_columns():
    for page in (ROOT / "README.md", *(ROOT / "results").rglob("README.md")):
        lines = [line for line in page.read_text().splitlines() if line.startswith("|")]
        assert not [line for line in lines if line.count(" |") > 8], page
