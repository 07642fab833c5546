"""Your own data: every form gives its pixels and labels, or one line says what is wrong; scripts use it."""

import gzip
import io
import json
import shutil
import string

import numpy as np
import pytest
import torch
from helpers import write_idx
from PIL import Image
from scipy.io import savemat

import ensemble
import predict
import train_cnn
import train_few_labels
import train_mil
import train_moco
import train_simclr
import train_triplet
from data import DataError, load
from data.idx import IDX_FILES
from models import read_model


def squares(count, classes, seed=0, side=28, channels=()):
    """Images (count, side, side, *channels) uint8 whose class is the row of a bright bar, and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 30, (count, side, side, *channels), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top = (label + 1) * side // (classes + 2)
        image[top : top + max(1, side // 14), side // 5 : -side // 5] = 220
    return images, labels


X, Y = squares(30, 3)
TEST_X, TEST_Y = squares(12, 3, seed=1)


def write_npz(path, **changes):
    arrays = {"x_train": X, "y_train": Y, "x_test": TEST_X, "y_test": TEST_Y, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def table(images, labels, separator=",", quote="", order=slice(None)):
    """The bytes of a CSV file: a header, then the label and the pixels of an image in each row."""
    cells = np.column_stack([labels, images.reshape(len(images), -1)]).astype(str)
    cells = np.vstack([["Label", *(f"pixel{i}" for i in range(cells.shape[1] - 1))], cells])[:, order]
    return "".join(separator.join(f"{quote}{cell}{quote}" for cell in row) + "\n" for row in cells).encode()


def write_form(folder, form):
    """Write an archive with changed arrays, or (name, content, test labels) of a table; return its path."""
    if isinstance(form, dict):
        return write_npz(folder / "a.npz", **form)
    name, content, *labels = form
    (folder / name.replace("train", "test")).write_bytes(table(TEST_X, *labels or [TEST_Y]))
    (folder / name).write_bytes(content)
    return folder / name


def write_folders(folder, names=("2", "10", "star"), parts=(("train", 30), ("test", 12)), **options):
    for seed, (part, count) in enumerate(parts):
        images, labels = squares(count, len(names), seed, **options)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / part / names[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{i}.png")
    return folder


def pixels(images):
    return sorted(image.numpy().tobytes() for image in images.images[:, 0])


def test_folders_give_their_pictures_in_a_fixed_mixed_order_small_and_grey_and_names_numbers_first(tmp_path):
    train, test = load(write_folders(tmp_path / "shapes"), "")
    assert train.classes == test.classes == ("2", "10", "star")
    assert train.name == "shapes"
    assert train.notes == ("train/: 30 files read, 0 skipped", "test/: 12 files read, 0 skipped")
    for part, images, labels in ((train, X, Y), (test, TEST_X, TEST_Y)):
        assert pixels(part) == sorted(image.tobytes() for image in images)
        place = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
        assert [place[image.numpy().tobytes()] for image in part.images] == part.labels.tolist()
    files = [np.array(Image.open(tmp_path / "shapes" / source)) for source in train.sources]
    assert np.array_equal(files, train.images[:, 0])
    scaled = train.images.double() / 255
    assert train.mean == pytest.approx(scaled.mean().item(), abs=1e-4)
    assert train.std == pytest.approx(scaled.std().item(), abs=1e-4)
    assert torch.equal(load(tmp_path / "shapes", "")[0].images, train.images)
    assert set(train.labels[:10].tolist()) == {0, 1, 2}
    train, _ = load(write_folders(tmp_path / "large", side=56, channels=(3,)), "")
    assert train.images.shape == (30, 1, 28, 28)
    assert train.notes[1] == "test/: 12 files read, 0 skipped, 12 resized to 28 x 28 pixels, 12 made grey"
    assert train.images.amax() > 190


def test_without_test_images_a_stratified_share_is_held_out(tmp_path):
    x, y = squares(50, 10, side=32)  # five of each class are enough
    write_folders(tmp_path / "folders", "0123456789", parts=(("train", 50),))
    npz = write_npz(tmp_path / "a.npz", x_train=x, y_train=y, x_test=None, y_test=None)
    for name, array in zip(IDX_FILES, (x, y), strict=False):
        write_idx(tmp_path / name, array)
    for path in (tmp_path / "folders", npz, tmp_path):
        train, test = load(path, "")
        assert torch.bincount(train.labels).tolist() == [4] * 10
        assert torch.bincount(test.labels).tolist() == [1] * 10
        assert "10 of them held out, stratified by class" in train.notes[-1]
        assert not set(pixels(train)) & set(pixels(test))
    assert y[list(train.sources)].tolist() == train.labels.tolist()  # rows


def test_light_paper_is_inverted_and_it_is_said_and_kept(tmp_path):
    train, _ = load(write_npz(tmp_path / "a.npz", x_train=255 - X, x_test=255 - TEST_X), "")
    assert train.inverted
    assert "inverted" in train.notes[-1]
    assert train.description["inverted"]
    assert pixels(train) == sorted(image.tobytes() for image in X)
    train, _ = load(write_npz(tmp_path / "a.npz", x_train=np.concatenate([X[:15], 255 - X[15:]])), "")
    assert (train.inverted, train.mixed) == (False, True)
    assert train.notes == ("some on light paper (50%), some on dark: left as they are",)


NAMES, MATLAB, PLAIN = np.array(["a", "b", "c"]), io.BytesIO(), table(X, Y)
LYING = [{"images": x.mT.reshape(len(x), -1), "labels": y} for x, y in ((X, Y + 1), (TEST_X, TEST_Y + 1))]
savemat(MATLAB, {"dataset": {"train": LYING[0], "test": LYING[1]}})  # as that of EMNIST
FORMS = {
    "floats to 1": ({"x_train": X.astype(np.float32) / 255}, "012"),
    "floats to 255": ({"x_train": X.astype(np.float64)}, "012"),
    "a channel": ({"x_train": X[..., None].astype(np.int64), "y_train": Y[:, None]}, "012"),
    "labels are names": ({"y_train": NAMES[Y], "y_test": NAMES[TEST_Y]}, "abc"),
    "labels from 1": ({"y_train": Y + 1, "y_test": TEST_Y + 1}, "123"),
    "labels with names": ({"classes": NAMES}, "abc"),
    "flat": ({"x_train": X.reshape(30, -1)}, "012"),
    "channels first": ({"x_train": X[:, None]}, "012"),
    "16 bits": ({"x_train": X.astype(np.uint16) * 257}, "012"),
    "labels are floats": ({"y_train": Y.astype(float)}, "012"),
    "labels are one-hot": ({"y_train": np.eye(3)[Y], "y_test": np.eye(3, dtype=bool)[TEST_Y]}, "012"),
    "other names": ({"x_train": None, "y_train": None, "Images": X, "TrainLabels": Y}, "012"),
    "numbered last": ({"x_train": np.moveaxis(X, 0, 2)}, "012"),
    "MATLAB": (("emnist.mat", MATLAB.getvalue()), "123"),
    "table of Kaggle": (("train.csv", PLAIN), "012"),
    "table in gzip": (("train.csv.gz", gzip.compress(PLAIN)), "012"),
    "table of a spreadsheet": (("train.csv", b"\xef\xbb\xbf%s\r\n;;\r\n" % table(X, Y, ";", '"')), "012"),
    "table in UTF-16": (("train.txt", table(X, Y, "\t").decode().encode("utf-16")), "012"),
    "table without names": (("train.csv", PLAIN.partition(b"\n")[2].replace(b",220,", b",2.2e+02,")), "012"),
    "label last": (("train.csv", table(X, Y, order=[*range(1, 785), 0]).partition(b"\n")[2]), "012"),
    "names for labels": (("train.csv", table(X, NAMES[Y]), NAMES[TEST_Y]), "abc"),
}


@pytest.mark.parametrize(("changes", "classes"), FORMS.values(), ids=FORMS)
def test_archives_and_tables_of_every_form_are_the_same(tmp_path, changes, classes):
    train, test = load(write_form(tmp_path, changes), "")
    assert train.classes == tuple(classes)
    assert pixels(train) == sorted(image.tobytes() for image in X)
    assert torch.bincount(train.labels).tolist() == [10, 10, 10]
    assert torch.bincount(test.labels).tolist() == [4, 4, 4]


def test_names_of_emnist_are_known_its_images_stand_up_and_gzip_needs_no_suffix(tmp_path):
    names = "train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1"
    for name, array in zip(names, (X.swapaxes(1, 2), Y, TEST_X.swapaxes(1, 2), TEST_Y), strict=True):
        path = tmp_path / f"EMNIST-letters-{name}-ubyte".upper()
        write_idx(path, array)
        path.write_bytes(gzip.compress(path.read_bytes()))
    train, _ = load(tmp_path, "")
    assert pixels(train) == sorted(image.tobytes() for image in X)
    assert train.notes == ("images transposed, as those of EMNIST are",)
    (tmp_path / IDX_FILES[0].replace("-idx3", ".idx3")).write_bytes(b"")
    with pytest.raises(DataError, match="IDX files of 2 data sets"):
        load(tmp_path, "")


def test_folders_as_they_are_give_what_they_hold_and_say_the_rest(tmp_path):
    write_folders(tmp_path, ("class 2", "class 10"), [(".", 40)])
    for place in ("writer/page", ".thumbnails", "__MACOSX"):
        (tmp_path / "class 2" / place).mkdir(parents=True)
        (tmp_path / "class 2" / place / "._0.png").write_bytes(b"of a Mac")
    shutil.copy(tmp_path / "class 2" / "4.png", tmp_path / "class 2" / ".thumbnails")
    (tmp_path / "class 2" / "0.png").rename(tmp_path / "class 2" / "writer" / "page" / "0.WebP")
    (tmp_path / "class 10" / "notes.txt").write_text("no picture")
    picture = Image.new("L", (28, 28))
    picture.save(tmp_path / "class 2" / "2.png", save_all=True, append_images=[picture.point(lambda _: 9)])
    (tmp_path / "0.png").write_bytes(b"of no class")
    train, test = load(tmp_path, "")
    assert train.classes == ("class 2", "class 10")
    assert (len(train.labels), len(test.labels)) == (33, 7)
    read = f"{tmp_path.name}/: 40 files read, 6 skipped, 1 of several pages or frames: the first was read"
    assert train.notes[0] == read
    for name in ("Training", "val"):
        write_folders(tmp_path / "parts" / "inside", list(map(str, range(11))), parts=[(name, 30)])
    train, _ = load(tmp_path / "parts", "")
    assert train.classes == tuple(map(str, range(11)))
    assert train.notes[1] == "not read: val/"


@pytest.mark.parametrize(("top", "dtype"), [(1, bool), (16, np.uint8), (4095, np.int32), (65535, np.uint16)])
def test_the_grey_range_is_found_for_all_images_and_said(tmp_path, top, dtype):
    x, test_x = ((part > 127) * top for part in (X, TEST_X))
    test_x = test_x // 2 if top > 1 else test_x
    path = write_npz(tmp_path / "a.npz", x_train=x.astype(dtype), x_test=test_x.astype(dtype))
    train, test = load(path, "")
    assert train.images.unique().tolist() == [0, 255]
    assert test.images.amax() == (255 if top == 1 else 127 if top % 2 else 128)
    assert train.notes == (f"grey values from 0 to {top:,}",)


BAD_ARRAYS = {
    "no labels": ({"y_train": None}, "lacks y_train"),
    "other names": ({"x_train": None, "a": X}, "lacks x_train; it has y_train, x_test, y_test, a: rename"),
    "two names": ({"images": X}, "images and another array are both x_train"),
    "no column of labels": (("train.csv", table(X, Y, order=slice(1, None))), "lacks y_train"),
    "no square": (("train.csv", table(X[:, 1:], Y)), "found 30 rows of 757 columns"),
    "no number": (("train.csv", PLAIN.replace(b",220,", b",white,", 1)), "could not convert string 'white'"),
    "a short row": (("train.csv", PLAIN + b"1,2\n"), "number of columns changed from 785 to 2"),
    "a row without a label": (("train.csv", PLAIN.replace(b"\n2,", b"\n,")), "row 3 has no label"),
    "cut gzip": (("train.csv", gzip.compress(PLAIN)[:-9]), "train.csv: damaged gzip file"),
    "no table": (("train.parquet", b"PAR1\x15\0\xff\n\x81"), "expected the label and the pixels of a square"),
    "counts": ({"y_train": Y[:-1]}, "expected 30 whole numbers"),
    "flat images": ({"x_train": X.reshape(30, -1)[:, 1:]}, "found an array of shape"),
    "not a number": ({"x_train": np.full(X.shape, np.nan)}, "expected pixels from 0 to 1, 15, "),
    "negative": ({"x_train": X.astype(float) - 300}, "expected pixels from 0 to 1, 15, "),
    "complex": ({"x_test": TEST_X.astype(complex)}, "expected pixels from 0 to 1, 15, "),
    "labels of halves": ({"y_train": Y + 0.5}, "expected 30 whole numbers"),
    "too long": ({"x_train": np.zeros((30, 1, 100_000), np.uint8)}, "a picture of 100,000 x 1 pixels"),
    "one class": ({"y_train": 0 * Y}, "at least 2 classes"),
    "unknown test label": ({"y_test": np.full(12, 7)}, "test label 7 has no training image: add"),
    "too few names": ({"classes": np.array(["a", "b"])}, "labels must be from 0 to 1"),
    "objects": ({"y_train": np.array([{}] * 30)}, "Python objects"),
    "too few": ({"x_train": X[:3], "y_train": Y[:3], "x_test": None, "y_test": None}, "a share is held out"),
}


@pytest.mark.parametrize(("changes", "said"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_bad_arrays_are_one_line(tmp_path, changes, said):
    path = write_form(tmp_path, changes)
    with pytest.raises(DataError, match=said) as caught:
        load(path, "")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_folders_are_one_line(tmp_path):
    def assert_refused(said, path=tmp_path):
        with pytest.raises(DataError, match=said):
            load(path, "")

    Image.new("L", (28, 28)).save(tmp_path / "7.png")
    assert_refused(r"not a data set; expected .*<class>/\*.png, .*; found 7.png")
    (tmp_path / "train").mkdir()
    assert_refused("expected a folder for each class")
    write_folders(tmp_path)
    (tmp_path / "test" / "moon").mkdir()
    assert_refused("moon: no pictures")
    shutil.copy(tmp_path / "7.png", tmp_path / "test" / "moon")
    assert_refused("moon: no such class in .*train: rename or remove it")
    write_folders(tmp_path / "own", parts=[("me", 9), ("you", 9)])
    assert_refused("pictures in 10, 2, star: put those of a class into one folder", tmp_path / "own")


# --- Scripts ---


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """The path of an archive of 26 classes with names."""
    (x, y), (test_x, test_y) = squares(312, 26), squares(104, 26, seed=1)
    arrays = {"x_train": x, "y_train": y, "x_test": test_x, "y_test": test_y}
    path = tmp_path_factory.mktemp("own") / "letters.npz"
    return write_npz(path, **arrays, classes=np.array(list(string.ascii_lowercase)))


def train(script, path, results, words):
    """Run a script for a moment, without figures."""
    where = ["--dataset", str(path), "--results-dir", str(results), "--name", "own", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.cli.draw", lambda *args: None)
        return script.main([*where, "--precision", "fp32", *words.split()])


def read_last(results, classes, *model):
    """The answer of predict.py to a picture of the last class, on dark and on light paper."""
    image = squares(classes, classes, seed=2)[0][-1]
    for name, values in (("dark", image), ("light", 255 - image)):
        Image.fromarray(values).save(results / f"{name}.png")
    paths = (str(results / f"{name}.png") for name in ("dark", "light"))
    (answer,) = {result.text for result in predict.main([*paths, *map(str, model)])}
    return answer


@pytest.mark.parametrize("script", [train_cnn, train_simclr, train_moco, train_mil, train_triplet, ensemble])
def test_defaults_fit_five_images_of_classes_called_like_formulas(tmp_path, script, monkeypatch):
    monkeypatch.setattr("evaluation.triplet.PAIRS", 100)
    shapes = write_folders(tmp_path / "$^$", ("1", "10", "$^$"), [("train", 15)])
    words = ["--dataset", str(shapes), "--results-dir", str(tmp_path), "--dry-run", "--quiet"]
    own = {train_triplet: ["--episodes", "9"], train_mil: ["--target", "$^$"]}
    content = script.main(words + own.get(script, []))
    (folder,) = tmp_path.glob("*/dry-run")
    assert len(list(folder.glob("*.png"))) > 1
    if script is train_mil:
        assert json.loads((folder / "config.json").read_text())["arguments"]["target"] == 2
    if script is train_triplet:  # four images of each class to train on, one to test
        names = {name.removesuffix("_accuracy") for name in content["mean"] if name.startswith("test_")}
        assert names == {"test_3way_1shot", "test_3way_1shot_accuracy_low", "test_3way_1shot_accuracy_high"}


def test_train_cnn_and_predict_on_folders(tmp_path, capsys):
    shapes = write_folders(tmp_path / "shapes", parts=(("train", 90), ("test", 45)), side=40)
    metrics = train(train_cnn, shapes, tmp_path, "--model linear")
    output = capsys.readouterr().out
    assert "resized to 28 x 28" in output
    assert "few training images (81): batch size 32, passes 26 in each of 15 epochs" in output
    assert metrics["mean"]["test_accuracy"] > 0.9
    assert len(metrics["runs"][0]["test_recall"]) == 3
    assert read_model(tmp_path / "cnn" / "own" / "best.pt").data["classes"] == ["2", "10", "star"]
    assert read_last(tmp_path, 3, "--model", tmp_path / "cnn" / "own") == "star"
    for old, new in (("2", "swap"), ("10", "2"), ("swap", "10")):
        (shapes / "train" / old).rename(shapes / "train" / new)
    with pytest.raises(SystemExit):
        train(train_cnn, shapes, tmp_path, "--model linear --epochs 8 --batch-size 16 --resume")
    assert "was started with other data" in capsys.readouterr().err


def test_ensemble_and_predict_on_an_archive(tmp_path, letters):
    words = "--members 2 --model linear --epochs 6 --batch-size 16 --quiet"
    assert train(ensemble, letters, tmp_path, words)["mean"]["test_accuracy"] > 0.8
    assert read_last(tmp_path, 26, "--model", tmp_path / "ensemble" / "own") == "z"


def test_train_moco_and_few_labels_on_its_encoder(tmp_path, letters):
    train(train_moco, letters, tmp_path, "--model fast --epochs 1 --batch-size 16 --queue 32 --quiet")
    words = f"--encoders moco={tmp_path}/moco/own/encoder.pt --methods pixels-knn,moco-linear"
    content = train(train_few_labels, letters, tmp_path, f"{words} --labels 26,104 --draws 2 --quiet")
    cells = {(c["method"], c["labels"]): c["mean"]["test_accuracy"] for c in content["cells"]}
    assert len(cells) == 4
    archive, words = write_npz(tmp_path / "a.npz"), "--draws 1 --methods pixels-knn --overwrite"
    content = train(train_few_labels, archive, tmp_path, words)
    assert [cell["labels"] for cell in content["cells"]] == [3, 6, 15]  # by default
    assert cells["pixels-knn", 104] > 0.9
