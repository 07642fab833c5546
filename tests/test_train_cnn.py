"""train_cnn.py end to end: on tiny data on the CPU, and, marked slow, its accuracy on the real MNIST."""

import contextlib
import io
import os

import numpy as np
import pytest
import torch
from helpers import FACTS, base_flags, equal_weights, refusal, run_two_ranks, without_seconds

import train_cnn
from data import load
from models import create, load_encoder, read_model, save_model
from models.triplet import TRIPLET_ENCODERS
from utils.runs.folder import RunFolder

FILES = {"config.json", "history.jsonl", "metrics.json", "predictions.npz", "best.pt", "last.pt"}
FILES |= {"curves.png", "confusion.png", "mistakes.png"}


def flags(data, results, *more):
    """The smallest useful training: a linear model on 200 images."""
    small = ("--model", "linear", "--epochs", "2", "--batch-size", "32", "--lr", "0.01")
    return base_flags(data, results, *small, *more)


LENET = ("--model", "lenet", "--epochs", "3", "--patience", "2")


@pytest.fixture(scope="module")
def lenet(tmp_path_factory, tiny_dir):
    """A run of lenet with its figures: its metrics, its folder, what it printed."""
    results, output = tmp_path_factory.mktemp("lenet"), io.StringIO()
    with contextlib.redirect_stdout(output):
        metrics = train_cnn.main(flags(tiny_dir, results, *LENET))
    return metrics, RunFolder(results / "cnn" / "lenet"), output.getvalue()


