"""Rows: which run, which metric, which data, and prior work in the order in which it may be compared."""

import pytest
from made_up import classifier_records, make_run, make_sweep, write_json

from report.results import read_collection
from report.rows import (
    bag_data,
    cell,
    encoder_data,
    image_data,
    make_rows,
    mark_legend,
    ordered,
    other_rows,
    reference_link,
    reference_value,
    rivals,
)
from utils.errors import UserError

REFERENCES = {
    "low": {"metric": "accuracy", "value": 0.98, "source": "low/cnn", "url": "u"},
    "high": {"metric": "accuracy", "value": 0.99748, "std": 0.00028, "source": "high/cnn", "url": "u"},
    "other": {"metric": "accuracy", "value": 0.999, "source": "o", "url": "u", "marks": ["protocol"]},
    "chosen": {"metric": "accuracy", "value": 0.9991, "source": "c", "url": "u", "marks": ["selected"]},
}


@pytest.fixture
def results(tmp_path):
    """A function that writes experiments and references, and reads the collection."""

    def read(*experiments):
        write_json(tmp_path / "experiments.json", experiments=list(experiments))
        write_json(tmp_path / "references.json", references=REFERENCES)
        return read_collection(tmp_path)

    read.folder = tmp_path
    return read


def experiment(name="wide", script="train_cnn", **more):
    return {"name": name, "command": f"python {script}.py", **more}


def test_one_run_has_a_row_for_each_metric(results):
    make_run(results.folder / "cnn" / "wide", classifier_records([0.99, 0.98]), model="wide")
    rows = [{"label": "first"}, {"label": "second", "metric": "test_accuracy_low"}]
    found = results(experiment(rows=rows))
    first, second = make_rows(found, "train_cnn", "test_accuracy", image_data)
    assert (first.label, first.text) == ("first", "98.50 ± 0.71 %")
    assert (second.label, second.number.mean) == ("second", pytest.approx(0.983))
    assert first.data == "54,000 labelled"
    assert found.faults == []


def test_another_data_set_is_named(results):
    make_run(results.folder / "cnn" / "wide", classifier_records([0.99]), dataset="mnist-5k", model="wide")
    (row,) = make_rows(results(experiment()), "train_cnn", "test_accuracy", image_data)
    assert row.label == "wide (mnist-5k)"


def test_what_is_missing_is_one_clear_line(results):
    make_run(results.folder / "cnn" / "wide", classifier_records([0.99]))
    rows = [{"metric": "test_f1"}, {"references": ["gone", "low"]}, {}]
    found = results(experiment(rows=rows))
    assert len(make_rows(found, "train_cnn", "test_accuracy", image_data)) == 1
    assert found.faults == [
        f"{results.folder}/cnn/wide/metrics.json: lacks test_f1",
        f"{results.folder}/references.json: lacks gone",
    ]


def test_a_run_of_no_experiment_has_a_row_of_its_own(results):
    make_run(results.folder / "cnn" / "tried", classifier_records([0.5]))
    (row,) = other_rows(results(experiment()), "train_cnn", "test_accuracy", image_data)
    assert row.label == "tried"


def test_a_row_can_be_a_cell_of_a_sweep(results):
    make_sweep(results.folder / "mil" / "sweep", {("mean", 50): 0.8, ("max", 50): 0.9})
    chosen = {"method": "max", "train_bags": 50}
    found = results(experiment("sweep", "train_mil", rows=[{"cell": chosen}, {"cell": {"method": "min"}}]))
    (row,) = make_rows(found, "train_mil", "test_auc", bag_data)
    assert (row.text, row.number.samples) == ("0.9000 ± 0.0014", "2 runs")
    assert row.data == "50 + 200 balanced bags"
    assert row.time.seconds == 20
    assert found.faults == [f"{results.folder}/mil/sweep/sweep.json: no cell with method min"]
    with pytest.raises(UserError, match="no cell with train_bags 70"):
        cell(found.sweeps["mil/sweep"], {"train_bags": 70})


