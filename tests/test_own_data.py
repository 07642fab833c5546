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
from evaluation.triplet import retrieval
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


@pytest.fixture(autouse=True)
def few_figures(monkeypatch, request):
    """Figures take most of a test's time: they are drawn once for each script, of 26 classes."""
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if params.get("own") != 26 or params.get("more"):
        for script in (ensemble, train_cnn, train_mil, train_moco, train_simclr):
            monkeypatch.setattr(script, "plot_figures", lambda *args: None)


@pytest.fixture(scope="module", params=[3, 26])
def own(request, tmp_path_factory):
    """(path, names of the classes) of a data set."""
    folder = tmp_path_factory.mktemp("own")
    if request.param == 26:
        arrays = dict(zip(("x_train", "y_train"), bars(312, 26, 0), strict=True))
        arrays |= dict(zip(("x_test", "y_test"), bars(104, 26, 1), strict=True))
        np.savez(folder / "letters.npz", classes=np.array(LETTERS), **arrays)
        return folder / "letters.npz", LETTERS
    for part, count, seed in (("train", 90, 0), ("test", 45, 1)):
        for i, (image, label) in enumerate(zip(*bars(count, 3, seed), strict=True)):
            place = folder / part / SHAPES[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).resize((40, 40)).save(place / f"{i}.png")
    return folder, SHAPES


def flags(path, results, *more):
    where = ["--dataset", str(path), "--results-dir", str(results), "--name", "own"]
    return [*where, "--device", "cpu", "--precision", "fp32", *more]


def test_train_cnn_and_predict(tmp_path, own, capsys):
    path, names = own
    metrics = train_cnn.main(
        flags(path, tmp_path, "--model", "linear", "--epochs", "8", "--batch-size", "16")
    )
    assert ("resized to 28 x 28" in capsys.readouterr().out) == (names == SHAPES)
    assert metrics["mean"]["test_accuracy"] > 0.9
    assert len(metrics["runs"][0]["test_recall"]) == len(names)
    assert read_model(tmp_path / "cnn" / "own" / "best.pt").data["classes"] == list(names)
    picture = bars(len(names), len(names), 2)[0][-1]
    Image.fromarray(picture).save(tmp_path / "last.png")
    result = predict.main([str(tmp_path / "last.png"), "--model", str(tmp_path / "cnn" / "own")])
    assert result[0].text == names[-1]


@pytest.mark.parametrize("more", [(), ("--mode", "fusion"), ("--folds", "2")])
def test_ensemble(tmp_path, own, more):
    path, names = own
    small = ("--members", "2", "--model", "linear", "--epochs", "6", "--batch-size", "16", "--quiet")
    metrics = ensemble.main(flags(path, tmp_path, *small, *more))
    assert metrics["mean"]["test_accuracy"] > 0.8
    picture = bars(len(names), len(names), 2)[0][-1]
    Image.fromarray(picture).save(tmp_path / "last.png")
    result = predict.main([str(tmp_path / "last.png"), "--ensemble", str(tmp_path / "ensemble" / "own")])
    assert result[0].text == names[-1]


def test_train_mil_with_a_class_by_name(tmp_path, own):
    path, names = own
    small = ("--model", "linear", "--epochs", "1", "--train-bags", "8", "--val-bags", "8", "--test-bags", "8")
    more = ("--quiet", "--bags-per-epoch", "0", "--mean-length", "4", "--target", names[1])
    train_mil.main(flags(path, tmp_path, *small, *more))
    config = (tmp_path / "mil" / "own" / "config.json").read_text()
    assert f"--target {names[1]}" in config
    assert '"target": 1' in config


def test_train_mil_names_the_classes_when_the_target_is_unknown(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train_mil.main(["--dataset", "mnist-5k", "--results-dir", str(tmp_path), "--target", "ten"])
    assert stop.value.code == 2
    assert "choose from 0, 1, 2" in capsys.readouterr().err


def test_train_simclr(tmp_path, own):
    path, names = own
    small = ("--encoder", "fast", "--epochs", "1", "--batch-size", "16", "--quiet")
    metrics = train_simclr.main(flags(path, tmp_path, *small))
    assert 0 <= metrics["mean"]["test_kmeans_spread_accuracy"] <= 1
    assert (tmp_path / "simclr" / "own" / "map.png").exists() == (len(names) == 26)


def test_train_moco_and_few_labels_on_its_encoder(tmp_path, own):
    path, names = own
    small = ("--encoder", "fast", "--epochs", "1", "--batch-size", "16", "--queue", "32")
    train_moco.main(flags(path, tmp_path, *small, "--quiet"))
    encoder = tmp_path / "moco" / "own" / "encoder.pt"
    counts = f"{len(names)},{4 * len(names)}"
    more = ("--encoders", f"moco={encoder}", "--methods", "pixels-knn,moco-linear", "--labels", counts)
    content = train_few_labels.main(flags(path, tmp_path, *more, "--draws", "2", "--quiet"))
    cells = {(c["method"], c["labels"]): c["mean"]["test_accuracy"] for c in content["cells"]}
    assert len(cells) == 4
    assert cells["pixels-knn", 4 * len(names)] > 0.9


def test_train_triplet(tmp_path, own, monkeypatch, capsys):
    path, names = own
    monkeypatch.setattr(retrieval, "PAIRS", 100)
    if len(names) == 3:
        monkeypatch.setattr(train_triplet, "draw_retrieval", lambda *args: None)
    small = ("--encoder", "fast", "--epochs", "2", "--batch-images", "4", "--episodes", "5", "--quiet")
    metrics = train_triplet.main(flags(path, tmp_path, *small))
    assert f"{len(names)}way 1shot" in capsys.readouterr().out
    assert 0 <= metrics["mean"][f"test_{len(names)}way_1shot_accuracy"] <= 1
    assert (tmp_path / "triplet" / "own" / "support.png").exists() == (len(names) == 26)


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
