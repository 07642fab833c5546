"""train_cnn.py end to end: on tiny data on the CPU, and, marked slow, its accuracy on the real MNIST."""

import json
import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import no_network, start_script, without_seconds

import train_cnn
from data import DATASETS, load
from models import create, load_encoder, load_model, read_model
from utils.runs.folder import RunFolder
from utils.training import forward
from utils.training.forward import predict

FILES = {
    "config.json",
    "history.jsonl",
    "metrics.json",
    "predictions.npz",
    "best.pt",
    "last.pt",
    "curves.png",
    "confusion.png",
    "mistakes.png",
    "filters.png",
}


@pytest.fixture(autouse=True)
def no_figures(monkeypatch, request):
    """Figures take most of a test's time: they are drawn where a test asks for the fixture `figures`."""
    if "figures" not in request.fixturenames:
        monkeypatch.setattr(train_cnn, "plot_figures", lambda *args: None)


@pytest.fixture
def figures():
    """A test that takes it has its figures drawn."""


def flags(data, results, *more):
    """The smallest useful training: a linear model on 200 images, on the CPU in float32."""
    return [
        *("--data-dir", str(data), "--results-dir", str(results), "--device", "cpu"),
        *("--precision", "fp32", "--model", "linear", "--epochs", "2", "--batch-size", "32"),
        *("--lr", "0.01", "--quiet"),
        *more,
    ]


