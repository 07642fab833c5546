"""Sections of single scripts: ablations, combinations of members, sweeps, few labels."""

import json

import pytest
from made_up import make_run, make_study, make_sweep, write_json

from evaluation.ensemble.selection import COMBINATIONS
from report.pages import make_page
from report.paradigms import PARADIGMS
from report.results import read_collection
from report.sections import EMPTY, results_section
from report.special import (
    ablations_section,
    combinations_table,
    found_digits_section,
    models_section,
    shortcut_section,
    study_section,
    sweeps_section,
)
from utils.errors import UserError


@pytest.fixture
def page(tmp_path):
    """A function that makes the page of a script from experiments and references."""

    def make(script, *experiments, **references):
        write_json(tmp_path / "experiments.json", experiments=list(experiments))
        write_json(tmp_path / "references.json", references=references)
        return make_page(read_collection(tmp_path), script, PARADIGMS[script])

    return make


# --- Ablations ---


def ablation(folder, parts, knn, linear):
    record = {"seed": 0, "epochs": 4, "train_images": 54000, "test_linear_accuracy": 0.9, "seconds": 60.0}
    record |= {"val_knn_accuracy": knn, "val_linear_accuracy": linear, "test_knn_accuracy": 0.9}
    name, command = f"views-{parts}", f"python train_simclr.py --views {parts}"
    make_run(folder / "simclr" / name, [record], "train_simclr", command, method="simclr")
    rows = [{"label": parts, "metric": "val_linear_accuracy"}]
    return {"name": name, "command": command, "section": "ablations", "rows": rows}


def test_ablations_show_validation_accuracies_apart_from_the_results(page, tmp_path):
    made = page(
        "train_simclr", ablation(tmp_path, "affine", 0.97, 0.98), ablation(tmp_path, "blur", 0.965, 0.985)
    )
    text = ablations_section(made)
    assert "| affine | 97.00 % | 98.00 % |\n| blur | 96.50 % | 98.50 % |" in text
    assert "90.00" not in text  # no test metric chooses anything
    assert results_section(made) == EMPTY


def test_an_ablation_without_its_metric_is_one_line(page, tmp_path):
    experiment = ablation(tmp_path, "affine", 0.97, 0.98)
    path = tmp_path / "simclr" / "views-affine" / "metrics.json"
    path.write_text(path.read_text().replace("val_knn", "val_other"))
    with pytest.raises(UserError, match=r"metrics.json: lacks val_knn_accuracy$"):
        ablations_section(page("train_simclr", experiment))
    assert ablations_section(page("train_simclr")) == EMPTY


# --- Classifiers ---


def test_classifiers_are_shown_with_their_parameters_and_recipes(page, tmp_path):
    make_run(tmp_path / "cnn" / "linear", [{"seed": 0, "test_accuracy": 0.9, "seconds": 1.0}], model="linear")
    text = models_section(page("train_cnn", {"name": "linear", "command": "python train_cnn.py"}))
    head, _, line = text.splitlines()
    assert head == "| model |  | parameters | epochs | batch | peak rate | augmentation |"
    assert line.startswith("| `linear` | A single layer: the encoder only flattens | 7,850 | 15 | 128 |")
    assert models_section(page("train_cnn")) == EMPTY


# --- Ensembles ---


def library_record(gain, p):
    record = {"seed": 0, "members": 10, "train_images": 54000, "test_accuracy": 0.99, "seconds": 60.0}
    for name in COMBINATIONS:
        own = gain if name.startswith("greedy") else 0.0
        values = {"accuracy": 0.99 + own, "gain": own, "mcnemar_p": p, "loss": 0.03, "scaled_loss": 0.02}
        record |= {
            f"{name}_test_{key}": value for key, value in {**values, "ece": 0.01, "scaled_ece": 0.005}.items()
        }
    return {**record, "mean_single_test_accuracy": 0.98, "oracle_test_accuracy": 0.999}


