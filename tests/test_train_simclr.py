"""train_simclr.py end to end on tiny data on the CPU."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers import FACTS, run_two_ranks, shorten_evaluation, without_seconds

import train_simclr
from data import load, split
from evaluation.contrastive import encoder
from models import CheckpointError, create, load_encoder, read_model, save_model
from utils.runs.folder import RunFolder

FILES = {
    "config.json",
    "history.jsonl",
    "metrics.json",
    "predictions.npz",
    "encoder.pt",
    "last.pt",
    "map.csv",
    "curves.png",
    "views.png",
    "neighbours.png",
    "map.png",
}


def flags(data, results, *more):
    """Pre-train the smallest convolutional encoder on 180 images, in float32."""
    return [
        *("--data-dir", str(data), "--results-dir", str(results), "--device", "cpu", "--precision", "fp32"),
        *("--encoder", "fast", "--epochs", "2", "--batch-size", "45", "--draws", "2", "--quiet"),
        *more,
    ]


@pytest.fixture(autouse=True)
def no_figures(monkeypatch, request):
    """Figures take long: they are drawn where a test asks for the fixture `figures`."""
    if "figures" not in request.fixturenames:
        monkeypatch.setattr(train_simclr, "plot_figures", lambda *args: None)


@pytest.fixture
def figures():
    """A test that takes it has its figures drawn."""


def test_a_run_writes_all_its_files_and_scores(tmp_path, tiny_dir, short_evaluation, figures, capsys):
    metrics = train_simclr.main(flags(tiny_dir, tmp_path, "--distill"))
    folder = tmp_path / "simclr" / "simclr"
    assert {path.name for path in folder.iterdir()} == FILES
    assert "linear" in capsys.readouterr().out
    record = metrics["runs"][0]
    for who in ("", "head_", "random_", "pixels_"):
        for what in ("knn", "linear"):
            assert 0.1 <= record[f"test_{who}{what}_accuracy"] <= 1
    for who in ("", "random_"):
        assert 0.1 <= record[f"test_{who}finetuned_accuracy"] <= 1
    for n in (1, 10):  # a class has 18 training images: 100 are left out
        for what in (
            "knn",
            "linear",
            "finetuned",
            "spread",
            "distilled",
            "self_trained",
            "random_finetuned",
            "pixels_linear",
        ):
            values = record[f"test_{what}_{n}_accuracies"]
            assert len(values) == 2
            assert record[f"test_{what}_{n}_accuracy"] == pytest.approx(np.mean(values))
    for how in ("", "_spread", "_self_trained"):
        assert 0.1 <= record[f"test_kmeans{how}_accuracy"] <= 1
    assert not any("_100_" in key for key in record)
    assert record["train_images"] == 180
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert {"train_loss", "train_contrastive_accuracy", "train_alignment", "train_uniformity"} <= set(
        history[0]
    )
    assert "val_knn_accuracy" in history[-1]
    assert "val_knn_accuracy" not in history[0]
    found = RunFolder(folder).predictions()
    assert found["test_probabilities"].shape == (100, 10)
    assert (
        record["test_linear_accuracy"]
        == (found["test_probabilities"].argmax(1) == found["test_labels"]).mean()
    )
    encoder = load_encoder(folder / "encoder.pt")
    assert encoder(torch.zeros(2, 1, 28, 28)).shape == (2, 64)
    lines = (folder / "map.csv").read_text().splitlines()
    assert lines[0] == "digit,x,y,pixels_x,pixels_y"
    assert len(lines) == 101


def test_more_training_lowers_the_loss_and_raises_the_k_nn_accuracy(tmp_path, tiny_dir):
    args, *_ = train_simclr.parse(
        flags(
            tiny_dir, tmp_path, "--epochs", "12", "--views", "affine", "--strength", "0.3", "--knn-every", "1"
        )
    )
    data = load("mnist", tiny_dir)
    splits = split(data[0].labels, 0.2, 0)
    run = RunFolder(tmp_path)
    train_simclr.pretrain(args, data[0], splits, 0, run)
    history = run.history()
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    assert (
        history[-1]["val_knn_accuracy"] > history[0]["val_knn_accuracy"]
        or history[0]["val_knn_accuracy"] == 1
    )


def test_supcon_uses_the_labels_and_names_its_folder(tmp_path, tiny_dir, short_evaluation):
    how = ("--method", "supcon", "--draws", "1", "--epochs", "1")
    train_simclr.main(flags(tiny_dir, tmp_path, *how))
    config = json.loads((tmp_path / "simclr" / "supcon" / "config.json").read_text())
    assert "--method supcon" in config["command"]
    assert config["name"] == "supcon"


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path, tiny_dir, short_evaluation, monkeypatch):
    def train(folder, *more):
        return train_simclr.main(flags(tiny_dir, tmp_path / folder, "--name", "run", "--draws", "1", *more))

    whole = train("one")
    stop_after_first = RunFolder.save_checkpoint

    def save_then_stop(self, state):
        stop_after_first(self, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "save_checkpoint", save_then_stop)
    with pytest.raises(SystemExit) as stopped:
        train("two")
    assert stopped.value.code == 130
    monkeypatch.setattr(RunFolder, "save_checkpoint", stop_after_first)
    resumed = train("two", "--resume")
    a, b = (
        torch.load(tmp_path / x / "simclr" / "run" / "encoder.pt", weights_only=True)["weights"]
        for x in ("one", "two")
    )
    assert all(torch.equal(a[key], b[key]) for key in a)
    scores = [{k: v for k, v in m["mean"].items() if "seconds" not in k} for m in (whole, resumed)]
    assert scores[0] == scores[1]


def test_two_ranks_train_one_encoder_together(tmp_path, tiny_dir):
    """The same loss, epoch by epoch, as one process, from half of the batch each."""
    how = ("--dry-run", "--draws", "1", "--views", "affine")
    train_simclr.main(flags(tiny_dir, tmp_path / "one", *how))
    run_two_ranks("train_simclr.py", flags(tiny_dir, tmp_path / "two", *how))
    one, two = (RunFolder(tmp_path / x / "simclr" / "dry-run") for x in ("one", "two"))
    assert len(two.history()) == len(one.history()) == 1
    for key in ("train_loss", "train_alignment", "train_uniformity"):
        assert two.history()[0][key] == pytest.approx(one.history()[0][key], rel=1e-4)
    a, b = (torch.load(run.path("encoder.pt"), weights_only=True)["weights"] for run in (one, two))
    assert a.keys() == b.keys()
    assert two.read_json("metrics.json")["mean"].keys() == one.read_json("metrics.json")["mean"].keys()


def test_the_method_alone_gives_its_recipe():
    """The flags that the SupCon of the report was trained with are its defaults."""

    def parsed(*flags):
        return vars(train_simclr.parse(["--device", "cpu", "--precision", "fp32", *flags])[0])

    explicit = "--encoder cnn --epochs 12 --temperature 0.1 --views affine --strength 0.6 --ema 0.998"
    supcon, simclr = parsed("--method", "supcon"), parsed()
    assert supcon == parsed("--method", "supcon", *explicit.split())
    assert {key: supcon[key] for key in train_simclr.SUPCON} == train_simclr.SUPCON
    assert {key: simclr[key] for key in train_simclr.SIMCLR} == train_simclr.SIMCLR
    assert simclr["encoder"] == "compact"
    mixed = parsed("--method", "supcon", "--encoder", "fast", "--ema", "0")
    assert mixed == {**supcon, "encoder": "fast", "ema": 0}


# --- Scoring again ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_dir):
    """The results folder of a finished run "run" without figures. Read only."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_simclr, "plot_figures", lambda *args: None)
        shorten_evaluation(patch)
        train_simclr.main(flags(tiny_dir, folder, "--name", "run"))
    return folder


