"""train_simclr.py end to end on tiny data on the CPU."""

import pytest
import torch
from helpers import base_flags, refusal, run_two_ranks

import train_simclr
from data import load
from models import load_encoder, read_model
from utils.runs.folder import RunFolder
from utils.training.contrastive import pretrain

FILES = {
    *("config.json", "history.jsonl", "metrics.json", "predictions.npz", "encoder.pt", "last.pt"),
    *("map.csv", "curves.png", "views.png"),
}


def flags(data, results, *more):
    """Pre-train the smallest convolutional encoder on 180 images."""
    return base_flags(data, results, "--model", "fast", "--epochs", "2", "--batch-size", "45", *more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_dir):
    """The folder of results of a finished run "run", and its metrics. Read only."""
    results = tmp_path_factory.mktemp("finished")
    return results, train_simclr.main(flags(tiny_dir, results, "--name", "run"))


def test_a_run_writes_all_its_files_and_scores(finished, tiny_dir):
    run = RunFolder(finished[0] / "simclr" / "run")
    assert {path.name for path in run.folder.iterdir()} == FILES
    record = finished[1]["runs"][0]
    for prefix in ("", "head_", "random_", "pixels_"):
        for score in ("knn", "linear"):
            assert 0.1 <= record[f"test_{prefix}{score}_accuracy"] <= 1
    for score in ("kmeans_accuracy", "kmeans_nmi", "kmeans_spread_accuracy", "head_kmeans_accuracy"):
        assert 0.1 <= record[f"test_{score}"] <= 1
    assert record["train_images"] == 180
    history = run.history()
    watched = ("loss", "contrastive_accuracy", "alignment", "uniformity")
    assert {f"train_{name}" for name in watched} <= set(history[0])
    assert ["val_knn_accuracy" in line for line in history] == [False, True]
    arrays = run.predictions()
    assert arrays["test_probabilities"].shape == (100, 10)
    right = (arrays["test_probabilities"].argmax(1) == arrays["test_labels"]).mean()
    assert record["test_linear_accuracy"] == pytest.approx(right)
    encoder = load_encoder(run.path("encoder.pt"))
    assert encoder(torch.zeros(2, 1, 28, 28)).shape == (2, 64)
    saved = read_model(run.path("encoder.pt"))
    assert (saved.name, saved.options) == ("fast", {"num_classes": 0})
    assert saved.data == load("mnist", tiny_dir)[0].description


def test_more_training_lowers_the_loss_and_raises_the_k_nn_accuracy(tmp_path, tiny_dir):
    easy = ("--epochs", "12", "--views", "affine", "--strength", "0.3", "--knn-every", "1")
    args, _ = train_simclr.parse(flags(tiny_dir, tmp_path, *easy))
    run = RunFolder(tmp_path)
    scored = {}, {"test_probabilities": torch.zeros(1)}
    more = train_simclr.build, train_simclr.watch_knn, lambda *_: scored
    record = pretrain(args, load("mnist", tiny_dir), {"seed": 0}, run, *more)
    assert (record["seed"], record["train_images"]) == (0, 180)
    first, *_, last = run.history()
    assert last["train_loss"] < 0.8 * first["train_loss"]
    assert last["val_knn_accuracy"] > first["val_knn_accuracy"] or first["val_knn_accuracy"] == 1


def test_two_ranks_train_one_encoder_together(tmp_path, tiny_dir, no_figures):
    """The same loss of SupCon as in one process, from half of the batch each."""
    more = ("--dry-run", "--method", "supcon")
    train_simclr.main(flags(tiny_dir, tmp_path / "one", *more))
    run_two_ranks("train_simclr", flags(tiny_dir, tmp_path / "two", *more))
    one, two = (RunFolder(tmp_path / x / "simclr" / "dry-run") for x in ("one", "two"))
    assert "--method supcon" in two.read_json("config.json")["command"]
    assert len(two.history()) == len(one.history()) == 1
    for key in ("train_loss", "train_alignment", "train_uniformity"):
        assert two.history()[0][key] == pytest.approx(one.history()[0][key], rel=1e-4)
    a, b = (load_encoder(run.path("encoder.pt")).state_dict() for run in (one, two))
    assert a.keys() == b.keys()
    assert two.read_json("metrics.json")["mean"].keys() == one.read_json("metrics.json")["mean"].keys()


def test_the_method_alone_gives_its_recipe():
    def parsed(*flags):
        return vars(train_simclr.parse(["--device", "cpu", "--precision", "fp32", *flags])[0])

    supcon = parsed("--method", "supcon")
    assert supcon.items() >= train_simclr.SUPCON.items()
    assert parsed().items() >= train_simclr.SIMCLR.items()
    mixed = parsed("--method", "supcon", "--model", "fast", "--ema", "0")
    assert mixed == {**supcon, "model": "fast", "ema": 0}


def test_bad_input_ends_with_one_line_and_code_2(tmp_path, tiny_dir, capsys):
    argv = flags(tiny_dir, tmp_path, "--schedule", "plateau")
    assert "plateau" in refusal(train_simclr.main, argv, capsys)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_accuracy_of_frozen_features_on_the_real_mnist(tmp_path, mnist_dir, no_figures):
    argv = ["--data-dir", str(mnist_dir), "--results-dir", str(tmp_path), "--model", "fast"]
    mean = train_simclr.main([*argv, "--epochs", "1"])["mean"]
    # Below what an epoch gives with any seed; a random encoder is worse.
    assert mean["test_knn_accuracy"] >= 0.965
    assert mean["test_knn_accuracy"] > mean["test_random_knn_accuracy"] + 0.03