def test_a_run_writes_all_its_files(lenet):
    metrics, run, output = lenet
    assert set(os.listdir(run.folder)) == FILES
    (record,) = metrics["runs"]
    assert record["train_images"] == 180
    assert 0 <= record["test_accuracy_low"] <= record["test_accuracy"] <= record["test_accuracy_high"] <= 1
    assert len(record["test_recall"]) == len(record["test_precision"]) == 10
    assert [line["epoch"] for line in run.history()] == [1, 2, 3]
    keys = {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds"}
    assert keys <= set(run.history()[0])
    assert f"test accuracy {100 * record['test_accuracy']:.2f} % (95 % interval " in output
    assert str(run.folder) in output


def test_metrics_follow_from_the_predictions_and_those_from_the_saved_model(lenet, tiny_dir):
    metrics, run, _ = lenet
    predictions, (train_set, test_set) = run.predictions(), load("mnist", tiny_dir)
    assert np.array_equal(predictions["test_labels"], test_set.labels.numpy())
    assert np.array_equal(predictions["val_labels"], train_set.labels[predictions["val_indices"]].numpy())
    # Ten classes, argmax: not "is it a 1?".
    right = predictions["test_probabilities"].argmax(1) == predictions["test_labels"]
    assert metrics["runs"][0]["test_accuracy"] == right.mean()
    saved = read_model(run.path("best.pt"))
    assert (saved.name, saved.options) == ("lenet", {"num_classes": 10, "directions": 30})
    calibration = saved.data.pop("calibration")
    assert set(calibration) == {"temperature", "least_confidence", "least_evidence"}
    assert saved.data == train_set.description
    x = test_set.normalise(test_set.images.float() / 255)
    with torch.no_grad():
        probabilities = saved.model.eval()(x).softmax(1).numpy()
        assert torch.equal(saved.model.encoder(x), load_encoder(run.path("best.pt")).eval()(x))
    np.testing.assert_allclose(probabilities, predictions["test_probabilities"], atol=1e-5)


def test_permuted_test_labels_change_no_weight(tmp_path, tiny_dir, permuted_test_labels, no_figures, lenet):
    permuted = train_cnn.main(flags(tiny_dir, tmp_path, *LENET))["runs"][0]
    plain, run = lenet[0]["runs"][0], lenet[1]
    assert equal_weights(tmp_path / "cnn" / "lenet" / "best.pt", run.path("best.pt"))
    assert plain["best_epoch"] == permuted["best_epoch"]
    assert plain["test_accuracy"] != permuted["test_accuracy"]


def test_runs_are_seeds_and_ranks_share_them_out(tmp_path, tiny_dir, no_figures):
    runs = ("--runs", "2", "--seed", "5", "--name", "run")
    metrics = train_cnn.main(flags(tiny_dir, tmp_path, *runs))
    folder = tmp_path / "cnn" / "run"
    assert [run["seed"] for run in metrics["runs"]] == [5, 6]
    assert not equal_weights(folder / "seed-5" / "best.pt", folder / "seed-6" / "best.pt")
    # The first of several runs is what the same seed gives alone.
    alone = train_cnn.main(flags(tiny_dir, tmp_path, "--seed", "5"))
    assert without_seconds(alone) == without_seconds(metrics)[:1]
    run_two_ranks("train_cnn", flags(tiny_dir, tmp_path / "two", *runs))
    two = RunFolder(tmp_path / "two" / "cnn" / "run").read_json("metrics.json")
    assert without_seconds(two) == without_seconds(metrics)


def test_a_saved_encoder_is_tuned_from_a_probe(tmp_path, tiny_dir, no_figures, capsys):
    tuned, fresh = (
        train_cnn.main(base_flags(tiny_dir, tmp_path, "--epochs", "1", "--batch-size", "90", *how))
        for how in (("--encoder", "simclr"), ("--model", "fast"))
    )
    assert tuned["mean"]["test_accuracy"] > max(0.9, fresh["mean"]["test_accuracy"] + 0.2)
    run = RunFolder(tmp_path / "cnn" / "fast-tuned")
    arguments = run.read_json("config.json")["arguments"]
    assert (arguments["encoder"], arguments["model"], arguments["lr"]) == ("simclr", "fast", 1e-3)
    saved = read_model(run.path("best.pt"))
    assert (saved.name, saved.options) == ("fast", {"num_classes": 10, "directions": 32})
    siamese = tmp_path / "siamese.pt"
    save_model(siamese, create("siamese", 0, TRIPLET_ENCODERS), "siamese", FACTS, num_classes=0)
    for wrong, said in (
        (["--encoder", "simclr", "--model", "fast"], "leave out --model"),
        (["--encoder", str(siamese)], "siamese is no network of a classifier"),
    ):
        assert said in refusal(train_cnn.main, base_flags(tiny_dir, tmp_path, *wrong), capsys)


def test_with_a_teacher_all_images_are_trained_on_and_another_teacher_gives_other_weights(
    tmp_path, tiny_dir, no_figures, lenet
):
    file, weights = lenet[1].path("best.pt"), []
    for number, teachers in enumerate((str(file), f"{file},classifier", None)):
        taught = ("--teacher", teachers) if teachers else ("--val-fraction", "0")
        (record,) = train_cnn.main(flags(tiny_dir, tmp_path, *taught, "--name", f"run{number}"))["runs"]
        assert (record["train_images"], record["best_epoch"]) == (200, 2)
        assert not any(key.startswith("val_") for key in record)
        weights.append(tmp_path / "cnn" / f"run{number}" / "best.pt")
    assert not any(equal_weights(weights[i], weights[j]) for i, j in ((0, 1), (1, 2), (0, 2)))


# --- Bad input ---


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--val-fraction", "0.99"], "cannot split"),
        (["--val-fraction", "0", "--patience", "2"], "--val-fraction above 0"),
        (["--folds", "50"], "cannot split"),
        (["--teacher", "classifier", "--val-fraction", "0.1"], "may have seen any training image"),
        (["--teacher", "classifier", "--folds", "3"], "may have seen any training image"),
        (["--teacher", "simclr"], "--teacher simclr: no classifier of images like those of mnist"),
        (["--teacher", "nowhere.pt"], "nowhere.pt: no such file"),
        (["--folds", "3", "--runs", "2"], "can't be combined"),
        (["--split", "writers"], "only MNIST's writers are known"),
        (["--data-dir", "/dev/null/nowhere"], "--dataset mnist-5k"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, tiny_dir, capsys, wrong, said):
    assert said in refusal(train_cnn.main, flags(tiny_dir, tmp_path, *wrong), capsys)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "more", "least"),
    [
        # Below what these commands give with any seed, above what a broken loop gives.
        ("linear", ["--epochs", "4"], 0.918),
        ("fast", [], 0.988),
        ("lenet", ["--epochs", "2"], 0.985),
    ],
)
def test_accuracy_on_the_real_mnist(tmp_path, mnist_dir, model, more, least):
    argv = ["--data-dir", str(mnist_dir), "--results-dir", str(tmp_path), "--model", model, *more]
    metrics = train_cnn.main(argv)
    assert metrics["mean"]["test_accuracy"] >= least