def weights(path):
    return torch.load(path, weights_only=True)["weights"]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_run_writes_all_its_files(tmp_path, tiny_dir, figures, capsys):
    metrics = train_cnn.main(flags(tiny_dir, tmp_path, "--model", "lenet", "--epochs", "3"))
    folder = tmp_path / "cnn" / "lenet"
    assert set(os.listdir(folder)) == FILES
    assert metrics == json.loads((folder / "metrics.json").read_text())
    assert (metrics["script"], metrics["name"], metrics["dataset"]) == ("train_cnn", "lenet", "mnist")
    (run,) = metrics["runs"]
    assert run["train_images"] == 180
    assert 0 <= run["test_accuracy_low"] <= run["test_accuracy"] <= run["test_accuracy_high"] <= 1
    assert len(run["test_recall"]) == len(run["test_precision"]) == 10
    assert metrics["mean"]["test_accuracy"] == run["test_accuracy"]
    lines = [json.loads(x) for x in (folder / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert {"train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds"} <= set(lines[0])
    out = capsys.readouterr().out
    assert f"test accuracy {run['test_accuracy']:.2%}" in out
    assert str(folder) in out


def test_it_learns(tmp_path, tiny_dir):
    metrics = train_cnn.main(flags(tiny_dir, tmp_path, "--model", "fast", "--epochs", "8"))
    assert metrics["mean"]["test_accuracy"] > 0.9


def test_metrics_follow_from_the_saved_predictions(tmp_path, tiny_dir):
    metrics = train_cnn.main(flags(tiny_dir, tmp_path))
    saved = RunFolder(tmp_path / "cnn" / "linear").predictions()
    train_set, test_set = load("mnist", tiny_dir)
    assert np.array_equal(saved["test_labels"], test_set.labels.numpy())
    assert np.array_equal(saved["val_labels"], train_set.labels[saved["val_indices"]].numpy())
    assert saved["test_probabilities"].sum(1) == pytest.approx(np.ones(100), abs=1e-5)
    # Ten classes, argmax: not "is it a 1?".
    right = saved["test_probabilities"].argmax(1) == saved["test_labels"]
    assert metrics["runs"][0]["test_accuracy"] == right.mean()


def test_the_saved_model_gives_the_saved_predictions(tmp_path, tiny_dir):
    train_cnn.main(flags(tiny_dir, tmp_path, "--model", "lenet"))
    folder = tmp_path / "cnn" / "lenet"
    _, test_set = load("mnist", tiny_dir)
    x = test_set.normalise(test_set.images.float() / 255)
    with torch.no_grad():
        model = load_model(folder / "best.pt").eval()
        found = model(x).softmax(1).numpy()
        assert torch.equal(model.encoder(x), load_encoder(folder / "best.pt").eval()(x))
    saved = RunFolder(folder).predictions()["test_probabilities"]
    np.testing.assert_allclose(found, saved, atol=1e-5)


def test_shifts_change_the_predictions_not_the_training(tmp_path, tiny_dir):
    train_cnn.main(flags(tiny_dir, tmp_path))
    metrics = train_cnn.main(flags(tiny_dir, tmp_path, "--shifts", "1"))
    plain, shifted = (RunFolder(tmp_path / "cnn" / name) for name in ("linear", "linear-2"))
    model = load_model(shifted.path("best.pt"))
    assert torch.equal(model.head.weight, load_model(plain.path("best.pt")).head.weight)
    train_set, test_set = load("mnist", tiny_dir)
    saved = shifted.predictions()
    expected = {
        "test_probabilities": predict(model, test_set, shifts=1)[0],
        "val_probabilities": predict(model, train_set, torch.from_numpy(saved["val_indices"]), 1)[0],
    }
    for key, probabilities in expected.items():
        np.testing.assert_allclose(saved[key], probabilities, atol=1e-5)
        assert np.abs(plain.predictions()[key] - probabilities).max() > 1e-3
    right = saved["test_probabilities"].argmax(1) == test_set.labels.numpy()
    assert metrics["runs"][0]["test_accuracy"] == right.mean()


def test_equal_seeds_equal_weights_other_seeds_other_weights(tmp_path, tiny_dir):
    found = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        train_cnn.main(flags(tiny_dir, tmp_path, "--name", name, "--seed", seed, "--model", "lenet"))
        found.append(weights(tmp_path / "cnn" / name / "best.pt"))
    assert equal(found[0], found[1])
    assert not equal(found[0], found[2])


def test_permuted_test_labels_change_no_weight(tmp_path, tiny_dir, monkeypatch):
    how = ("--model", "lenet", "--patience", "1", "--epochs", "4")
    plain = train_cnn.main(flags(tiny_dir, tmp_path, "--name", "plain", *how))

    def load_permuted(*args):
        train_set, test_set = load(*args)
        return train_set, test_set._replace(labels=test_set.labels.roll(1))

    monkeypatch.setattr("utils.cli.load", load_permuted)
    permuted = train_cnn.main(flags(tiny_dir, tmp_path, "--name", "permuted", *how))
    a, b = (weights(tmp_path / "cnn" / name / "best.pt") for name in ("plain", "permuted"))
    assert equal(a, b)
    assert plain["runs"][0]["best_epoch"] == permuted["runs"][0]["best_epoch"]
    assert plain["runs"][0]["test_accuracy"] != permuted["runs"][0]["test_accuracy"]


def test_runs_are_seeds_with_mean_and_deviation(tmp_path, tiny_dir, figures):
    metrics = train_cnn.main(flags(tiny_dir, tmp_path, "--runs", "2", "--seed", "5"))
    folder = tmp_path / "cnn" / "linear"
    assert [run["seed"] for run in metrics["runs"]] == [5, 6]
    accuracies = [run["test_accuracy"] for run in metrics["runs"]]
    assert metrics["mean"]["test_accuracy"] == pytest.approx(np.mean(accuracies))
    assert metrics["std"]["test_accuracy"] == pytest.approx(np.std(accuracies, ddof=1))
    assert {"seed-5", "seed-6", "metrics.json", "history.jsonl", "curves.png"} <= set(os.listdir(folder))
    seeds = [line["seed"] for line in RunFolder(folder).history()]
    assert seeds == [5, 5, 6, 6]
    # The first of several runs is what the same seed gives alone.
    alone = train_cnn.main(flags(tiny_dir, tmp_path, "--seed", "5", "--name", "alone"))
    assert without_seconds(alone) == without_seconds(metrics)[:1]


def test_folds_validate_every_training_image_once(tmp_path, tiny_dir):
    metrics = train_cnn.main(flags(tiny_dir, tmp_path, "--folds", "4"))
    assert [run["fold"] for run in metrics["runs"]] == [0, 1, 2, 3]
    folder = tmp_path / "cnn" / "linear"
    parts = [RunFolder(folder / f"fold-{k}").predictions()["val_indices"] for k in range(4)]
    assert sorted(np.concatenate(parts)) == list(range(200))


def test_few_labels_use_exactly_so_many(tmp_path, tiny_dir):
    metrics = train_cnn.main(flags(tiny_dir, tmp_path, "--labels-per-class", "8"))
    assert metrics["name"] == "linear-8-labels"
    assert metrics["runs"][0]["train_images"] == 60
    saved = RunFolder(tmp_path / "cnn" / "linear-8-labels").predictions()
    assert np.bincount(saved["val_labels"]).tolist() == [2] * 10


def test_without_validation_all_images_are_trained_on(tmp_path, tiny_dir):
    metrics = train_cnn.main(flags(tiny_dir, tmp_path, "--val-fraction", "0"))
    (run,) = metrics["runs"]
    assert run["train_images"] == 200
    assert not any(key.startswith("val_") for key in run)
    assert run["best_epoch"] == 2


@pytest.mark.parametrize("model", ["cnn", "wide", "resnet18"])
def test_a_dry_run_writes_everything_from_one_batch(tmp_path, tiny_idx, figures, model):
    data = tiny_idx(tmp_path / "data", train=100, test=20)
    argv = flags(data, tmp_path, "--dry-run", "--model", model, "--epochs", "9")
    train_cnn.main(argv)
    small = model in ("cnn", "resnet18")  # filters of 3 x 3 pixels are not drawn
    assert set(os.listdir(tmp_path / "cnn" / "dry-run")) == FILES - ({"filters.png"} if small else set())
    config = RunFolder(tmp_path / "cnn" / "dry-run").read_json("config.json")
    assert config["arguments"]["epochs"] == 1


def test_the_offline_digits_need_no_files(tmp_path):
    metrics = train_cnn.main(flags("nowhere", tmp_path, "--dataset", "mnist-5k", "--epochs", "3"))
    assert metrics["mean"]["test_accuracy"] > 0.8


def test_a_finished_run_resumes_to_itself(tmp_path, tiny_dir):
    first = train_cnn.main(flags(tiny_dir, tmp_path, "--name", "a"))
    again = train_cnn.main(flags(tiny_dir, tmp_path, "--name", "a", "--resume"))
    assert first == again


@pytest.mark.parametrize(("epoch", "more"), [(1, ()), (2, ("--name", "linear", "--resume"))])
def test_ctrl_c_keeps_the_checkpoint_and_prints_the_command_that_resumes(
    tmp_path, tiny_dir, monkeypatch, capsys, epoch, more
):
    calls = []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == epoch:  # it is called after an epoch's steps, before its checkpoint
            raise KeyboardInterrupt
        return predict(*args, **kwargs)

    predict = forward.predict
    monkeypatch.setattr("utils.training.cnn.predict", interrupted)
    given = flags(tiny_dir, tmp_path, "--seed", "3")
    with pytest.raises(SystemExit) as stop:
        train_cnn.main(given)
    assert stop.value.code == 130
    told = re.search(r"python train_cnn\.py .*", capsys.readouterr().err).group()
    assert told == shlex.join(["python", "train_cnn.py", *given, *more])
    monkeypatch.undo()
    metrics = train_cnn.main(told.split()[2:])
    alone = train_cnn.main(flags(tiny_dir, tmp_path, "--seed", "3", "--name", "alone"))
    assert without_seconds(metrics) == without_seconds(alone)


def test_kill_9_and_resume_ends_in_the_same_metrics(tmp_path, tiny_dir):
    how = ("--model", "lenet", "--epochs", "40", "--ema", "0.9", "--name", "run")
    unbroken = train_cnn.main(flags(tiny_dir, tmp_path / "whole", *how))
    process = start_script("train_cnn.py", flags(tiny_dir, tmp_path / "killed", *how))
    history = tmp_path / "killed" / "cnn" / "run" / "history.jsonl"
    deadline = time.monotonic() + 120
    while not (history.exists() and history.read_text().count("\n") >= 3):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "cnn" / "run" / "metrics.json").exists()
    resumed = train_cnn.main(flags(tiny_dir, tmp_path / "killed", *how, "--resume"))
    assert without_seconds(resumed) == without_seconds(unbroken)
    paths = [tmp_path / x / "cnn" / "run" / "best.pt" for x in ("whole", "killed")]
    assert equal(*map(weights, paths))


def test_torchrun_shares_the_runs_out_and_gives_the_same_metrics(tmp_path, tiny_dir):
    how = ("--runs", "3", "--model", "lenet", "--name", "run")
    one = train_cnn.main(flags(tiny_dir, tmp_path / "one", *how))
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = start_script("train_cnn.py", flags(tiny_dir, tmp_path / "two", *how), *torchrun)
    assert process.wait(timeout=240) == 0
    two = RunFolder(tmp_path / "two" / "cnn" / "run").read_json("metrics.json")
    assert without_seconds(one) == without_seconds(two)
    assert one["mean"]["test_accuracy"] == two["mean"]["test_accuracy"]


# --- Scoring again ---


@pytest.fixture
def no_training(monkeypatch):
    """An epoch of training is an error, from when the test calls this."""

    def train_epoch(*args):
        raise AssertionError("trained")

    return lambda: monkeypatch.setattr("utils.training.fit.Training.train_epoch", train_epoch)


@pytest.mark.parametrize("more", [[], ["--runs", "2"], ["--patience", "1", "--epochs", "4"]])
def test_a_finished_run_is_scored_again_without_training(tmp_path, tiny_dir, no_training, more):
    how = flags(tiny_dir, tmp_path, "--name", "a", "--model", "lenet", *more)
    first = train_cnn.main(how)
    folder = RunFolder(tmp_path / "cnn" / "a")
    before, history = folder.read_json("config.json"), folder.history()
    no_training()
    again = train_cnn.main([*how, "--rescore"])
    assert again == first == folder.read_json("metrics.json")
    assert folder.history() == history
    after = folder.read_json("config.json")
    assert set(after.pop("rescored")) == {"commit", "versions"}
    assert after == before
    for part in folder.folder.glob("seed-*"):
        assert "rescored" in RunFolder(part).read_json("config.json")


def test_the_evaluation_may_change_when_a_run_is_scored_again(tmp_path, tiny_dir, no_training):
    plain = train_cnn.main(flags(tiny_dir, tmp_path, "--name", "a"))
    expected = train_cnn.main(flags(tiny_dir, tmp_path, "--name", "b", "--shifts", "1"))
    no_training()
    shifted = train_cnn.main(flags(tiny_dir, tmp_path, "--name", "a", "--shifts", "1", "--rescore"))
    assert without_seconds(shifted) == without_seconds(expected) != without_seconds(plain)
    assert shifted["seconds"] == plain["seconds"]
    config = RunFolder(tmp_path / "cnn" / "a").read_json("config.json")
    assert config["arguments"]["shifts"] == 1
    assert "--shifts 1" in config["command"]


def test_scoring_again_what_cannot_be_is_refused(tmp_path, tiny_dir, capsys):
    train_cnn.main(flags(tiny_dir, tmp_path, "--name", "a"))
    folder = tmp_path / "cnn" / "a"

    def files():
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def refused(*more):
        before = files()
        with pytest.raises(SystemExit) as stop:
            train_cnn.main(flags(tiny_dir, tmp_path, "--rescore", *more))
        assert stop.value.code == 2
        assert files() == before
        return capsys.readouterr().err

    assert "--lr was 0.01, now 0.02" in refused("--name", "a", "--lr", "0.02")
    assert "no finished run" in refused("--name", "other")
    assert "need --name" in refused()
    (folder / "last.pt").unlink()
    assert "last.pt, which is not committed" in refused("--name", "a")


def test_a_saved_model_says_what_it_was_trained_on(tmp_path, tiny_dir):
    train_cnn.main(flags(tiny_dir, tmp_path))
    saved = read_model(tmp_path / "cnn" / "linear" / "best.pt")
    assert (saved.name, saved.options) == ("linear", {"num_classes": 10})
    calibration = saved.data.pop("calibration")
    assert set(calibration) == {"temperature", "least_confidence", "least_evidence"}
    assert saved.data == load("mnist", tiny_dir)[0].description


# --- Bad input ---


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--val-fraction", "0.001"], "cannot split"),
        (["--val-fraction", "0", "--patience", "2"], "--val-fraction above 0"),
        (["--labels-per-class", "500"], "from 1 to 20"),
        (["--folds", "50"], "cannot split"),
        (["--folds", "3", "--runs", "2"], "can't be combined"),
        (["--resume"], "need --name"),
        (["--data-dir", "/dev/null/nowhere"], "--dataset mnist-5k"),
        (["--track", "wandb"], "pip install wandb"),
        (["--device", "cuda"], "--device cpu"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(
    tmp_path, tiny_dir, capsys, monkeypatch, wrong, said
):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(SystemExit) as stop:
        train_cnn.main(flags(tiny_dir, tmp_path, *wrong))
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_is_refused_with_nothing_lost(tmp_path, tiny_dir, capsys):
    first = train_cnn.main(flags(tiny_dir, tmp_path, "--name", "a"))
    with pytest.raises(SystemExit) as stop:
        train_cnn.main(flags(tiny_dir, tmp_path, "--name", "a"))
    assert stop.value.code == 2
    assert "--overwrite" in capsys.readouterr().err
    assert RunFolder(tmp_path / "cnn" / "a").read_json("metrics.json") == first


def test_help_needs_no_data_and_names_every_shared_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        train_cnn.main(["--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert all(name in told for name in DATASETS)
    assert all(flag in told for flag in ("--resume", "--precision", "--track", "--folds", "--ema"))


def test_tensorboard_tracking_writes_events(tmp_path, tiny_dir):
    pytest.importorskip("tensorboard")
    train_cnn.main(flags(tiny_dir, tmp_path, "--track", "tensorboard"))
    assert list(Path(tmp_path / "cnn" / "linear" / "tensorboard").iterdir())


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


@pytest.mark.parametrize(("model", "expected"), [("linear", 10), ("lenet", 6), ("cnn", None)])
def test_filters_are_drawn_where_they_show_something(tmp_path, digits, monkeypatch, model, expected):
    drawn = []
    monkeypatch.setattr(
        train_cnn.plots, "plot_filters", lambda weights, path, *args, **kwargs: drawn.append(weights)
    )
    run = RunFolder(tmp_path)
    run.save_model("best.pt", create(model, 10), model, digits.description, num_classes=10)
    train_cnn.plot_filters(run, run, digits)
    assert [len(weights) for weights in drawn] == ([expected] if expected else [])
    assert all(weights.ndim == 3 for weights in drawn)
