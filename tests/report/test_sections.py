"""Sections of every script's page: the table with its legend, prior work, runs one by one."""

import pytest
from made_up import PNG, classifier_records, make_run, make_sweep, write_json

from report.pages import make_page
from report.paradigms import PARADIGMS
from report.results import read_collection
from report.sections import EMPTY, references_section, results_section, runs_section

REFERENCES = {
    "best": {
        "task": "one CNN",
        "metric": "accuracy",
        "value": 0.99748,
        "std": 0.00028,
        "runs": 20,
        "source": "best/cnn",
        "url": "https://example.org/best",
        "verified": True,
        "note": "last weights",
    },
    "paper": {
        "task": "a CNN",
        "metric": "accuracy",
        "low": 0.98,
        "value": 0.991,
        "source": "A paper",
        "url": "https://example.org/paper",
        "verified": False,
        "marks": ["protocol"],
        "citation": "Author, Title, 2020",
    },
    "chosen": {
        "task": "ensemble",
        "metric": "accuracy",
        "value": 0.9991,
        "source": "chosen",
        "url": "https://example.org/chosen",
        "verified": True,
        "marks": ["selected"],
    },
}


@pytest.fixture
def page(tmp_path):
    """A function that makes the page of train_cnn from experiments; three runs of two models are there."""
    make_run(tmp_path / "cnn" / "wide", classifier_records([0.9974, 0.9976, 0.9978], 1200), model="wide")
    make_run(tmp_path / "cnn" / "fast", classifier_records([0.99], 7.4), model="fast", val_fraction=0.1)
    make_run(tmp_path / "cnn" / "tried", classifier_records([0.9]), model="fast", commit="0123-dirty")

    def make(*experiments):
        write_json(tmp_path / "experiments.json", experiments=list(experiments))
        write_json(tmp_path / "references.json", references=REFERENCES)
        return make_page(read_collection(tmp_path), "train_cnn", PARADIGMS["train_cnn"])

    return make


WIDE = {
    "name": "wide",
    "command": "python train_cnn.py",
    "rows": [{"references": ["paper", "best", "chosen"]}],
}
FAST = {"name": "fast", "command": "python train_cnn.py"}


def test_the_table_and_its_legend(page):
    assert results_section(page(WIDE, FAST)) == (
        "| method | data | test accuracy | n | prior work | time |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| wide | 54,000 labelled | 99.76 ± 0.02 % | 3 runs | "
        "99.748 ± 0.028 % [best/cnn](https://example.org/best)<br>"
        "98 to 99.1 % § [A paper](https://example.org/paper) | ≤ 20 min |\n"
        "| fast | 60,000 labelled | 99.00 % (98.80 to 99.17) | 1 |  | ≤ 7.4 s |\n\n"
        "±: standard deviation over n trainings or, with few labels, over n draws of the labels; "
        "(a to b): 95 % interval of a single run (Wilson); § another protocol, see the notes on prior work. "
        "Time ≤: an upper bound, because the machine did other work, too; trained on Intel Xeon, 2 threads."
    )
    assert results_section(page()) == EMPTY


def test_times_measured_alone_name_the_machine(page, tmp_path):
    entry = {"seconds_per_epoch": 2.0, "epochs": 3, "threads": 1, "cpu": "Quiet CPU"}
    write_json(tmp_path / "times.json", times={"cnn/fast": entry})
    text = results_section(page(FAST))
    assert "| 20 s |" in text
    last = "epochs times an epoch measured alone on Quiet CPU, 1 thread; trained on Intel Xeon, 2 threads."
    assert text.endswith(f"Times without ≤: {last}")


def test_prior_work_lists_protocols_and_what_was_selected_on_test_images(page):
    lines = references_section(page(WIDE)).splitlines()
    assert lines[:3] == [
        "- [A paper](https://example.org/paper): a CNN 98 to 99.1 % §; Author, Title, 2020; second-hand.",
        "- [best/cnn](https://example.org/best): one CNN 99.748 ± 0.028 % (n = 20); last weights.",
        "- [chosen](https://example.org/chosen): ensemble 99.91 % †.",
    ]
    assert lines[-1] == "† selected on the test set; § another protocol, see the notes on prior work."
    assert "chosen" not in results_section(page(WIDE))
    assert references_section(page(FAST)) == EMPTY


def test_references_of_one_source_are_one_line(page):
    REFERENCES["again"] = {**REFERENCES["best"], "task": "two CNNs", "value": 0.998}
    rows = [{"references": ["best", "again"]}]
    text = references_section(page({**WIDE, "rows": rows}))
    assert text == (
        "- [best/cnn](https://example.org/best): one CNN 99.748 ± 0.028 % (n = 20), "
        "two CNNs 99.8 ± 0.028 % (n = 20); last weights."
    )


def test_every_run_has_a_part_with_command_values_origin_and_figures(page, tmp_path):
    (tmp_path / "cnn" / "wide" / "aaa.png").write_bytes(PNG)
    text = runs_section(page(WIDE, FAST))
    wide, fast, tried = text.split("\n\n<details>")
    assert "<b>wide</b>: wide, 99.76 ± 0.02 %" in wide
    assert "```\npython train_cnn.py --model wide\n```" in wide
    assert (
        "test accuracy: 99.74 %, 99.76 %, 99.78 %. Everything else: [wide/metrics.json](wide/metrics.json)."
        in wide
    )
    assert "Intel Xeon, 2 threads; commit 0123456789ab; python 3.12.1." in wide
    assert "![wide: learning curves](wide/curves.png)\n\n![wide: aaa](wide/aaa.png)" in wide
    assert "--name" not in fast
    assert "python train_cnn.py --model fast --name tried" in tried
    assert "commit 0123-dirty, not a clean one" in tried


def test_a_sweep_has_a_part_with_command_and_origin(page, tmp_path):
    folder = tmp_path / "cnn" / "sweep"
    make_sweep(folder, {("mean", 50): 0.8})
    text = runs_section(page({"name": "sweep", "command": "python train_cnn.py"}))
    part = text.split("\n\n<details>")[-1]
    assert "<b>sweep</b>: 2 trainings" in part
    assert "--name sweep\n```" in part
    assert "Everything: [sweep/sweep.json](sweep/sweep.json)." in part
    assert "commit " in part


def test_a_run_with_several_rows_has_one_part(page):
    assert runs_section(page({**WIDE, "rows": [{"label": "a"}, {"label": "b"}]})).count("<b>wide</b>") == 1