@pytest.fixture
def rescore(finished, tmp_path, tiny_dir, short_evaluation, monkeypatch):
    """A copy of the finished run, and a function that scores it again; pre-training is an error."""

    def step(*batch):
        raise AssertionError("trained")

    monkeypatch.setattr(train_simclr, "contrastive_step", lambda *args: step)
    shutil.copytree(finished, tmp_path / "copy")
    run = RunFolder(tmp_path / "copy" / "simclr" / "run")
    argv = flags(tiny_dir, tmp_path / "copy", "--name", "run", "--rescore")
    return run, lambda *more: train_simclr.main([*argv, *more])


def test_a_finished_run_is_scored_again_without_pre_training(rescore):
    run, again = rescore
    metrics, config = run.read_json("metrics.json"), run.read_json("config.json")
    assert without_seconds(again()) == without_seconds(metrics)
    found = run.read_json("config.json")
    assert set(found.pop("rescored")) == {"commit", "versions"}
    assert found == config


def test_the_evaluation_may_change_when_a_run_is_scored_again(rescore):
    run, again = rescore
    before = run.read_json("metrics.json")["runs"][0]
    record = again("--draws", "3")["runs"][0]
    few = [key for key in before if key.endswith("_accuracies")]
    assert len(few) > 10
    for key in few:
        assert len(record[key]) == 3
        assert record[key][:2] == before[key]
    same = {key for key in before if key not in few and key.replace("accuracy", "accuracies") not in few}
    same -= {key for key in before if key.endswith("_seconds") and key != "train_seconds"}
    assert {key: record[key] for key in same} == {key: before[key] for key in same}
    assert run.read_json("config.json")["arguments"]["draws"] == 3


