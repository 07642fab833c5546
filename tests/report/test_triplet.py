"""The page of metric learning: floors, digits apart, accept rates, losses, training data."""

import pytest
from made_up import make_run, write_json

from report.pages import make_page
from report.paradigms import PARADIGMS
from report.results import read_collection
from report.sections import EMPTY, results_section
from report.triplet import (
    accepts_section,
    floors_section,
    groups_section,
    losses_section,
    training_data_section,
)

SECTIONS = (floors_section, groups_section, accepts_section, losses_section, training_data_section)
COMMAND = "python train_triplet.py --classes 0,1,2 --images-per-class 100"


def record(seed=0, **more):
    return {
        "seed": seed,
        "epochs": 20,
        "seconds": 60.0,
        "train_images": 270,
        "val_images": 30,
        "test_10way_1shot_accuracy": 0.8 + 0.01 * seed,
        "test_10way_5shot_accuracy": 0.92,
        "test_unseen_7way_1shot_accuracy": 0.78,
        "test_precision_at_1": 0.95,
        "test_map_at_r": 0.6,
        "test_unseen_precision_at_1": 0.94,
        "test_pixels_10way_1shot_accuracy": 0.437,
        "test_class_accept_rates": [0.98, 0.9],
        "test_class_false_accept_rates": [0.4, 0.2 + 0.1 * seed],
        **more,
    }


@pytest.fixture
def page(tmp_path):
    """A function that makes the page from experiments, whose run `few` has two trainings."""

    def make(*experiments):
        make_run(tmp_path / "triplet" / "few", [record(), record(1)], "train_triplet", COMMAND)
        write_json(tmp_path / "experiments.json", experiments=list(experiments))
        write_json(tmp_path / "references.json", references={})
        return make_page(read_collection(tmp_path), "train_triplet", PARADIGMS["train_triplet"])

    return make


def test_the_page_of_a_run(page, tmp_path):
    rows = [{"label": "1-shot"}, {"label": "P@1", "metric": "test_precision_at_1"}]
    floors = {"name": "floors", "command": COMMAND, "section": "floors"}
    make_run(tmp_path / "triplet" / "floors", [record()], "train_triplet", COMMAND)
    made = page({"name": "few", "command": COMMAND, "rows": rows}, floors)
    assert made.found.faults == []
    text = results_section(made)
    assert "| 1-shot | 300 labelled | 80.50 ± 0.71 % | 2 runs |" in text
    assert "test accuracy or P@1" in text
    floors = floors_section(made)
    assert "| few | 80.50 ± 0.71 % | 92.00 ± 0.00 % | 78.00 ± 0.00 % |" in floors
    assert "| raw pixels | 43.70 % |  |" in floors
    assert "untrained" not in floors
    groups = groups_section(made)
    assert "| few | all | 95.00" in groups
    assert "| few | unseen | 94.00" in groups
    assert "trained on" not in groups.partition("\n")[2]
    accepts = accepts_section(made)
    assert "| 0 | 98.00 % | 40.00 % |\n| 1 | 90.00 % | 25.00 % |" in accepts


def test_losses_are_a_table_of_their_own(page):
    made = page({"name": "few", "command": COMMAND, "section": "losses", "rows": [{"label": "triplet"}]})
    assert "| triplet | 80.50 ± 0.71 % |" in losses_section(made)
    assert results_section(made) == floors_section(made) == EMPTY


def test_a_sweep_is_a_table_of_training_data(page, tmp_path):
    mean = {key: value for key, value in record().items() if isinstance(value, int | float)}
    cells = [
        {"digits": digits, "images": 100, "runs": [record()], "mean": mean, "std": {}} for digits in (2, 3)
    ]
    command = "python train_triplet.py --sweep --images-per-class 100"
    folder = tmp_path / "triplet" / "sweep"
    arguments = {"dry_run": False, "dataset": "mnist"}
    write_json(
        folder / "config.json", script="train_triplet", command=command, arguments=arguments, commit="abc"
    )
    head = {"command": command, "device": "a CPU", "seconds": 1.0}
    write_json(folder / "sweep.json", **head, trainings=[2, 3], cells=cells)
    text = training_data_section(page({"name": "sweep", "command": command}))
    assert "| 3 | 100 | 80.00 % | 92.00 % | 94.00 % |  | 1 |" in text
    assert "sweep/accuracy.png" in text
    assert "2 of 3 trainings" in text


def test_without_results_every_section_says_so(tmp_path):
    write_json(tmp_path / "experiments.json", experiments=[])
    write_json(tmp_path / "references.json", references={})
    made = make_page(read_collection(tmp_path), "train_triplet", PARADIGMS["train_triplet"])
    assert {section(made) for section in SECTIONS} == {EMPTY}
