"""train_simclr.py and train_moco.py end to end on tiny data on the CPU."""

import os

import numpy as np
import pytest
import torch
from helpers import base_flags, refusal, run_two_ranks

import train_moco
import train_simclr
from data import load, split
from models import load_encoder, read_model
from utils.runs.folder import RunFolder

FILES = {"config.json", "history.jsonl", "metrics.json", "predictions.npz", "encoder.pt", "last.pt"}
FILES |= {"map.csv", "curves.png", "views.png"}


def flags(data, results, *more):
    """Pre-train the smallest convolutional encoder on 180 images."""
    return base_flags(data, results, "--model", "fast", "--epochs", "2", "--batch-size", "45", *more)


@pytest.mark.parametrize("script", [train_simclr, train_moco], ids=lambda script: script.__name__)
def test_a_run_writes_all_its_files_and_scores(tmp_path, tiny_dir, script):
    own = ("--queue", "100") if script == train_moco else ("--head", "mlp3")
    more = ("--seed", "1", "--split-seed", "0", *own)
    (record,) = script.main(flags(tiny_dir, tmp_path, "--name", "run", *more))["runs"]
    run = RunFolder(tmp_path / script.__name__.removeprefix("train_") / "run")
    parts = [] if script == train_moco else ["encoder-1.pt", "encoder-2.pt"]
    assert set(os.listdir(run.folder)) == FILES | set(parts)
    for prefix in ("", "random_", "pixels_"):
        for score in ("knn", "linear"):
            assert 0.1 <= record[f"test_{prefix}{score}_accuracy"] <= 1
    for score in ("kmeans_accuracy", "kmeans_nmi", "kmeans_spread_accuracy"):
        assert 0.1 <= record[f"test_{score}"] <= 1
    assert record["train_images"] == 180
    history = run.history()
    watched = {"loss", "contrastive_accuracy", "alignment", "uniformity"}
    watched |= {"batch_accuracy"} if script == train_moco else set()
    assert {f"train_{name}" for name in watched} <= set(history[0])
    assert ["val_knn_accuracy" in line for line in history] == [False, True]
    arrays = run.predictions()
    _, val = split(load("mnist", tiny_dir)[0].labels, 0.1, 0)
    assert np.array_equal(arrays["val_indices"], val)
    assert arrays["test_probabilities"].shape == (100, 10)
    right = (arrays["test_probabilities"].argmax(1) == arrays["test_labels"]).mean()
    assert record["test_linear_accuracy"] == pytest.approx(right)
    encoder = load_encoder(run.path("encoder.pt"))
    assert encoder(torch.zeros(2, 1, 28, 28)).shape == (2, 64)
    trained = list(torch.load(run.path("last.pt"))["model"].values())  # of the encoder, then of its head
    for layers, part in enumerate((load_encoder(run.path(file)) for file in parts), 1):
        values = list(part.state_dict().values())
        assert len(values) == len(encoder.state_dict()) + 6 * layers
        assert all(map(torch.equal, values, trained))
    saved = read_model(run.path("encoder.pt"))
    assert (saved.name, saved.options) == ("fast", {"num_classes": 0})
    assert saved.data == load("mnist", tiny_dir)[0].description


@pytest.mark.parametrize("script", [train_simclr, train_moco], ids=lambda script: script.__name__)
def test_more_training_lowers_the_loss_and_raises_the_k_nn_accuracy(tmp_path, tiny_dir, script, monkeypatch):
    easy = ("--epochs", "12", "--views", "affine", "--strength", "0.3", "--knn-every", "1")
    queue = ("--queue", "100", "--splits", "1") if script == train_moco else ()
    args, _ = script.parse(flags(tiny_dir, tmp_path, *easy, *queue))
    run = RunFolder(tmp_path)
    scored = {}, {"test_probabilities": torch.zeros(1)}
    monkeypatch.setattr(train_simclr, "evaluate_encoder", lambda *_: scored)
    record = train_simclr.train(args, load("mnist", tiny_dir), {"seed": 0}, run, script.build)
    assert (record["seed"], record["train_images"]) == (0, 180)
    # With few keys in MoCo's queue the first epoch is easy, hence the second one.
    first, last = run.history()[script == train_moco], run.history()[-1]
    assert last["train_loss"] < first["train_loss"] * (1 if script == train_moco else 0.8)
    assert last["train_contrastive_accuracy"] > first["train_contrastive_accuracy"]
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
    assert two.read_json("metrics.json")["mean"].keys() == one.read_json("metrics.json")["mean"].keys()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--queue", "44"], "can't hold the keys of a batch"),
        (["--splits", "23"], "--batch-size of at least 46"),
        (["--schedule", "plateau"], "plateau"),
    ],
)
def test_bad_input_of_moco_ends_with_one_line_and_code_2(tmp_path, tiny_dir, wrong, said, capsys):
    assert said in refusal(train_moco.main, flags(tiny_dir, tmp_path, *wrong), capsys)
    assert not any(tmp_path.iterdir())


# Below what an epoch gives with any seed; a random encoder is worse.
@pytest.mark.slow
@pytest.mark.parametrize(("script", "least"), [(train_simclr, 0.965), (train_moco, 0.96)])
def test_accuracy_of_frozen_features_on_the_real_mnist(tmp_path, mnist_dir, no_figures, script, least):
    argv = ["--data-dir", str(mnist_dir), "--results-dir", str(tmp_path), "--model", "fast"]
    mean = script.main([*argv, "--epochs", "1", "--views", "affine,elastic,blur"])["mean"]
    assert mean["test_knn_accuracy"] >= least
    assert mean["test_knn_accuracy"] > mean["test_random_knn_accuracy"] + 0.03