@pytest.mark.parametrize(
    ("more", "lost", "said"),
    [
        (["--lr", "0.5"], None, "--lr was 0.003, now 0.5"),
        (["--encoder", "lenet"], None, "--encoder was fast, now lenet"),
        ([], "last.pt", "last.pt, which is not committed"),
        ([], "metrics.json", "no finished run"),
    ],
)
def test_scoring_again_what_cannot_be_is_refused(rescore, more, lost, said, capsys):
    run, again = rescore
    if lost:
        run.path(lost).unlink()
    before = run.read_json("config.json")
    with pytest.raises(SystemExit) as stopped:
        again(*more)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert run.read_json("config.json") == before


def test_a_saved_encoder_says_what_it_was_trained_on(finished, tiny_dir):
    saved = read_model(finished / "simclr" / "run" / "encoder.pt")
    assert (saved.name, saved.options) == ("fast", {"num_classes": 0})
    assert saved.data == load("mnist", tiny_dir)[0].description


# --- Bad input ---


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--schedule", "plateau"], "plateau"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(tmp_path, tiny_dir, wrong, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        train_simclr.main(flags(tiny_dir, tmp_path, *wrong))
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not any(tmp_path.iterdir())


def test_an_encoder_of_another_architecture_is_refused(tmp_path):
    save_model(tmp_path / "encoder.pt", create("fast", 0), "compact", FACTS, num_classes=0)
    with pytest.raises(CheckpointError, match="does not hold a 'compact'"):
        load_encoder(tmp_path / "encoder.pt")


@pytest.mark.slow
def test_accuracy_of_frozen_features_on_the_real_mnist(tmp_path, mnist_dir, monkeypatch):
    for costly in ("few_label_scores", "finetuned_score"):
        monkeypatch.setattr(encoder, costly, lambda *args: {})
    argv = ["--data-dir", str(mnist_dir), "--results-dir", str(tmp_path), "--encoder", "fast"]
    mean = train_simclr.main([*argv, "--epochs", "1"])["mean"]
    # Below what an epoch gives with any seed; a random encoder is worse.
    assert mean["test_knn_accuracy"] >= 0.965
    assert mean["test_knn_accuracy"] > mean["test_random_knn_accuracy"] + 0.03
