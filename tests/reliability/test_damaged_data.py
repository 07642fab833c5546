"""Damaged data sets: one line that names what is wrong, or the data as it is; never another exception."""

import contextlib
import gzip
import os
import random

import numpy as np
import pytest
import torch
from helpers import stripes, tiny_idx, write_idx
from PIL import Image

import train_cnn
from data import DataError, check_classes, load
from data.idx import IDX_FILES

pytestmark = pytest.mark.reliability

# --- One damage at a time: (a change of the data set's folder, what the line says) ---


def idx(file, change):
    """A change of the bytes of one IDX file."""

    def damage(folder):
        path = folder / IDX_FILES[file]
        path.write_bytes(change(path.read_bytes()))

    return damage


def compressed(file, change):
    """A change of the bytes of one IDX file after it was compressed."""

    def damage(folder):
        path = folder / IDX_FILES[file]
        path.with_name(f"{path.name}.gz").write_bytes(change(gzip.compress(path.read_bytes())))
        path.unlink()

    return damage


def instead(file, make):
    """Something else in the place of one IDX file."""

    def damage(folder):
        (folder / IDX_FILES[file]).unlink()
        make(folder / IDX_FILES[file])

    return damage


def exchanged(folder):
    """Training and test images exchanged."""
    first, second = (folder / IDX_FILES[i] for i in (0, 2))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def number(offset, value):
    """A change of one number in an IDX header."""
    return lambda b: b[:offset] + value.to_bytes(4, "big") + b[offset + 4 :]


def labels(change):
    """A change of the training labels."""

    def damage(folder):
        values = stripes(200, 0)[1]
        change(values)
        write_idx(folder / IDX_FILES[1], values)

    return damage


def one_of_class_four(values):
    values[values == 4] = 5
    values[0] = 4


