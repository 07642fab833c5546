"""Every script on data of one's own: 3 classes with names from folders, 26 classes from an archive."""

import string

import numpy as np
import pytest
from PIL import Image

import ensemble
import predict
import train_cnn
import train_few_labels
import train_mil
import train_moco
import train_simclr
import train_triplet
from evaluation import triplet as retrieval
from models import read_model

SHAPES = ("circle", "line", "star")
LETTERS = tuple(string.ascii_lowercase)


def bars(count, classes, seed):
    """Images (count, 28, 28) uint8 with a bright bar, whose place is the class, and labels (count,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 30, (count, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 7)
        image[2 + 6 * row : 6 + 6 * row, 3 * column + 2 : 3 * column + 8] = 220
    return images, labels


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """The path of an archive of 26 classes with names."""
    arrays = dict(zip(("x_train", "y_train"), bars(312, 26, 0), strict=True))
    arrays |= dict(zip(("x_test", "y_test"), bars(104, 26, 1), strict=True))
    path = tmp_path_factory.mktemp("own") / "letters.npz"
    np.savez(path, classes=np.array(LETTERS), **arrays)
    return path


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """The path of folders of pictures of 3 classes."""
    folder = tmp_path_factory.mktemp("own")
    for part, count, seed in (("train", 90, 0), ("test", 45, 1)):
        for i, (image, label) in enumerate(zip(*bars(count, 3, seed), strict=True)):
            place = folder / part / SHAPES[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).resize((40, 40)).save(place / f"{i}.png")
    return folder


def flags(path, results, *more):
    where = ["--dataset", str(path), "--results-dir", str(results), "--name", "own"]
    return [*where, "--device", "cpu", "--precision", "fp32", *more]


@pytest.mark.parametrize(("data", "names"), [("shapes", SHAPES), ("letters", LETTERS)])
def test_train_cnn_and_predict(tmp_path, data, names, request, capsys):
    path = request.getfixturevalue(data)
    small = ("--model", "linear", "--epochs", "8", "--batch-size", "16")
    metrics = train_cnn.main(flags(path, tmp_path, *small))
    assert ("resized to 28 x 28" in capsys.readouterr().out) == (data == "shapes")
    assert metrics["mean"]["test_accuracy"] > 0.9
    assert len(metrics["runs"][0]["test_recall"]) == len(names)
    assert read_model(tmp_path / "cnn" / "own" / "best.pt").data["classes"] == list(names)
    Image.fromarray(bars(len(names), len(names), 2)[0][-1]).save(tmp_path / "last.png")
    result = predict.main([str(tmp_path / "last.png"), "--model", str(tmp_path / "cnn" / "own")])
    assert result[0].text == names[-1]


def test_ensemble(tmp_path, letters):
    small = ("--members", "2", "--model", "linear", "--epochs", "6", "--batch-size", "16", "--quiet")
    metrics = ensemble.main(flags(letters, tmp_path, *small))
    assert metrics["mean"]["test_accuracy"] > 0.8
    Image.fromarray(bars(26, 26, 2)[0][-1]).save(tmp_path / "last.png")
    result = predict.main([str(tmp_path / "last.png"), "--ensemble", str(tmp_path / "ensemble" / "own")])
    assert result[0].text == "z"


def test_train_mil_with_a_class_by_name(tmp_path, shapes):
    small = ("--model", "linear", "--epochs", "1", "--train-bags", "8", "--val-bags", "8", "--test-bags", "8")
    more = ("--quiet", "--bags-per-epoch", "0", "--mean-length", "4", "--target", "line")
    train_mil.main(flags(shapes, tmp_path, *small, *more))
    config = (tmp_path / "mil" / "own" / "config.json").read_text()
    assert "--target line" in config
    assert '"target": 1' in config


def test_train_mil_names_the_classes_when_the_target_is_unknown(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train_mil.main(["--dataset", "mnist-5k", "--results-dir", str(tmp_path), "--target", "ten"])
    assert stop.value.code == 2
    assert "choose from 0, 1, 2" in capsys.readouterr().err


def test_train_simclr(tmp_path, shapes):
    small = ("--encoder", "fast", "--epochs", "1", "--batch-size", "16", "--quiet")
    metrics = train_simclr.main(flags(shapes, tmp_path, *small))
    assert 0 <= metrics["mean"]["test_kmeans_spread_accuracy"] <= 1


def test_train_moco_and_few_labels_on_its_encoder(tmp_path, letters):
    small = ("--encoder", "fast", "--epochs", "1", "--batch-size", "16", "--queue", "32")
    train_moco.main(flags(letters, tmp_path, *small, "--quiet"))
    encoder = tmp_path / "moco" / "own" / "encoder.pt"
    counts = "26,104"
    more = ("--encoders", f"moco={encoder}", "--methods", "pixels-knn,moco-linear", "--labels", counts)
    content = train_few_labels.main(flags(letters, tmp_path, *more, "--draws", "2", "--quiet"))
    cells = {(c["method"], c["labels"]): c["mean"]["test_accuracy"] for c in content["cells"]}
    assert len(cells) == 4
    assert cells["pixels-knn", 104] > 0.9


def test_train_triplet(tmp_path, letters, monkeypatch, capsys):
    monkeypatch.setattr(retrieval, "PAIRS", 100)
    small = ("--encoder", "fast", "--epochs", "2", "--batch-images", "4", "--episodes", "5", "--quiet")
    metrics = train_triplet.main(flags(letters, tmp_path, *small))
    assert "26way 1shot" in capsys.readouterr().out
    assert 0 <= metrics["mean"]["test_26way_1shot_accuracy"] <= 1


def test_an_unknown_data_set_is_one_line(tmp_path, capsys):
    for script in (train_cnn, train_few_labels, train_mil, train_moco, train_simclr, train_triplet, ensemble):
        with pytest.raises(SystemExit) as stop:
            script.main(["--dataset", str(tmp_path / "nowhere")])
        assert stop.value.code == 2
        assert "mnist, fashion-mnist, kmnist, mnist-5k, or name a path" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        train_cnn.main(["--dataset", str(tmp_path)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "not a data set" in error
    assert len(error.splitlines()) == 1
