"""train_mil.py end to end on tiny bags on the CPU: its files, its sweep, what it refuses."""

import os
import re

import numpy as np
import pytest
import torch
from helpers import FACTS, base_flags, equal_weights, refusal, run_two_ranks

import train_mil
from data import load
from evaluation.mil import predict_bags
from models import create, read_model, save_model
from utils.runs.folder import RunFolder

FILES = {"config.json", "history.jsonl", "metrics.json", "predictions.npz", "best.pt", "last.pt"}
FILES |= {"curves.png", "bags.png"}


def flags(data, results, *more):
    """The smallest useful training: a linear encoder, a dozen short bags."""
    small = ("--epochs", "2", "--batch-size", "4", "--mean-length", "4")
    bags = ("--val-bags", "8", "--test-bags", "12", "--bags-per-epoch", "0")
    more = (*(() if "--sweep" in more else ("--train-bags", "12")), *more)
    more = (*(() if "--encoder" in more else ("--model", "linear")), *more)
    return base_flags(data, results, *small, "--std-length", "1", *bags, *more)


@pytest.fixture(scope="module")
def results(tiny_dir, tmp_path_factory):
    """The folder of results with one run, attention."""
    folder = tmp_path_factory.mktemp("results")
    train_mil.main(flags(tiny_dir, folder))
    return folder


def test_a_run_writes_all_its_files(results, tiny_dir):
    run = RunFolder(results / "mil" / "attention")
    assert set(os.listdir(run.folder)) == FILES
    (record,), saved = run.records(), run.predictions()
    assert record["train_bags"] == 12
    assert {"test_auc", "test_loss", "test_accuracy", "test_key_auc", "val_auc", "threshold"} <= set(record)
    lines = run.history()
    assert [line["epoch"] for line in lines] == [1, 2]
    assert {"train_loss", "val_loss", "val_auc"} <= set(lines[0])
    least = max(line["val_auc"] for line in lines) - train_mil.AUC_ERROR
    assert record["best_epoch"] == [line["epoch"] for line in lines if line["val_auc"] > least][-1]
    right = (saved["test_probabilities"] >= record["threshold"]) == saved["test_labels"]
    assert record["test_accuracy"] == right.mean()
    assert saved["test_labels"].sum() == 6
    assert saved["test_attention"].shape == saved["test_keys"].shape == saved["test_indices"].shape

    model = read_model(run.path("best.pt"))
    assert (model.name, model.options["method"]) == ("linear", "attention")
    data = load("mnist", tiny_dir)
    assert model.data == data[0].description
    args, _ = train_mil.parse(flags(tiny_dir, results))
    train_mil.find_classes(args, tuple("0123456789"))
    predictions = predict_bags(model.model, data[1], train_mil.make_bags(args, data)["test"])
    for name in ("probabilities", "attention"):
        np.testing.assert_allclose(predictions[name], saved[f"test_{name}"], atol=1e-4)


def test_the_three_kinds_of_bags_share_no_image(tiny_dir):
    args, _ = train_mil.parse(flags(tiny_dir, "unused", "--train-bags", "300", "--val-bags", "300"))
    train_mil.find_classes(args, tuple("0123456789"))
    data = load("mnist", tiny_dir)
    train, val, test = train_mil.make_bags(args, data).values()
    assert not set(train.indices.tolist()) & set(val.indices.tolist())
    # Test bags are numbers of test images, of which there are half as many.
    assert int(test.indices.max()) < len(data[1].labels) == 100
    assert torch.equal(test.keys, data[1].labels[test.indices] == 9)


