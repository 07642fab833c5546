"""Damaged data sets: one line that names what is wrong, or the data as it is; never another exception."""

import gzip
import os
import random

import numpy as np
import pytest
import torch
from helpers import spoilt, stripes, tiny_idx
from PIL import Image

import train_cnn
from data import DataError, check_classes, load
from data.idx import IDX_FILES

pytestmark = pytest.mark.reliability

# --- IDX files: damage that is not in test_images.py ---

# Of compressed bytes, and what may be in the place of a file.
COMPRESSED = lambda b: b[:-9], lambda b: b"no gzip", lambda b: b[:40] + b"\0" * 9 + b[49:]
INSTEAD = [lambda path: path.write_text("no number, no picture"), lambda path: path.mkdir(), os.mkfifo]
INSTEAD += [lambda path: path.symlink_to(path.name), lambda path: path.symlink_to("nowhere")]


def assert_one_line(*where):
    with pytest.raises(DataError) as caught:
        check_classes(*load(*where))
    assert 20 < len(str(caught.value)) < 700


@pytest.mark.parametrize("file", IDX_FILES)
def test_a_damaged_idx_file_is_a_line(tmp_path, file):
    path = tiny_idx(tmp_path) / "MNIST" / "raw" / file
    whole, packed = path.read_bytes(), path.with_name(f"{file}.gz")
    path.unlink()
    for change in COMPRESSED:
        packed.write_bytes(change(gzip.compress(whole)))
        assert_one_line("mnist", tmp_path)
    packed.unlink()
    assert_one_line("mnist", tmp_path)
    for make in INSTEAD:
        make(path)
        assert_one_line("mnist", tmp_path)
        path.rmdir() if path.is_dir() else path.unlink()


# --- Archives and folders ---


def arrays():
    """The arrays of a good data set."""
    (x, y), (test_x, test_y) = stripes(60, 0), stripes(20, 1)
    return {"x_train": x, "y_train": y, "x_test": test_x, "y_test": test_y}


@pytest.mark.parametrize("make", INSTEAD)
def test_what_is_no_picture_is_a_line(tmp_path, make):
    for i, image in enumerate(stripes(8, 0)[0]):
        path = tmp_path / "own" / "train" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    check_classes(*load(tmp_path / "own", ""))
    path.unlink()
    make(path)
    assert_one_line(tmp_path / "own", "")


# --- Damage at random places ---


def is_whole(part):
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
    code = None
    try:
        train_cnn.main(argv)
    except SystemExit as stop:
        code = stop.code
    lines, made = capsys.readouterr().err.splitlines(), (tmp_path / "r").exists()
    assert (code, len(lines), made) in ((None, 0, True), (2, 1, False))