EXPERIMENT = {"name": "ten", "command": "python ensemble.py"}


def test_combinations_show_ranges_gains_and_the_paired_test(page, tmp_path):
    records = [library_record(0.001, 0.04), library_record(0.002, 0.5)]
    make_run(tmp_path / "ensemble" / "ten", records, "ensemble", sources=["a"], val_fraction=0.1)
    (row,) = page("ensemble", EXPERIMENT).rows
    lines = combinations_table(row).splitlines()
    greedy = "| greedy by loss | 99.10 to 99.20 % | +0.150 | 0.04, 0.5 | 0.0300 | 0.0100 | 0.0200 | 0.0050 |"
    assert greedy in lines
    assert "| plain average | 99.00 % |  |  | 0.0300 | 0.0100 | 0.0200 | 0.0050 |" in lines
    assert "| mean single | 98.00 % | -1.000 |  |  |  |  |  |" in lines
    assert "| any member right | 99.90 % | +0.900 |  |  |  |  |  |" in lines


def test_a_library_without_validation_images_shows_what_chooses_nothing(page, tmp_path):
    choosing = ("best_single", "greedy", "bagged")
    whole = library_record(0, 1).items()
    record = {key: v for key, v in whole if not key.startswith(choosing) and "scaled" not in key}
    record |= {"train_images": 60000, "val_images": 0}
    make_run(tmp_path / "ensemble" / "ten", [record], "ensemble", sources=["a"], val_fraction=0.1)
    (row,) = page("ensemble", EXPERIMENT).rows
    assert row.data == "60,000 labelled"
    head, _, *lines = combinations_table(row).splitlines()
    assert head == "| combination | accuracy | gain | p | loss | ECE |"
    names = [line.split(" | ")[0] for line in lines[:5]]
    assert names[:3] == ["| plain average", "| average of logits", "| majority vote"]
    assert names[3:] == ["| mean single", "| any member right"]
    assert "temperature" not in lines[-1]


def test_a_combination_without_its_metric_is_one_line(page, tmp_path):
    make_run(tmp_path / "ensemble" / "ten", [{**library_record(0, 1)}], "ensemble", sources=["a"])
    path = tmp_path / "ensemble" / "ten" / "metrics.json"
    path.write_text(path.read_text().replace("vote_test_ece", "other"))
    (row,) = page("ensemble", EXPERIMENT).rows
    with pytest.raises(UserError, match=r"metrics.json: lacks vote_test_ece$"):
        combinations_table(row)


# --- Sweeps ---

MEANS = {("mean", 50): 0.8, ("mean", 100): None, ("attention", 50): 0.95, ("attention", 100): 0.98}
PUBLISHED = {
    "task": "50 training bags, theirs",
    "metric": "auc",
    "value": 0.931,
    "source": "A paper",
    "url": "u",
    "marks": ["protocol"],
    "verified": False,
}


def sweep(name, **more):
    return {"name": name, "command": "python train_mil.py --sweep 50,100 --runs 2", **more}


def test_a_sweep_is_a_table_of_methods_by_training_bags(page, tmp_path):
    make_sweep(tmp_path / "mil" / "sweep", MEANS)
    (tmp_path / "mil" / "sweep" / "auc.png").write_bytes(b"figure")
    made = page("train_mil", sweep("sweep", references=["paper"]), paper=PUBLISHED)
    text = sweeps_section(made)
    assert "**Is there a 9? Balanced bags of 10 ± 2 digits**: test AUC" in text
    assert "| training bags | 50 | 100 |" in text
    assert "| mean, n = 2 | 0.8000 ± 0.0014 |  |" in text
    assert "| attention, n = 2 | 0.9500 ± 0.0014 | 0.9800 ± 0.0014 |" in text
    assert "| theirs, [A paper](u) | 0.931 § |  |" in text
    assert "the epoch is chosen on 200 validation bags; recipe: 16 bags a step, 1,800 an epoch." in text
    assert text.endswith("![AUC, sweep](sweep/auc.png)")
    assert results_section(made) == EMPTY