def test_of_several_targets_it_learns_which_one_a_bag_holds(tmp_path, tiny_dir, capsys):
    kind = ("--builder", "exclusive", "--target", "1,4", "--name", "three")
    more = ("--model", "fast", "--train-bags", "60", "--epochs", "8", "--method", "loss-attention")
    metrics = train_mil.main(flags(tiny_dir, tmp_path, *kind, *more, "--test-bags", "60"))
    run = RunFolder(tmp_path / "mil" / "three")
    saved, (record,) = run.predictions(), run.records()
    assert saved["test_probabilities"].shape == (60, 3)
    right = (saved["test_probabilities"].argmax(1) == saved["test_labels"]).mean()
    assert metrics["mean"]["test_accuracy"] == right > 0.6
    assert record["test_key_auc"] > 0.7
    assert record["test_loss"] == pytest.approx(
        -np.log(saved["test_probabilities"][np.arange(60), saved["test_labels"]]).mean(), abs=1e-4
    )
    assert "test_auc" not in record
    assert f"test accuracy {100 * right:.2f}" in capsys.readouterr().out
    model = read_model(run.path("best.pt")).model
    assert model.head.out_features == 3
    sweep = train_mil.main(flags(tiny_dir, tmp_path, *kind[:4], "--sweep", "9", "--method", "mean"))
    assert "test_accuracy" in sweep["cells"][0]["mean"]


def test_repeats_are_seeds_with_bags_of_their_own(tmp_path, tiny_dir, no_figures, capsys):
    mean = train_mil.main(flags(tiny_dir, tmp_path, "--repeats", "2", "--seed", "5", "--name", "two"))["mean"]
    assert f"test AUC {mean['test_auc']:.4f} ± " in capsys.readouterr().out
    folder = tmp_path / "mil" / "two"
    indices = [RunFolder(folder / f"seed-{s}").predictions()["test_indices"] for s in (5, 6)]
    assert not np.array_equal(*indices)
    train_mil.main(flags(tiny_dir, tmp_path, "--seed", "5", "--bags-seed", "6", "--name", "six"))
    six = RunFolder(tmp_path / "mil" / "six")
    assert np.array_equal(six.predictions()["test_indices"], indices[1])
    assert not equal_weights(six.path("best.pt"), folder / "seed-6" / "best.pt")  # another network
    command = RunFolder(folder).read_json("config.json")["command"]
    assert "--runs 2" in command
    assert "--repeats" not in command  # said once


def test_permuted_test_labels_change_no_weight(results, tmp_path, tiny_dir, no_figures, permuted_test_labels):
    train_mil.main(flags(tiny_dir, tmp_path))
    plain, permuted = (RunFolder(folder / "mil" / "attention") for folder in (results, tmp_path))
    assert equal_weights(plain.path("best.pt"), permuted.path("best.pt"))
    (a,), (b,) = plain.records(), permuted.records()
    assert all(a[key] == b[key] for key in ("best_epoch", "threshold", "val_auc"))
    assert a["test_loss"] != b["test_loss"]


def test_an_encoder_of_another_script_is_fine_tuned_at_a_lower_rate_or_frozen(
    tmp_path, tiny_dir, no_figures, monkeypatch
):
    torch.manual_seed(1)
    save_model(tmp_path / "c.pt", create("fast"), "fast", FACTS)
    before = read_model(tmp_path / "c.pt").model.encoder.state_dict()
    moved = []
    for i, (rate, *how) in enumerate(((1, "--freeze"), (0.01,), (1,))):
        monkeypatch.setattr(train_mil, "ENCODER_RATE", rate)
        more = ("--encoder", str(tmp_path / "c.pt"), "--name", f"run{i}", "--ema", "0", "--epochs", "1")
        train_mil.main(flags(tiny_dir, tmp_path, *more, *how))
        after = read_model(tmp_path / "mil" / f"run{i}" / "best.pt").model.encoder.state_dict()
        moved.append(max(float((after[k] - before[k]).abs().max()) for k in before if k.endswith("weight")))
        if how:
            assert all(torch.equal(after[k], before[k]) for k in before)
    assert moved[0] == 0 < moved[1] < moved[2] / 10


def test_without_validation_bags_the_last_epoch_and_a_threshold_of_a_half_count(results, tmp_path, tiny_dir):
    train_mil.main(flags(tiny_dir, tmp_path, "--val-bags", "0"))
    run = RunFolder(tmp_path / "mil" / "attention")
    (record,), saved = run.records(), run.predictions()
    assert (record["best_epoch"], record["threshold"], record["val_bags"]) == (2, 0.5, 0)
    assert not any(key.startswith("val_") for line in [saved, *run.history()] for key in line)
    assert record["test_accuracy"] == ((saved["test_probabilities"] >= 0.5) == saved["test_labels"]).mean()
    # Validation bags are not trained on: the weights of the last epoch are the same with them.
    with_val = RunFolder(results / "mil" / "attention").load_checkpoint()["model"]
    assert all(torch.equal(value, with_val[key]) for key, value in run.load_checkpoint()["model"].items())