IDX_DAMAGES = {
    **{f"no {IDX_FILES[i]}": instead(i, lambda path: None) for i in range(4)},
    **{f"empty {IDX_FILES[i]}": idx(i, lambda b: b"") for i in range(4)},
    **{f"cut {IDX_FILES[i]}": idx(i, lambda b: b[: len(b) // 2]) for i in range(4)},
    **{f"longer {IDX_FILES[i]}": idx(i, lambda b: b + b"0") for i in range(4)},
    **{f"text in {IDX_FILES[i]}": idx(i, lambda b: b"<html>404</html>" * 20) for i in range(4)},
    **{f"magic of {IDX_FILES[i]}": idx(i, number(0, 0x0D03)) for i in range(4)},
    **{f"folder {IDX_FILES[i]}": instead(i, lambda path: path.mkdir()) for i in range(4)},
    **{f"pipe {IDX_FILES[i]}": instead(i, os.mkfifo) for i in range(4)},
    **{f"circle {IDX_FILES[i]}": instead(i, lambda path: path.symlink_to(path.name)) for i in range(4)},
    **{f"cut gzip {IDX_FILES[i]}": compressed(i, lambda b: b[:-9]) for i in range(4)},
    **{f"no gzip {IDX_FILES[i]}": compressed(i, lambda b: b"no gzip") for i in range(4)},
    **{f"spoilt gzip {IDX_FILES[i]}": compressed(i, lambda b: b[:40] + b"\0" * 9 + b[49:]) for i in range(4)},
    **{f"count {count}": idx(0, number(4, count)) for count in (0, 1, 199, 201, 2**31, 2**32 - 1)},
    **{f"height {count}": idx(0, number(8, count)) for count in (0, 1, 32, 2**32 - 1)},
    **{f"count of labels {count}": idx(1, number(4, count)) for count in (0, 199, 2**32 - 1)},
    "exchanged": exchanged,
    "label 10": labels(lambda values: values.put(3, 10)),
    "label 255": labels(lambda values: values.put(3, 255)),
    "one class": labels(lambda values: values.fill(7)),
    "no class 4": labels(lambda values: values.put(np.flatnonzero(values == 4), 5)),
    "one image of class 4": labels(one_of_class_four),
}


@pytest.mark.parametrize("name", IDX_DAMAGES)
def test_damaged_idx_files_are_a_line(tmp_path, name, monkeypatch):
    tiny_idx(tmp_path)

    def no_download(self):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", no_download)
    IDX_DAMAGES[name](tmp_path / "MNIST" / "raw")
    with pytest.raises(DataError) as caught:
        check_classes(*load("mnist", tmp_path))
    assert 20 < len(str(caught.value)) < 700


def arrays(**changes):
    """The arrays of a good data set with some changed, or left out (None)."""
    x, y = stripes(60, 0)
    test_x, test_y = stripes(20, 1)
    good = {"x_train": x, "y_train": y, "x_test": test_x, "y_test": test_y}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


GOOD = arrays()
LABELS = GOOD["y_train"]
NPZ_DAMAGES = {
    **{f"no {name}": {name: None} for name in GOOD},
    **{f"empty {name}": {name: value[:0]} for name, value in GOOD.items()},
    **{f"one less in {name}": {name: value[:-1]} for name, value in GOOD.items()},
    **{f"{name} of objects": {name: value.astype(object)} for name, value in GOOD.items()},
    **{f"complex {name}": {name: value.astype(complex)} for name, value in GOOD.items()},
    **{f"flat {name}": {name: value.ravel()} for name, value in GOOD.items() if name[0] == "x"},
    **{f"{name} of no pixels": {name: value[:, :0]} for name, value in GOOD.items() if name[0] == "x"},
    **{f"{name} of texts": {name: value.astype(str)} for name, value in GOOD.items() if name[0] == "x"},
    "pixels NaN": {"x_train": np.full((60, 28, 28), np.nan)},
    "pixels inf": {"x_train": np.full((60, 28, 28), np.inf)},
    "pixels negative": {"x_train": GOOD["x_train"].astype(float) - 1},
    "five channels": {"x_train": np.zeros((60, 28, 28, 5), np.uint8)},
    "five dimensions": {"x_train": np.zeros((60, 1, 28, 28, 1), np.uint8)},
    "a number": {"x_train": np.array(3)},
    "labels as floats": {"y_train": LABELS.astype(float)},
    "labels as dates": {"y_train": LABELS.astype("datetime64[s]")},
    "labels one-hot": {"y_train": np.eye(10)[LABELS]},
    "labels true and false": {"y_train": LABELS > 4},
    "one class": {"y_train": LABELS * 0},
    "one image of a class": {"y_train": np.where(np.arange(60) == 5, 77, LABELS)},
    "test labels unknown": {"y_test": GOOD["y_test"] + 1},
    "names too few": {"classes": np.array(["a", "b"])},
    "names in two dimensions": {"classes": np.array([["a"] * 10])},
    "names twice": {"classes": np.array(["a"] * 10)},
    "labels not UTF-8": {"y_train": np.array([b"\xff", b"a"])[LABELS % 2], "y_test": None, "x_test": None},
}


@pytest.mark.parametrize("name", NPZ_DAMAGES)
def test_damaged_archives_are_a_line(tmp_path, name):
    path = tmp_path / "own.npz"
    np.savez(path, **arrays(**NPZ_DAMAGES[name]))
    with pytest.raises(DataError) as caught:
        check_classes(*load(path, ""))
    assert 20 < len(str(caught.value)) < 700


def picture(folder, name="0.png"):
    return folder / "train" / "a" / name


def empty_class(folder):
    (folder / "train" / "c").mkdir()


def only_class(folder):
    for path in [*folder.glob("train/b/*"), *folder.glob("test/b/*")]:
        path.rename(path.parents[1] / "a" / f"b{path.name}")
    for part in ("train", "test"):
        (folder / part / "b").rmdir()


def single_image(folder):
    for path in sorted(folder.glob("train/a/*"))[1:]:
        path.unlink()


def unknown_class(folder):
    (folder / "test" / "b").rename(folder / "test" / "z")


def train_is_a_file(folder):
    (folder / "train").rename(folder / "other")
    (folder / "train").touch()


def no_pictures_in_test(folder):
    for path in folder.glob("test/*/*"):
        path.unlink()


def replaced(make):
    def damage(folder):
        picture(folder).unlink()
        make(picture(folder))

    return damage


FOLDER_DAMAGES = {
    "text": lambda folder: picture(folder).write_text("no picture"),
    "empty": lambda folder: picture(folder).write_bytes(b""),
    "cut": lambda folder: picture(folder).write_bytes(picture(folder).read_bytes()[:60]),
    "flipped": lambda folder: picture(folder).write_bytes(picture(folder).read_bytes()[:50] + b"\0" * 40),
    "folder": replaced(lambda path: path.mkdir()),
    "pipe": replaced(os.mkfifo),
    "circle": replaced(lambda path: path.symlink_to(path.name)),
    "dangling": replaced(lambda path: path.symlink_to("nowhere")),
    "empty class": empty_class,
    "one class": only_class,
    "one image": single_image,
    "unknown class": unknown_class,
    "no pictures in test": no_pictures_in_test,
    "train is a file": train_is_a_file,
    "nothing": lambda folder: [(folder / part).rename(folder / f"no-{part}") for part in ("train", "test")],
}


@pytest.fixture
def pictures(tmp_path):
    """A folder with two classes of four and two pictures."""
    for part, count in (("train", 8), ("test", 4)):
        for i, image in enumerate(stripes(count, 0)[0]):
            place = tmp_path / "own" / part / "ab"[i % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{i}.png")
    return tmp_path / "own"


@pytest.mark.parametrize("name", FOLDER_DAMAGES)
def test_damaged_folders_are_a_line(pictures, name):
    check_classes(*load(pictures, ""))
    FOLDER_DAMAGES[name](pictures)
    with pytest.raises(DataError) as caught:
        check_classes(*load(pictures, ""))
    assert 20 < len(str(caught.value)) < 700


# --- Damage at random places ---


def spoilt(content, rng):
    """Flip a few bytes, mostly near the start, or cut the end off."""
    changed = bytearray(content)
    if rng.random() < 0.3:
        return bytes(changed[: rng.randrange(len(changed))])
    for _ in range(rng.choice((1, 1, 2, 20))):
        place = rng.randrange(min(rng.choice((16, 64, len(content))), len(content)))
        changed[place] ^= rng.randrange(1, 256)
    return bytes(changed)


def is_whole(part):
    """Whether a loaded set is what its fields say."""
    return (
        part.images.dtype == torch.uint8
        and part.images.shape[1:] == (1, 28, 28)
        and len(part.labels) == len(part.images) > 0
        and 0 <= int(part.labels.min()) <= int(part.labels.max()) < len(part.classes)
    )


@pytest.mark.parametrize("seed", range(100))
def test_random_damage_of_archives_and_idx_files(tmp_path, seed):
    rng = random.Random(seed)
    np.savez(tmp_path / "own.npz", **arrays())
    archive = (tmp_path / "own.npz").read_bytes()
    raw = tiny_idx(tmp_path, train=40, test=20) / "MNIST" / "raw"
    file = raw / rng.choice(IDX_FILES)
    whole = file.read_bytes()
    for _ in range(4):
        (tmp_path / "own.npz").write_bytes(spoilt(archive, rng))
        file.write_bytes(spoilt(whole, rng))
        for name, root in ((tmp_path / "own.npz", ""), ("mnist", tmp_path), (raw, "")):
            try:
                sets = load(name, root)
            except DataError:
                continue
            assert all(map(is_whole, sets))


# --- Small data sets, through a whole script ---


@pytest.mark.parametrize("count", [2, 9, 10, 11, 19, 20, 30, 90])
def test_a_small_data_set_trains_or_is_refused_before_a_run_is_opened(tmp_path, count, capsys):
    tiny_idx(tmp_path, train=count, test=max(count // 2, 1))
    argv = ["--data-dir", str(tmp_path), "--results-dir", str(tmp_path / "r"), "--device", "cpu", "--quiet"]
    argv += ["--model", "linear", "--epochs", "1", "--unverified"]
    code = 0
    with contextlib.suppress(SystemExit):
        code = 2
        train_cnn.main(argv)
        code = 0
    lines, made = capsys.readouterr().err.splitlines(), (tmp_path / "r").exists()
    assert (code, len(lines), made) in ((0, 0, True), (2, 1, False))
