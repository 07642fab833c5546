"""train_moco.py end to end on tiny data on the CPU."""

import json
import subprocess
import sys

import pytest
import torch
from helpers import ROOT

import train_moco
from data import load, split
from evaluation.few_labels import scorers as few_labels
from models import load_encoder
from utils.runs.folder import RunFolder

FILES = {
    *("config.json", "history.jsonl", "metrics.json", "predictions.npz", "encoder.pt", "last.pt"),
    *("map.csv", "curves.png", "views.png", "neighbours.png", "map.png"),
}


def flags(data, results, *more):
    """Pre-train the smallest convolutional encoder on 180 images: 100 keys, batches of 45."""
    return [
        *("--data-dir", str(data), "--results-dir", str(results), "--device", "cpu", "--precision", "fp32"),
        *("--encoder", "fast", "--epochs", "2", "--batch-size", "45", "--queue", "100", "--draws", "1"),
        *("--quiet", *more),
    ]


@pytest.fixture
def short(monkeypatch):
    """Fine-tuning of one epoch of a few images."""
    monkeypatch.setattr(few_labels, "FINETUNE", few_labels.FINETUNE | {"epochs": 1})
    monkeypatch.setattr(few_labels, "FINETUNE_IMAGES", 64)


def test_a_run_writes_all_its_files_and_scores(tmp_path, tiny_dir, short, capsys):
    metrics = train_moco.main(flags(tiny_dir, tmp_path))
    folder = tmp_path / "moco" / "moco"
    assert {path.name for path in folder.iterdir()} == FILES
    assert "linear" in capsys.readouterr().out
    record = metrics["runs"][0]
    for what in ("knn", "linear", "finetuned", "head_knn", "random_linear", "spread_10", "finetuned_10"):
        assert 0.1 <= record[f"test_{what}_accuracy"] <= 1
    assert record["train_images"] == 180
    history = RunFolder(folder).history()
    watched = ("loss", "contrastive_accuracy", "batch_accuracy", "alignment", "uniformity")
    assert {f"train_{name}" for name in watched} <= set(history[0])
    assert "val_knn_accuracy" in history[-1]
    assert load_encoder(folder / "encoder.pt")(torch.zeros(2, 1, 28, 28)).shape == (2, 64)


def test_more_training_lowers_the_loss(tmp_path, tiny_dir):
    easy = ("--epochs", "10", "--views", "affine", "--strength", "0.3", "--splits", "1")
    args, *_ = train_moco.parse(flags(tiny_dir, tmp_path, *easy))
    data, run = load("mnist", tiny_dir), RunFolder(tmp_path)
    model, _ = train_moco.pretrain(args, data[0], split(data[0].labels, 0.1, 0), 0, run)
    history = run.history()
    # With few keys in the queue the first epoch is easy, hence the second one.
    assert history[-1]["train_loss"] < history[1]["train_loss"]
    assert history[-1]["train_contrastive_accuracy"] > history[1]["train_contrastive_accuracy"]
    assert int(model.pointer) == 10 * 180 % 100


def test_a_stopped_run_resumes_in_the_middle_of_the_queue(tmp_path, tiny_dir, monkeypatch):
    """After an epoch of 180 keys the ring of 100 stands at 80; queue, pointer and both networks are exact."""
    data = load("mnist", tiny_dir)
    splits = split(data[0].labels, 0.1, 0)

    def train(name):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        args, *_ = train_moco.parse(flags(tiny_dir, tmp_path, "--epochs", "3"))
        return train_moco.pretrain(args, data[0], splits, 0, RunFolder(folder))[0].state_dict()

    whole = train("one")
    save = RunFolder.save_checkpoint

    def save_then_stop(self, state):
        save(self, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "save_checkpoint", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        train("two")
    monkeypatch.setattr(RunFolder, "save_checkpoint", save)
    saved = RunFolder(tmp_path / "two").load_checkpoint()["model"]
    assert int(saved["pointer"]) == 80
    resumed = train("two")
    assert int(resumed["pointer"]) == 3 * 180 % 100
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_resnet50_runs_dry(tmp_path, tiny_dir, monkeypatch):
    """Up to its saved file: on a CPU its evaluation takes minutes."""

    class Saved(Exception):
        pass

    def evaluate_encoder(encoder, *_):
        assert encoder.name == "resnet50"
        raise Saved

    monkeypatch.setattr(train_moco, "evaluate_encoder", evaluate_encoder)
    monkeypatch.setattr(train_moco, "watch_knn", lambda *_: None)
    how = ("--encoder", "resnet50", "--dry-run", "--batch-size", "4", "--splits", "2")
    with pytest.raises(Saved):
        train_moco.main(flags(tiny_dir, tmp_path, *how))
    folder = RunFolder(tmp_path / "moco" / "dry-run")
    assert load_encoder(folder.path("encoder.pt")).num_features == 2048
    assert "train_loss" in folder.history()[0]


def test_two_ranks_train_one_encoder_together(tmp_path, tiny_dir, short):
    """The same features as one process, from half of each batch of 44 and of its four groups."""
    how = ("--dry-run", "--batch-size", "44", "--views", "affine")
    train_moco.main(flags(tiny_dir, tmp_path / "one", *how))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train_moco.py"]
    command = [sys.executable, *torchrun, *flags(tiny_dir, tmp_path / "two", *how), "--unverified"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    one, two = (RunFolder(tmp_path / x / "moco" / "dry-run") for x in ("one", "two"))
    assert len(two.history()) == len(one.history()) == 1
    for key in ("train_alignment", "train_uniformity", "train_batch_accuracy"):
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
def test_bad_input_ends_with_one_line_and_code_2(tmp_path, tiny_dir, wrong, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        train_moco.main(flags(tiny_dir, tmp_path, *wrong))
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not any(tmp_path.iterdir())


def test_the_recorded_command_names_what_was_given(tmp_path, tiny_dir, short):
    train_moco.main(flags(tiny_dir, tmp_path, "--momentum", "0.9", "--epochs", "1"))
    config = json.loads((tmp_path / "moco" / "moco" / "config.json").read_text())
    assert "--momentum 0.9" in config["command"]
    assert config["arguments"]["splits"] == 4


@pytest.mark.slow
def test_accuracy_of_frozen_features_on_the_real_mnist(tmp_path, mnist_dir):
    args, *_ = train_moco.parse(
        ["--data-dir", str(mnist_dir), "--encoder", "fast", "--epochs", "1", "--quiet"]
    )
    data, run = load("mnist", mnist_dir), RunFolder(tmp_path)
    train_moco.pretrain(args, data[0], split(data[0].labels, 0.1, 0), 0, run)
    assert run.history()[-1]["val_knn_accuracy"] >= 0.96
