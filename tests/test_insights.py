"""insights.py end to end on tiny images: what each question leaves, and what it refuses."""

import csv

import numpy as np
import pytest
from helpers import FACTS, base_flags, refusal

import insights
from models import create, save_model
from utils.runs.folder import RunFolder

LINEAR = ("--networks", "linear", "--folds", "2")


def test_suspects_are_ranked_and_replaced_labels_are_among_them(tiny_dir, tmp_path):
    argv = base_flags(tiny_dir, tmp_path, "--label-errors", "--flip", "0.05", *LINEAR)
    record = insights.main(argv)["runs"][0]
    folder = RunFolder(tmp_path / "insights" / "label-errors")
    saved, lines = folder.predictions(), list(csv.DictReader(folder.path("suspects.csv").open()))
    flipped = np.flatnonzero(saved["train_labels"] != saved["true_labels"])
    assert len(flipped) == record["wrong_labels"] == 10
    train = [line for line in lines if line["part"] == "train"]
    assert len(train) == record["train_disputed"]
    first = [int(line["position"]) for line in train[:10]]
    assert record["precision_at_k"] == np.isin(first, flipped).mean() > 0.5
    assert all(line["label"] == str(saved["train_labels"][int(line["position"])]) for line in train)
    assert {path.name for path in folder.folder.glob("*.png")} == {"suspects-train.png", "suspects-test.png"}


def test_hard_images_and_what_their_halves_teach(tiny_dir, tmp_path):
    save_model(tmp_path / "one.pt", create("linear"), "linear", FACTS)
    files = [f"{name}={tmp_path}/one.pt,{tmp_path}/one.pt" for name in ("cnn_other", "mil")]
    argv = base_flags(tiny_dir, tmp_path, "--hard", "--models", *files, "--epochs", "2", *LINEAR)
    record, folder = insights.main(argv)["runs"][0], tmp_path / "insights" / "hard"
    saved = RunFolder(folder).predictions()
    assert record["linear_accuracy"] == saved["right"][0].mean()
    assert record["linear_held_accuracy"] == saved["agreement"].mean()
    assert record["cnn_alone"] == (saved["right"][0] & ~saved["right"][1]).sum()
    assert np.reshape(record["overlaps"], (3, 3))[1, 2] == 1
    assert np.reshape(record["order_correlations"], (3, 3))[1, 2] == pytest.approx(1)
    assert {path.name for path in folder.glob("*.png")} == {"overlap.png", "hard.png"}
    argv = base_flags(tiny_dir, tmp_path, "--halves", str(folder), "--epochs", "2", *LINEAR)
    metrics = insights.main(argv)["mean"]
    assert {f"linear_{half}_accuracy" for half in ("hardest", "easiest", "random")} < set(metrics)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([], "choose one of"),
        (["--label-errors", "--between", "4,9"], "--between needs --flip"),
        (["--label-errors", "--flip", "0.1", "--between", "4,x"], "no such class"),
        (["--hard", "--models", "sprint=a.pt"], "sprint is the name of two models"),
        (["--halves", "nowhere"], "nowhere/predictions.npz: No such file"),
        (["--hard", "--models", "a=nowhere.pt"], "nowhere.pt"),
        (["--label-errors", "--folds", "99"], "99 folds of a class of"),
    ],
)
def test_bad_input_is_one_line(tiny_dir, tmp_path, capsys, wrong, said):
    assert said in refusal(insights.main, base_flags(tiny_dir, tmp_path, *wrong), capsys)
    assert not list(tmp_path.iterdir())
