"""train_triplet.py end to end on tiny data on the CPU."""

import json

import pytest
import torch

import train_triplet
from evaluation.triplet import retrieval
from models import load_encoder
from utils.runs.folder import RunFolder

FILES = {
    "config.json",
    "history.jsonl",
    "metrics.json",
    "predictions.npz",
    "encoder.pt",
    "last.pt",
    "curves.png",
    "map.png",
    "distances.png",
    "support.png",
}


def flags(data, results, *more):
    """Train the smallest encoder on three of the ten classes, 15 images each, in float32."""
    return [
        *("--data-dir", str(data), "--results-dir", str(results), "--device", "cpu", "--precision", "fp32"),
        *("--classes", "0,1,2", "--images-per-class", "15", "--encoder", "fast", "--quiet"),
        *("--epochs", "2", "--steps", "2", "--batch-classes", "3", "--batch-images", "4", "--episodes", "5"),
        *("--copies", "0", *more),
    ]


@pytest.fixture(autouse=True)
def quick(monkeypatch, request):
    """Few pairs; figures are drawn where a test asks for the fixture `figures`."""
    monkeypatch.setattr(retrieval, "PAIRS", 100)
    if "figures" not in request.fixturenames:
        monkeypatch.setattr(train_triplet, "draw_retrieval", lambda *args: None)


@pytest.fixture
def figures():
    """A test that takes it has its figures drawn."""


def test_a_run_writes_all_its_files_and_scores(tmp_path, tiny_dir, figures, capsys):
    metrics = train_triplet.main(flags(tiny_dir, tmp_path))
    folder = tmp_path / "triplet" / "few"
    assert {path.name for path in folder.iterdir()} == FILES
    assert "10way 1shot" in capsys.readouterr().out
    record = metrics["runs"][0]
    for name in (
        "test_10way_1shot_accuracy",
        "test_10way_5shot_accuracy",
        "test_unseen_7way_1shot_accuracy",
        "test_precision_at_1",
        "test_map_at_r",
        "val_letters_10way_1shot_accuracy",
        "test_unseen_equal_error_rate",
    ):
        assert 0 <= record[name] <= 1
    assert (record["train_images"], record["val_images"]) == (40, 5)
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    watched = {"loss", "active_triplets", "positive_distance", "negative_distance", "embedding_norm"}
    assert {f"train_{name}" for name in watched} <= history[-1].keys()
    assert 0 <= history[-1]["val_precision_at_1"] <= 1
    assert load_encoder(folder / "encoder.pt")(torch.zeros(2, 1, 28, 28)).shape == (2, 64)


@pytest.mark.parametrize(
    "more",
    [
        ("--loss", "triplet", "--mining", "semi-hard"),
        ("--loss", "contrastive", "--class-augment", "symmetries"),
        ("--recipe", "original"),
    ],
)
def test_other_losses_and_recipes_train(tmp_path, tiny_dir, more):
    words = flags(tiny_dir, tmp_path, *more)
    if "original" in more:
        at = words.index("--encoder")
        del words[at : at + 2]
    metrics = train_triplet.main(words)
    assert 0 <= metrics["mean"]["test_10way_1shot_accuracy"] <= 1
    (config,) = tmp_path.glob("triplet/*/config.json")
    assert set(more) <= set(json.loads(config.read_text())["command"].split())


def test_all_classes_train_and_nothing_is_unseen(tmp_path, tiny_dir):
    words = flags(tiny_dir, tmp_path)
    at = words.index("--classes")
    del words[at : at + 4]
    record = train_triplet.main(words)["runs"][0]
    assert record["train_images"] == 180
    assert not any("unseen" in key for key in record)


def test_a_single_unseen_class_has_no_pairs_of_two(tmp_path, tiny_dir, figures):
    words = flags(tiny_dir, tmp_path)
    words[words.index("--classes") + 1] = "0,1,2,3,4,5,6,7,8"
    record = train_triplet.main(words)["runs"][0]
    assert "test_unseen_precision_at_1" in record
    assert not {"test_unseen_7way_1shot_accuracy", "test_unseen_equal_error_rate"} & record.keys()