def test_sweeps_of_the_same_bags_share_a_table_and_other_bags_have_their_own(page, tmp_path):
    make_sweep(tmp_path / "mil" / "sweep", {("mean", 50): 0.8})
    make_sweep(tmp_path / "mil" / "last", {("mean", 100): 0.85}, val_bags=0)
    make_sweep(tmp_path / "mil" / "long", {("mean", 100): 0.9}, mean_length=50, std_length=10, batch_size=8)
    text = sweeps_section(page("train_mil", sweep("sweep"), sweep("last"), sweep("long")))
    short, long = text.split("**Is there a 9? Balanced bags of 50 ± 10 digits**")
    assert "| mean, n = 2 | 0.8000 ± 0.0014 |  |\n| mean, last epoch, n = 2 |  | 0.8500 ± 0.0014 |" in short
    assert "Last epoch: without validation bags; the epoch is chosen on 200 validation bags" in short
    assert "recipe: 8 bags a step, 1,800 an epoch" in long


def test_runs_show_how_well_they_find_the_digits_that_count(page, tmp_path):
    record = {"seed": 0, "test_auc": 0.98, "test_key_auc": 0.9, "test_instance_auc": 0.95, "seconds": 1.0}
    arguments = {"method": "max", "train_bags": 50, "builder": "balanced"}
    make_run(tmp_path / "mil" / "few", [record], "train_mil", **arguments)
    made = page("train_mil", {"name": "few", "command": "python train_mil.py"})
    assert found_digits_section(made).endswith("| few: max, n = 1 | 0.9000 | 0.9500 |")
    assert found_digits_section(page("train_mil")) == EMPTY


def test_a_shortcut_sweep_has_a_table_of_its_own(page, tmp_path):
    folder = tmp_path / "mil" / "shortcut"
    make_sweep(folder, {("mean", 200): 0.8, ("max", 200): 0.9}, builder="shortcut", shortcut=0)
    with pytest.raises(
        UserError, match=r"sweep.json: lacks test_clean_auc, test_both_auc, test_poisoned_auc$"
    ):
        shortcut_section(page("train_mil", sweep("shortcut")))
    content = json.loads((folder / "sweep.json").read_text())
    for made in content["cells"]:
        for values in (*made["runs"], made["mean"], made["std"]):
            values |= {f"test_{kind}_auc": 0.25 for kind in ("clean", "both", "poisoned")}
    (folder / "sweep.json").write_text(json.dumps(content))
    made = page("train_mil", sweep("shortcut"))
    text = shortcut_section(made)
    assert "**Is there a 9? One more 0 in:** test AUC" in text
    assert "| mean, n = 2 | 0.8000 ± 0.0014 | 0.2500 ± 0.0000 | 0.2500 ± 0.0000 |" in text
    assert "200 training bags; the epoch is chosen on 200 validation bags" in text
    assert "(shortcut/auc.png)" in text
    assert sweeps_section(made) == EMPTY
    assert shortcut_section(page("train_mil")) == EMPTY


def test_an_unfinished_sweep_says_so(page, tmp_path):
    make_sweep(tmp_path / "mil" / "sweep", MEANS)
    path = tmp_path / "mil" / "sweep" / "sweep.json"
    path.write_text(path.read_text().replace('"trainings": [8, 8]', '"trainings": [8, 40]'))
    assert "sweep is not finished: 8 of 40 trainings" in sweeps_section(page("train_mil", sweep("sweep")))
    assert sweeps_section(page("train_mil")) == EMPTY


# --- Few labels ---

STUDIED = {("pixels-knn", 10): 0.5, ("pixels-knn", 100): 0.7, ("simclr-self_trained", 100): 0.98}