def test_the_best_comparable_reference_comes_first_and_selected_ones_are_no_rivals(results):
    make_run(results.folder / "cnn" / "wide", classifier_records([0.99]))
    found = results(experiment(rows=[{"references": ["chosen", "other", "low", "high"]}]))
    (row,) = make_rows(found, "train_cnn", "test_accuracy", image_data)
    assert [reference["source"] for reference in row.references] == ["high/cnn", "low/cnn", "c", "o"]
    assert [reference["source"] for reference in rivals(row)] == ["high/cnn", "low/cnn", "o"]
    assert ordered(row.references) == row.references


def test_references_in_words():
    assert reference_value(REFERENCES["high"]) == "99.748 ± 0.028 %"
    assert reference_value({**REFERENCES["other"], "low": 0.9}) == "90 to 99.9 % §"
    assert reference_value({"metric": "auc", "value": 0.931}) == "0.931"
    assert reference_link(REFERENCES["low"]) == "[low/cnn](u)"
    assert mark_legend(list(REFERENCES.values())) == [
        "† selected on the test set",
        "§ another protocol, see the notes on prior work",
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"val_fraction": 0.1}, "60,000 labelled"),
        ({"val_fraction": 0.0}, "54,000 labelled"),
        ({"val_fraction": 0.1, "folds": 10}, "60,000 labelled"),
        ({"val_fraction": 0.1, "member_folds": 4}, "72,000 labelled"),
        ({"val_fraction": 0.1, "labels_per_class": 10}, "100 labelled"),
    ],
)
def test_labelled_images_include_those_that_validate(results, arguments, text):
    make_run(results.folder / "cnn" / "wide", classifier_records([0.99]), **arguments)
    found = results()
    assert image_data(found, found.results["cnn/wide"], "test_accuracy") == text


@pytest.mark.parametrize(
    ("method", "metric", "text"),
    [
        ("simclr", "test_linear_accuracy", "60,000 labelled"),
        ("simclr", "test_linear_10_accuracy", "100 labelled, 54,000 unlabelled"),
        ("simclr", "test_self_trained_1_accuracy", "10 labelled, 54,000 unlabelled"),
        ("simclr", "test_kmeans_self_trained_accuracy", "54,000 unlabelled"),
        ("supcon", "test_linear_10_accuracy", "60,000 labelled"),
    ],
)
def test_an_encoder_saw_unlabelled_images_too(results, method, metric, text):
    records = [{"seed": 0, "train_images": 54000, "seconds": 1.0}]
    make_run(results.folder / "simclr" / "x", records, "train_simclr", method=method)
    found = results()
    assert encoder_data(found, found.results["simclr/x"], metric) == text


def test_bags_name_their_builder_validation_bags_and_pre_trained_encoder(results):
    records = [{"seed": 0, "train_images": 54000, "seconds": 1.0}]
    make_run(results.folder / "simclr" / "simclr", records, "train_simclr", method="simclr")
    make_run(results.folder / "cnn" / "cnn", records, model="cnn")
    bags = {"train_bags": 50, "val_bags": 200, "builder": "natural"}
    found = results()

    def text(**changes):
        make_run(results.folder / "mil" / "x", [{"seed": 0, "seconds": 1.0}], "train_mil", **bags | changes)
        found = results()
        return bag_data(found, found.results["mil/x"], "test_auc")

    assert text() == "50 + 200 natural bags"
    assert text(val_bags=0) == "50 natural bags"
    encoder = "results/simclr/simclr/seed-0/encoder.pt"
    assert text(encoder=encoder) == "50 + 200 natural bags, 54,000 unlabelled images"
    encoder = "results/cnn/cnn/seed-0/best.pt"
    assert text(encoder=encoder) == "50 + 200 natural bags, 54,000 labelled images"
    assert text(encoder="elsewhere/best.pt") == "50 + 200 natural bags, a pre-trained encoder"
    assert found.faults == []
