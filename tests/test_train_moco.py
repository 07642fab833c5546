"""train_moco.py end to end on tiny data on the CPU; test_train_simclr.py tests what both scripts share."""

import json

import pytest
import torch
from helpers import base_flags, refusal

import train_moco
from data import load
from models import load_encoder
from utils.runs.folder import RunFolder
from utils.training.contrastive import pretrain


def flags(data, results, *more):
    """Pre-train the smallest convolutional encoder on 180 images: 100 keys, batches of 45."""
    small = ("--model", "fast", "--epochs", "2", "--batch-size", "45", "--queue", "100")
    return base_flags(data, results, *small, *more)


def trained(data_dir, folder, *more):
    """Pre-train without evaluation; return the last checkpoint and the history."""
    folder.mkdir(exist_ok=True)
    args, _ = train_moco.parse(flags(data_dir, folder, *more))
    run = RunFolder(folder)
    without = train_moco.build, lambda *_: None, lambda *_: ({}, {})
    pretrain(args, load("mnist", data_dir), {"seed": 0}, run, *without)
    return run.load_checkpoint()["model"], run.history()


def test_a_run_writes_its_files_and_scores(tmp_path, tiny_dir, capsys):
    metrics = train_moco.main(flags(tiny_dir, tmp_path, "--momentum", "0.9"))
    run, record = RunFolder(tmp_path / "moco" / "moco"), metrics["runs"][0]
    assert {path.name for path in run.folder.glob("*.png")} == {"curves.png", "views.png"}
    assert "linear" in capsys.readouterr().out
    for score in ("knn", "linear", "head_knn", "random_linear", "kmeans_spread"):
        assert 0.1 <= record[f"test_{score}_accuracy"] <= 1
    watched = ("loss", "contrastive_accuracy", "batch_accuracy", "alignment", "uniformity")
    assert {f"train_{name}" for name in watched} <= set(run.history()[0])
    assert "val_knn_accuracy" in run.history()[-1]
    assert load_encoder(run.path("encoder.pt"))(torch.zeros(2, 1, 28, 28)).shape == (2, 64)
    config = json.loads(run.path("config.json").read_text())
    assert "--momentum 0.9" in config["command"]
    assert config["arguments"]["splits"] == 4


def test_more_training_lowers_the_loss(tmp_path, tiny_dir):
    easy = ("--epochs", "10", "--views", "affine", "--strength", "0.3", "--splits", "1")
    state, history = trained(tiny_dir, tmp_path, *easy)
    # With few keys in the queue the first epoch is easy, hence the second one.
    assert history[-1]["train_loss"] < history[1]["train_loss"]
    assert history[-1]["train_contrastive_accuracy"] > history[1]["train_contrastive_accuracy"]
    assert int(state["pointer"]) == 10 * 180 % 100


def test_a_stopped_run_resumes_in_the_middle_of_the_queue(tmp_path, tiny_dir, monkeypatch):
    """After an epoch of 180 keys the ring of 100 stands at 80; queue, pointer and both networks are exact."""
    whole = trained(tiny_dir, tmp_path / "one")[0]
    save = RunFolder.save_checkpoint

    def save_then_stop(self, state):
        save(self, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "save_checkpoint", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        trained(tiny_dir, tmp_path / "two")
    monkeypatch.setattr(RunFolder, "save_checkpoint", save)
    saved = RunFolder(tmp_path / "two").load_checkpoint()["model"]
    assert int(saved["pointer"]) == 80
    resumed = trained(tiny_dir, tmp_path / "two")[0]
    assert int(resumed["pointer"]) == 2 * 180 % 100
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--queue", "44"], "can't hold the keys of a batch"),
        (["--splits", "23"], "--batch-size of at least 46"),
        (["--schedule", "plateau"], "plateau"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(tmp_path, tiny_dir, wrong, said, capsys):
    assert said in refusal(train_moco.main, flags(tiny_dir, tmp_path, *wrong), capsys)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_accuracy_of_frozen_features_on_the_real_mnist(tmp_path, mnist_dir, no_figures):
    argv = ["--data-dir", str(mnist_dir), "--results-dir", str(tmp_path), "--model", "fast"]
    assert train_moco.main([*argv, "--epochs", "1"])["mean"]["test_knn_accuracy"] >= 0.96