def study(name, **more):
    return {"name": name, "command": "python train_few_labels.py", **more}


def test_a_study_is_a_table_of_methods_by_labels_with_the_worst_draw(page, tmp_path):
    make_study(tmp_path / "few_labels" / "hundred", STUDIED)
    make_study(tmp_path / "few_labels" / "none", {("simclr-clusters", 0): 0.9})
    make_sweep(tmp_path / "mil" / "sweep", MEANS)
    experiments = [study("hundred"), study("none"), sweep("sweep")]
    text = study_section(page("train_few_labels", *experiments))
    assert "| labels in all | 0 | 10 | 100 |" in text
    assert "| pixels, knn |  | 50.00 ± 1.41 % (2) | 70.00 ± 1.41 % (2) |" in text
    assert "| simclr, clusters | 90.00 ± 1.41 % (2) |  |  |" in text
    draws = [line for line in text.splitlines() if "2 draws" in line]
    assert draws[0].startswith(
        "| simclr, self trained | 98.00 ± 1.41 % | 97.00 % | 99.00 % | 2 draws | ≤ 50 s"
    )
    assert draws[1].startswith("| pixels, knn | 70.00 ± 1.41 %")
    assert "simclr" not in sweeps_section(page("train_mil", *experiments))


def test_of_overlapping_sweeps_the_cell_with_more_draws_is_shown(page, tmp_path):
    for name, accuracy in (("many", 0.7), ("one", 0.6)):
        make_study(tmp_path / "few_labels" / name, {("mlp1", 100): accuracy})
    path = tmp_path / "few_labels" / "one" / "sweep.json"
    content = json.loads(path.read_text())
    content["cells"][0]["runs"].pop()
    path.write_text(json.dumps(content))
    for names in (("many", "one"), ("one", "many")):
        text = study_section(page("train_few_labels", *map(study, names)))
        assert "| mlp1 | 70.00 ± 1.41 % (2) |" in text
        assert "60.00" not in text


def test_an_unfinished_study_says_so_and_none_is_empty(page, tmp_path):
    make_study(tmp_path / "few_labels" / "hundred", STUDIED)
    path = tmp_path / "few_labels" / "hundred" / "sweep.json"
    path.write_text(path.read_text().replace('"trainings": [6, 6]', '"trainings": [6, 8]'))
    assert "hundred is not finished: 6 of 8 trainings." in study_section(
        page("train_few_labels", study("hundred"))
    )
    assert study_section(page("train_few_labels")) == EMPTY


def test_rows_of_a_study_name_labels_draws_and_the_encoder_s_time(page, tmp_path):
    make_study(tmp_path / "few_labels" / "hundred", {**STUDIED, ("simclr-clusters", 0): 0.9})
    record = {
        "seed": 0,
        "test_accuracy": 0.9,
        "test_knn_accuracy": 0.9,
        "train_images": 54000,
        "seconds": 600.0,
    }
    make_run(tmp_path / "simclr" / "stroke", [record], "train_simclr", method="simclr")
    cells = [{"cell": {"method": method, "labels": labels}} for method, labels in STUDIED]
    cells.append({"cell": {"method": "simclr-clusters", "labels": 0}})
    rows = page("train_few_labels", study("hundred", rows=cells)).rows
    assert [row.data for row in rows[1:]] == ["100 labelled, 53,900 unlabelled"] * 2 + ["54,000 unlabelled"]
    assert [row.number.samples for row in rows[1:]] == ["2 draws", "2 draws", "2 runs"]
    assert [row.time.seconds for row in rows] == [50, 50, 650, 650]
    both = "simclr=results/simclr/stroke/encoder.pt+results/simclr/stroke/encoder.pt"
    make_study(tmp_path / "few_labels" / "hundred", STUDIED, encoders=[both])
    assert page("train_few_labels", study("hundred", rows=cells[:3])).rows[2].time.seconds == 1250
