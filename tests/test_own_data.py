"""The scripts on data of one's own: 3 classes with names from folders, 26 classes from an archive."""

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
import train_triplet
from models import read_model

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
    (x, y), (test_x, test_y) = bars(312, 26, 0), bars(104, 26, 1)
    path = tmp_path_factory.mktemp("own") / "letters.npz"
    np.savez(path, x_train=x, y_train=y, x_test=test_x, y_test=test_y, classes=np.array(LETTERS))
    return path


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """The path of folders of pictures of 3 classes."""
    folder = tmp_path_factory.mktemp("own")
    for part, count, seed in (("train", 90, 0), ("test", 45, 1)):
        for i, (image, label) in enumerate(zip(*bars(count, 3, seed), strict=True)):
            place = folder / part / ("circle", "line", "star")[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).resize((40, 40)).save(place / f"{i}.png")
    return folder


def train(script, path, results, words):
    """Run a script for a moment, without figures."""
    where = ["--dataset", str(path), "--results-dir", str(results), "--name", "own", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "plot_figures", lambda *args, **kwargs: None, raising=False)
        return script.main([*where, "--precision", "fp32", *words.split()])


def read_last(results, classes, *model):
    """The answer of predict.py to a picture of the last class."""
    Image.fromarray(bars(classes, classes, 2)[0][-1]).save(results / "last.png")
    return predict.main([str(results / "last.png"), *map(str, model)])[0].text


def test_train_cnn_and_predict_on_folders(tmp_path, shapes, capsys):
    metrics = train(train_cnn, shapes, tmp_path, "--model linear --epochs 8 --batch-size 16")
    assert "resized to 28 x 28" in capsys.readouterr().out
    assert metrics["mean"]["test_accuracy"] > 0.9
    assert len(metrics["runs"][0]["test_recall"]) == 3
    assert read_model(tmp_path / "cnn" / "own" / "best.pt").data["classes"] == ["circle", "line", "star"]
    assert read_last(tmp_path, 3, "--model", tmp_path / "cnn" / "own") == "star"


def test_ensemble_and_predict_on_an_archive(tmp_path, letters):
    words = "--members 2 --model linear --epochs 6 --batch-size 16 --quiet"
    assert train(ensemble, letters, tmp_path, words)["mean"]["test_accuracy"] > 0.8
    assert read_last(tmp_path, 26, "--ensemble", tmp_path / "ensemble" / "own") == "z"


def test_train_mil_with_a_class_by_name(tmp_path, shapes):
    words = "--model linear --epochs 1 --train-bags 8 --val-bags 8 --test-bags 8 --bags-per-epoch 0 --quiet"
    train(train_mil, shapes, tmp_path, f"{words} --mean-length 4 --target line")
    config = (tmp_path / "mil" / "own" / "config.json").read_text()
    assert "--target line" in config
    assert '"target": 1' in config


def test_train_moco_and_few_labels_on_its_encoder(tmp_path, letters):
    train(train_moco, letters, tmp_path, "--encoder fast --epochs 1 --batch-size 16 --queue 32 --quiet")
    words = f"--encoders moco={tmp_path}/moco/own/encoder.pt --methods pixels-knn,moco-linear"
    content = train(train_few_labels, letters, tmp_path, f"{words} --labels 26,104 --draws 2 --quiet")
    cells = {(c["method"], c["labels"]): c["mean"]["test_accuracy"] for c in content["cells"]}
    assert len(cells) == 4
    assert cells["pixels-knn", 104] > 0.9


def test_train_triplet(tmp_path, letters, capsys):
    words = "--encoder fast --epochs 2 --batch-images 4 --episodes 5 --quiet"
    metrics = train(train_triplet, letters, tmp_path, words)
    assert "26way 1shot" in capsys.readouterr().out
    assert 0 <= metrics["mean"]["test_26way_1shot_accuracy"] <= 1


@pytest.mark.parametrize(
    ("place", "said"), [("nowhere", "mnist-5k, or name a path"), (".", "not a data set")]
)
def test_an_unknown_data_set_is_one_line(tmp_path, place, said, capsys):
    with pytest.raises(SystemExit) as stop:
        train_cnn.main(["--dataset", str(tmp_path / place)])
    assert stop.value.code == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert said in error
