"""README.md: of every task the first row that has results, and how long everything takes."""

import pytest
from made_up import classifier_records, make_run, make_sweep, write_json

from report.front import experiment_time, front_rows, front_section, reproduce_section
from report.pages import make_page
from report.paradigms import PARADIGMS
from report.results import read_collection
from report.sections import EMPTY

REFERENCE = {"task": "CNN", "metric": "accuracy", "value": 0.9983, "source": "best/cnn", "url": "u"}


def front(task, method):
    return {"front": {"task": task, "method": method}, "references": ["best"]}


@pytest.fixture
def pages(tmp_path):
    """Two scripts: one run with a row for the front page, one without results and its stand-in."""
    make_run(tmp_path / "cnn" / "wide", classifier_records([0.9974, 0.9976], 1200), model="wide")
    make_sweep(tmp_path / "mil" / "sweep", {("max", 50): 0.9, ("mean", 50): 0.8})
    cell = {"cell": {"method": "max", "train_bags": 50}}
    bags, stand_in = front("bags", "no validation"), front("bags", "max")
    experiments = [
        {"name": "wide", "command": "python train_cnn.py", "rows": [front("one network", "`wide`"), {}]},
        {"name": "missing", "command": "python train_mil.py", "rows": [{**bags, **cell}]},
        {"name": "sweep", "command": "python train_mil.py", "rows": [{**stand_in, **cell, "references": []}]},
    ]
    write_json(tmp_path / "experiments.json", experiments=experiments)
    write_json(tmp_path / "references.json", references={"best": REFERENCE})
    found = read_collection(tmp_path)
    return [make_page(found, script, paradigm) for script, paradigm in PARADIGMS.items()]


def test_the_table_has_one_row_per_task_that_has_results(pages):
    assert front_section(pages[0].found, front_rows(pages)) == (
        "| task | method | test accuracy or AUC | best prior work | data | time |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| one network | `wide` | 99.75 ± 0.01 %, n = 2 runs | 99.83 % [best/cnn](u) | 54,000 labelled | "
        "≤ 20 min |\n"
        "| bags | max | 0.9000 ± 0.0014, n = 2 runs | none with a source | 50 + 200 balanced bags | "
        "≤ 20 s |\n\n"
        "Time ≤: an upper bound, because the machine did other work, too; trained on Intel Xeon, 2 threads."
    )
    assert pages[0].found.faults == []
    assert front_section(pages[0].found, []) == EMPTY


def test_the_times_of_all_experiments_are_summed_by_script(pages):
    assert reproduce_section(pages) == (
        "CPU time of all experiments: `train_cnn.py` ≤ 40 min, `train_mil.py` ≤ 80 s "
        "(≤: an upper bound, because the machine did other work, too)."
    )
    found = pages[0].found
    times = {e.folder: experiment_time(found, e) for e in found.experiments}
    assert times["mil/missing"] is None
    assert times["mil/sweep"].seconds == 80
    assert reproduce_section([]) == EMPTY