# --- The sweep ---


def test_a_sweep_is_one_file_and_its_cells_are_the_single_runs(
    tmp_path, tiny_dir, results, monkeypatch, capsys
):
    monkeypatch.setattr(train_mil, "POOLINGS", ("mean", "attention"))
    more = ("--sweep", "12", "--repeats", "2")
    content = train_mil.main(flags(tiny_dir, tmp_path, *more))
    folder = tmp_path / "mil" / "sweep"
    assert set(os.listdir(folder)) == {"config.json", "sweep.json", "records-0.jsonl", "auc.png"}
    assert content == RunFolder(folder).read_json("sweep.json")
    *_, row, last = capsys.readouterr().out.splitlines()
    assert re.match(r"attention +12 +\d\.\d{4} ± \d\.\d{4}  [\d.]+ ± [\d.]+ %  \d\.\d{4}$", row)
    assert last.endswith(f"figures and metrics in {folder}/")
    cells = {(cell["method"], cell["train_bags"]): cell for cell in content["cells"]}
    assert list(cells) == [("mean", 12), ("attention", 12)]
    cell = cells["attention", 12]
    (alone,) = RunFolder(results / "mil" / "attention").records()
    assert alone["test_auc"] == pytest.approx(cell["runs"][0]["test_auc"], abs=1e-5)  # six digits are kept


def test_two_ranks_share_a_sweep_out(tmp_path, tiny_dir, no_figures):
    argv = ("--sweep", "4,6", "--epochs", "1", "--method", "mean", "--builder", "shortcut")
    one = train_mil.main(flags(tiny_dir, tmp_path / "one", *argv))
    run_two_ranks("train_mil", flags(tiny_dir, tmp_path / "two", *argv))
    folder = tmp_path / "two" / "mil" / "sweep"
    assert [len((folder / f"records-{rank}.jsonl").read_text().splitlines()) for rank in (0, 1)] == [1, 1]
    cells = RunFolder(folder).read_json("sweep.json")["cells"]
    assert (folder / "auc.png").exists()
    for ours, theirs in zip(cells, one["cells"], strict=True):
        for name in ("test_auc", "test_clean_auc", "test_both_auc", "test_poisoned_auc"):
            assert ours["mean"][name] == theirs["mean"][name]


@pytest.mark.parametrize(("target", "shortcut"), [("9", 0), ("0", 1)])
def test_the_shortcut_is_the_first_class_but_the_target(target, shortcut):
    args, _ = train_mil.parse(["--builder", "shortcut", "--target", target])
    train_mil.find_classes(args, tuple("0123456789"))
    assert (args.target, args.shortcut) == (int(target), shortcut)
    assert "methods" not in args  # of a sweep alone: a run is resumed also after a pooling was added


# --- Bad input ---


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--target", "10"], "no such class; choose from 0, 1,"),
        (["--target", "1,4"], "--builder exclusive needs several"),
        (["--builder", "exclusive", "--target", "4"], "--builder exclusive needs several"),
        (["--builder", "exclusive", "--target", "1,4", "--method", "instance-max"], "one logit"),
        (["--val-bags", "1"], "0 or at least 2"),
        (["--val-bags", "0", "--schedule", "plateau"], "--val-bags above 0"),
        (["--builder", "natural", "--mean-length", "100"], "all or none of the 8 val bags"),
        (["--freeze"], "needs --encoder"),
        (["--encoder", "x.pt", "--model", "fast"], "leave out --model"),
        (["--sweep", "--train-bags", "9"], "leave out --train-bags"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(tmp_path, tiny_dir, capsys, wrong, said):
    assert said in refusal(train_mil.main, flags(tiny_dir, tmp_path, *wrong), capsys)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_auc_on_the_real_mnist(tmp_path, mnist_dir):
    argv = ["--data-dir", str(mnist_dir), "--results-dir", str(tmp_path), "--method", "loss-attention"]
    metrics = train_mil.main([*argv, "--bags-per-epoch", "600"])
    # Below what these commands give with any seed, above what a broken loop gives.
    assert metrics["mean"]["test_auc"] >= 0.96
