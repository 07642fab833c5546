"""train_triplet.py end to end on tiny data on the CPU."""

import re

import pytest
import torch
from helpers import base_flags, equal_weights, refusal

import train_triplet
from evaluation import triplet as evaluation
from models import load_encoder
from utils.runs.folder import RunFolder

FILES = {"config.json", "history.jsonl", "metrics.json", "predictions.npz", "encoder.pt", "last.pt"}
FILES |= {"curves.png", "map.png"}
THREE = ("--classes", "0,1,2", "--images-per-class", "15")


def flags(data, results, *more, start=("--model", "fast")):
    """The smallest training of the smallest encoder."""
    small = ("--epochs", "2", "--steps", "2", "--episodes", "5", "--copies", "0")
    batch = ("--batch-images", "4", "--batch-classes", "3")
    return base_flags(data, results, *start, *small, *batch, *more)


@pytest.fixture(autouse=True, scope="module")
def few_pairs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "PAIRS", 100)
        yield


@pytest.fixture(scope="module")
def results(tiny_dir, tmp_path_factory):
    """The folder of results with one run, few."""
    folder = tmp_path_factory.mktemp("results")
    train_triplet.main(flags(tiny_dir, folder, *THREE))
    return folder


def test_a_run_writes_all_its_files_and_scores(results):
    run = RunFolder(results / "triplet" / "few")
    assert {path.name for path in run.folder.iterdir()} == FILES
    record, last = run.records()[0], run.history()[-1]
    names = ("10way_1shot_accuracy", "unseen_7way_5shot_accuracy", "unseen_equal_error_rate")
    assert all(0 <= record[f"test_{name}"] <= 1 for name in names)
    assert 0 <= record["val_letters_10way_1shot_accuracy"] <= 1
    assert (record["train_images"], record["val_images"]) == (40, 5)
    watched = {"loss", "active_triplets", "positive_distance", "negative_distance", "embedding_norm"}
    assert {f"train_{name}" for name in watched} <= last.keys()
    assert 0 <= last["val_precision_at_1"] <= 1
    assert load_encoder(run.path("encoder.pt"))(torch.zeros(2, 1, 28, 28)).shape == (2, 64)


def test_permuted_test_labels_change_no_weight(results, tiny_dir, tmp_path, no_figures, permuted_test_labels):
    train_triplet.main(flags(tiny_dir, tmp_path, *THREE))
    assert equal_weights(*(folder / "triplet" / "few" / "encoder.pt" for folder in (results, tmp_path)))
    records = [RunFolder(folder / "triplet" / "few").records()[0] for folder in (results, tmp_path)]
    assert records[0]["test_precision_at_1"] != records[1]["test_precision_at_1"]


def test_all_classes_train_and_nothing_is_unseen_or_one_class(tmp_path, tiny_dir, no_figures, capsys):
    more = ("--loss", "arcface", "--class-augment", "symmetries")
    record = train_triplet.main(flags(tiny_dir, tmp_path, *more))["runs"][0]
    assert record["train_images"] == 180
    assert not any("unseen" in key for key in record)
    assert "10way 1shot" in capsys.readouterr().out
    # A single unseen class has no pairs of two.
    more = ("--classes", "0,1,2,3,4,5,6,7,8", "--recipe", "original", "--loss", "bce")
    record = train_triplet.main(flags(tiny_dir, tmp_path, *more))["runs"][0]
    assert "test_unseen_precision_at_1" in record
    assert not {"test_unseen_1way_1shot_accuracy", "test_unseen_equal_error_rate"} & record.keys()


def test_a_saved_encoder_is_where_the_training_starts(results, tmp_path, tiny_dir, no_figures):
    start = results / "triplet" / "few" / "encoder.pt"
    train_triplet.main(flags(tiny_dir, tmp_path, *THREE, "--lr", "1e-9", start=("--encoder", str(start))))
    found = load_encoder(tmp_path / "triplet" / "few" / "encoder.pt")
    assert found.name == "fast"
    for before, after in zip(load_encoder(start).parameters(), found.parameters(), strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


def test_a_sweep_is_one_file_and_resumes(tmp_path, tiny_dir, monkeypatch, capsys):
    monkeypatch.setattr(train_triplet, "SWEEP_DIGITS", (3,))
    monkeypatch.setattr(train_triplet, "SWEEP_IMAGES", (10, 10_000))  # of the latter no class has as many
    words = flags(tiny_dir, tmp_path, "--sweep", "--images-per-class", "15")
    content = train_triplet.main(words)
    assert content["trainings"] == [2, 2]
    assert [(c["digits"], c["images"]) for c in content["cells"]] == [(3, 15), (3, 10)]
    assert all("test_10way_1shot_accuracy" in c["mean"] for c in content["cells"])
    lowest = 100 * content["cells"][1]["mean"]["test_10way_1shot_accuracy"]
    assert re.search(rf"\n3 +10 .* {lowest:.2f} %\n.* in {tmp_path}/triplet/sweep/$", capsys.readouterr().out)
    monkeypatch.setattr(train_triplet, "train", None)  # nothing is left to train
    assert train_triplet.main([*words, "--name", "sweep", "--resume"])["cells"] == content["cells"]


def test_every_seed_has_its_own_images(tiny_dir):
    args, _ = train_triplet.parse(flags(tiny_dir, "unused", *THREE))
    args.classes = [0, 1, 2]
    labels = train_triplet.cli.load_data(args)[0].labels
    train, val = train_triplet.choose_images(args, labels)
    assert labels[torch.cat([train, val])].bincount().tolist() == [15, 15, 15]
    assert not set(train.tolist()) & set(val.tolist())
    job = {"digits": 3, "images": 3, "seed": 0}
    assert train_triplet.cell_arguments(args, "", labels, job).batch_images == 2
    args.seed = 1
    assert set(train.tolist()) != set(train_triplet.choose_images(args, labels)[0].tolist())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--classes", "0,1,11"], "--classes 11: no such class; choose from 0, 1,"),
        (["--images-per-class", "21"], "from 1 to 20"),
        (["--batch-images", "14"], "from 2 to 13"),
        (["--batch-classes", "4", "--class-augment", "none"], "from 2 to 3"),
        (["--schedule", "plateau"], "plateau"),
        (["--sweep"], "no --classes"),
        (["--encoder", "simclr"], "leave out --model"),
        (["--loss", "arcface"], "add --class-augment symmetries"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(tmp_path, tiny_dir, wrong, said, capsys):
    assert said in refusal(train_triplet.main, flags(tiny_dir, tmp_path, *THREE, *wrong), capsys)
    assert not any(tmp_path.iterdir())
