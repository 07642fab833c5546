"""robustness.py end to end on tiny images: its files, equal seeds, what it refuses."""

import os
import re

import numpy as np
import pytest
import torch
from helpers import FACTS, refusal

import robustness
from data import ImageSet
from data.robustness import CORRUPTIONS, LABEL_ERRORS, LEVELS
from evaluation.robustness import judge_labels
from models import create, save_model
from utils.runs.folder import RunFolder


@pytest.fixture
def models(tmp_path):
    """The value of --models: a classifier, a run of two trainings, and an encoder."""
    for seed, name in enumerate(("one.pt", "run/seed-0/best.pt", "run/seed-1/best.pt")):
        torch.manual_seed(seed)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        save_model(tmp_path / name, create("linear"), "linear", FACTS)
    save_model(tmp_path / "encoder.pt", create("linear", 0), "linear", FACTS, num_classes=0)
    return [f"one={tmp_path}/one.pt", f"two={tmp_path}/run", f"encoder={tmp_path}/encoder.pt"]


def flags(data, results, *more):
    return ["--data-dir", str(data), "--results-dir", str(results), "--device", "cpu", "--quiet", *more]


def test_a_run_writes_its_files_and_is_repeatable(tmp_path, tiny_dir, models, capsys, monkeypatch):
    argv = flags(tiny_dir, tmp_path / "r", "--images", "20", "--baseline", "two", "--models", *models)
    metrics = robustness.main(argv)
    folder = tmp_path / "r" / "robustness" / "models"
    files = {"config.json", "history.jsonl", "metrics.json", "predictions.npz", "errors.png", "examples.png"}
    assert set(os.listdir(folder)) == files  # no labels.png: these are not MNIST's labels
    (record,) = metrics["runs"]
    assert record["corrupted_images"] == 20
    assert [record[f"{name}_trainings"] for name in ("one", "two", "encoder")] == [1, 2, 1]
    assert record["two_mce"] == pytest.approx(1)
    assert len(record["encoder_errors"]) == len(CORRUPTIONS) * LEVELS
    assert record["one_corrupted_accuracy"] == pytest.approx(1 - np.mean(record["one_errors"]), abs=1e-5)
    saved = RunFolder(folder).predictions()
    assert saved["two_probabilities"].shape == (2, 100, 10)
    right = (saved["one_probabilities"].argmax(2) == saved["labels"]).mean()
    assert record["one_accuracy"] == pytest.approx(right)
    told = capsys.readouterr().out
    assert "against two" in told
    assert "20 corrupted images" in told
    monkeypatch.setattr(robustness, "plot_figures", lambda *args: None)
    other = robustness.main([*argv[:-3], *models[:2], "--name", "other", "--seed", "1"])["runs"][0]
    assert other["two_errors"] != record["two_errors"]
    # Equal seeds give equal results, and a finished run resumes to itself.
    again = [*argv[:-3], models[1], "--trainings", "1", "--name", "again"]
    first = robustness.main(again)
    assert first["runs"][0]["two_trainings"] == 1
    for key in ("two_accuracies", "two_corrupted_accuracies"):
        assert first["runs"][0][key] == record[key][:1]
    monkeypatch.setattr("evaluation.robustness.score_models", lambda *args: pytest.fail("scored again"))
    assert robustness.main([*again, "--resume"]) == first
    unknown = robustness.main(
        flags(tiny_dir, tmp_path / "r", "--unknown", "--models", *models[:2], "--name", "u")
    )
    kinds = "letters", "symbols", "noise"
    scores = "logit", "energy", "entropy", "distance", "evidence"
    names = {f"one_{kind}_{score}_auc" for kind in kinds for score in scores}
    assert {key for key in unknown["mean"] if key.startswith("one") and key.endswith("auc")} == names
    assert "two_noise_disagreement_auc" in unknown["mean"]
    assert "corrupted" not in capsys.readouterr().out.splitlines()[-1]


def test_the_disputed_labels_are_described(tmp_path, monkeypatch):
    labels = np.zeros(10000, int)
    labels[list(LABEL_ERRORS)] = [review.given for review in LABEL_ERRORS.values()]
    p = np.eye(10)[labels]
    p[947], p[5] = np.eye(10)[9], 0.6 * np.eye(10)[3] + 0.04
    pixels = torch.arange(10000).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    test_set = ImageSet(pixels, torch.from_numpy(labels), 0.1, 0.3)
    drawn = []
    monkeypatch.setattr("utils.plots.robustness.plot_labels", lambda *arguments: drawn.append(arguments))
    robustness.plot_labels(RunFolder(tmp_path), judge_labels({"one": p[None]}, labels), test_set)
    (shared, _, title, _), (top, *_) = drawn
    assert [tile[1:] for tile in shared] == [("label 8\nread as 9", True), ("label 0\nread as 3", False)]
    assert int(shared[1][0][0, 0]) == 5
    assert title.startswith("2 of 10,000 test digits are misread by all 1 good models\n")
    assert len(top) == 15
    assert top[0][1:] == ("label 8, people 9\nmodels 9, 100%", True)
    assert top[3][1:] == ("label 4, people ?\nmodels 4, 100%", False)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--models", "lenet.pt"], "expected NAME=FILE"),
        (["--models", "a=ONE", "a=ONE"], "names a twice"),
        (["--models", "a=ONE", "a_corrupted=ONE"], "rename a_corrupted"),
        (["--models", "a=ONE", "--baseline", "b"], "choose from a"),
        (["--models", "a=ENCODER", "--unknown"], "not a classifier"),
        (["--models", "a=ONE", "--images", "101"], "there are 100 test images"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(
    tmp_path, tiny_dir, models, capsys, wrong, said
):
    wrong = [re.sub("=([A-Z]+)", lambda m: f"={tmp_path}/{m[1].lower()}.pt", word) for word in wrong]
    assert said in refusal(robustness.main, flags(tiny_dir, tmp_path / "r", *wrong), capsys)
    assert not (tmp_path / "r").exists()