def test_a_sweep_is_one_file_and_resumes(tmp_path, tiny_dir, monkeypatch):
    monkeypatch.setattr(train_triplet, "SWEEP_DIGITS", (2, 3))
    monkeypatch.setattr(train_triplet, "SWEEP_IMAGES", (10,))
    words = flags(tiny_dir, tmp_path, "--sweep", "--runs", "2")
    at = words.index("--classes")
    del words[at : at + 2]
    content = train_triplet.main(words)
    assert content["trainings"] == [6, 6]
    assert [(c["digits"], c["images"]) for c in content["cells"]] == [(2, 15), (3, 15), (3, 10)]
    assert all("test_10way_1shot_accuracy" in c["mean"] for c in content["cells"])
    folder = tmp_path / "triplet" / "sweep"
    assert (folder / "accuracy.png").exists()
    monkeypatch.setattr(train_triplet, "fit_embedding", None)  # nothing is left to train
    assert train_triplet.main([*words, "--name", "sweep", "--resume"])["cells"] == content["cells"]


def test_every_seed_draws_its_own_images(tmp_path, tiny_dir):
    args, _ = train_triplet.parse(flags(tiny_dir, tmp_path))
    labels = train_triplet.load_data(args)[0].labels
    (one, one_val), (two, _), (again, _) = (train_triplet.choose_images(args, labels, s) for s in (0, 1, 0))
    assert torch.equal(one, again)
    assert set(one.tolist()) != set(two.tolist())
    assert not set(one.tolist()) & set(one_val.tolist())
    assert set(labels[one].tolist()) == {0, 1, 2}
    assert labels[torch.cat([one, one_val])].bincount().tolist() == [15, 15, 15]


def test_a_stopped_run_resumes_to_the_same_weights(tmp_path, tiny_dir, monkeypatch):
    def train(folder, *more):
        words = flags(tiny_dir, tmp_path / folder, "--name", "run", "--mining", "random", "--loss", "triplet")
        return train_triplet.main([*words, *more])

    whole = train("one")
    save = RunFolder.save_checkpoint

    def save_then_stop(self, state):
        save(self, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "save_checkpoint", save_then_stop)
    with pytest.raises(SystemExit) as stopped:
        train("two")
    assert stopped.value.code == 130
    monkeypatch.setattr(RunFolder, "save_checkpoint", save)
    resumed = train("two", "--resume")
    a, b = (
        torch.load(tmp_path / x / "triplet" / "run" / "encoder.pt", weights_only=True)["weights"]
        for x in ("one", "two")
    )
    assert all(torch.equal(a[key], b[key]) for key in a)
    scores = [{k: v for k, v in m["mean"].items() if "seconds" not in k} for m in (whole, resumed)]
    assert scores[0] == scores[1]


def test_test_labels_do_not_change_the_weights(tmp_path, tiny_dir, monkeypatch):
    def train(folder):
        train_triplet.main(flags(tiny_dir, tmp_path / folder, "--name", "run"))
        return torch.load(tmp_path / folder / "triplet" / "run" / "encoder.pt", weights_only=True)["weights"]

    before, original = train("one"), train_triplet.load_data

    def permuted(args):
        train_set, test_set = original(args)
        return train_set, test_set._replace(labels=test_set.labels.flip(0))

    monkeypatch.setattr(train_triplet, "load_data", permuted)
    after = train("two")
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--classes", "0,1,11"], "no example of class 11"),
        (["--images-per-class", "21"], "from 1 to 20"),
        (["--batch-images", "14"], "from 2 to 13"),
        (["--batch-classes", "4", "--class-augment", "none"], "from 2 to 3"),
        (["--batch-size", "64"], "P x K"),
        (["--schedule", "plateau"], "plateau"),
        (["--compare", "nothing.pt"], "nothing.pt"),
        (["--sweep"], "no --classes"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(tmp_path, tiny_dir, wrong, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        train_triplet.main(flags(tiny_dir, tmp_path, *wrong))
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not any(tmp_path.iterdir())
