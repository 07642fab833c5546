"""Your own data: folders of pictures, NumPy archives and IDX files, brought to the form of MNIST.

    train/<class>/*.png, test/<class>/*.png         the ImageFolder convention of torchvision
    *.npz with x_train, y_train, x_test, y_test     the convention of Keras; names in `classes` are optional
    a folder with MNIST's four IDX files            also .gz

Pictures may have any size, and be grey or in colour. The test part may be missing: then a stratified share of
the training images is held out.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from data.errors import DataError
from data.idx import IDX_FILES, find_idx, read_idx_pair
from data.pictures import PICTURES, SIDE, border, grey, open_picture
from data.splits import split

TEST_FRACTION = 1 / 6
SEED = 0  # of the held-out share and of the order


class Part(NamedTuple):
    """The training or the test images of a data set.

    images: (N, 28, 28) uint8. labels: (N,) integers or strings. resized, coloured: numbers of images that
    had another size, and that were in colour.
    """

    images: np.ndarray
    labels: np.ndarray
    resized: int = 0
    coloured: int = 0


class OwnData(NamedTuple):
    """A data set: for train and test, images (N, 28, 28) uint8 and labels (N,) int64.

    classes: names. inverted: whether the pictures had light paper, and were inverted. notes: what was
    changed, one sentence each.
    """

    train: tuple[torch.Tensor, torch.Tensor]
    test: tuple[torch.Tensor, torch.Tensor]
    classes: tuple[str, ...]
    inverted: bool
    notes: tuple[str, ...]


def read_own(path: Path) -> OwnData:
    """Read the data set at `path`, in any of the forms above.

    The images come in a fixed random order, because files are often sorted by class. Raises DataError, with
    one line, for what can't be read.
    """
    train, test, classes = _read(path)
    values = list(np.unique(train.labels)) if classes is None else classes
    if len(values) < 2:
        raise DataError(f"{path}: a data set needs at least 2 classes, found {len(values)}")
    if lacking := set(values) - set(train.labels.tolist()):
        raise DataError(f"{path}: no training image of class {min(lacking)}")
    pairs = [(part.images, _places(part.labels, values, path)) for part in (train, test) if part]
    notes = _notes([part for part in (train, test) if part])
    if len(pairs) == 1:
        pairs = _hold_out(*pairs[0], path)
        notes.append(f"no test images: {len(pairs[1][1]):,} of them held out, stratified by class")
    inverted = bool(np.median([np.median(border(image)) for image in pairs[0][0][:1000]]) > 127)
    if inverted:
        notes.append("light paper: images inverted")
    train, test = (_shuffled(255 - x if inverted else x, y) for x, y in pairs)
    return OwnData(train, test, tuple(map(str, values)), inverted, tuple(notes))


def _read(path):
    """Return the training Part, the test Part or None, and the classes in order, or None for the labels."""
    if path.suffix == ".npz":
        return _read_npz(path)
    if (path / "train").is_dir():
        train = _class_folders(path / "train")
        test = _class_folders(path / "test") if (path / "test").is_dir() else None
        if unknown := set(test or ()) - set(train):
            raise DataError(f"{path / 'test' / min(unknown)}: no such class in {path / 'train'}")
        return _read_pictures(train), _read_pictures(test) if test else None, list(train)
    if files := find_idx(path) or find_idx(path, IDX_FILES[:2]):
        pairs = [read_idx_pair(files[i : i + 2]) for i in range(0, len(files), 2)]
        parts = [_array_part(x.numpy(), y.numpy(), path) for x, y in pairs]
        return parts[0], parts[1] if len(parts) > 1 else None, None
    raise DataError(
        f"{path}: not a data set; expected an .npz file, or a folder with train/<class>/*.png or with "
        f"{', '.join(IDX_FILES)}"
    )


def _places(labels: np.ndarray, values: Sequence, path: Path) -> torch.Tensor:
    """Return the positions of labels in the list of class values, (N,) int64."""
    index = {value: i for i, value in enumerate(values)}
    if unknown := set(labels.tolist()) - set(index):
        raise DataError(f"{path}: test label {min(unknown)} does not occur among the training labels")
    return torch.tensor([index[value] for value in labels.tolist()])


def _notes(parts: Iterable[Part]) -> list[str]:
    count, resized, coloured = (
        sum(numbers) for numbers in zip(*((len(p.labels), p.resized, p.coloured) for p in parts), strict=True)
    )
    notes = []
    if resized:
        notes.append(f"{resized:,} of {count:,} images resized to {SIDE} x {SIDE} pixels")
    if coloured:
        notes.append(f"{coloured:,} of {count:,} images made grey")
    return notes


def _hold_out(images, labels, path):
    try:
        train, test = split(labels, TEST_FRACTION, SEED)
    except DataError as error:
        raise DataError(f"{path}: without test images a share is held out: {error}") from error
    return [(images[chosen.numpy()], labels[chosen]) for chosen in (train, test)]


def _shuffled(images, labels):
    order = np.random.default_rng(SEED).permutation(len(labels))
    return torch.from_numpy(images[order]), labels[torch.from_numpy(order)]


# --- Pictures ---


def to_square(values: np.ndarray) -> np.ndarray:
    """Scale grey values (H, W) in [0, 1] to (28, 28) uint8; oblong pictures get margins of their border."""
    height, width = values.shape
    if height != width:
        side = max(height, width)
        square = np.full((side, side), np.median(border(values)), np.float32)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = values
        values = square
    if values.shape != (SIDE, SIDE):
        shrinks = len(values) > SIDE
        method = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
        values = np.asarray(Image.fromarray(values.astype(np.float32)).resize((SIDE, SIDE), method))
    return np.rint(255 * values.clip(0, 1)).astype(np.uint8)


def _class_folders(folder):
    """Return {class name: picture files}; numbers in their order, then names in theirs."""
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    names.sort(key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    found = {
        name: sorted(file for file in (folder / name).iterdir() if file.suffix.lower() in PICTURES)
        for name in names
    }
    if not names:
        raise DataError(f"{folder}: expected a folder for each class, found none")
    if empty := [name for name, files in found.items() if not files]:
        raise DataError(f"{folder / empty[0]}: no pictures ({', '.join(PICTURES)})")
    return found


def _read_pictures(classes):
    images, labels, resized, coloured = [], [], 0, 0
    for name, files in classes.items():
        for file in files:
            picture = open_picture(file)
            coloured += "RGB" in picture.mode or picture.mode in ("P", "CMYK", "YCbCr", "HSV", "LAB")
            resized += picture.size != (SIDE, SIDE)
            images.append(to_square(grey(picture)))
            labels.append(name)
    return Part(np.stack(images), np.array(labels), resized, coloured)


# --- Arrays ---


def _read_npz(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except Exception as error:  # NumPy and zipfile raise half a dozen types for a damaged file
        raise DataError(f"{path}: not a NumPy archive, damaged, or with Python objects in it") from error
    needed = ["x_train", "y_train", *(["x_test", "y_test"] if {"x_test", "y_test"} & set(arrays) else [])]
    if missing := [name for name in needed if name not in arrays]:
        raise DataError(f"{path}: lacks {', '.join(missing)}; it has {', '.join(arrays) or 'no arrays'}")
    parts = [
        _array_part(arrays[needed[i]], arrays[needed[i + 1]], f"{path}, {needed[i]}")
        for i in range(0, len(needed), 2)
    ]
    test = parts[1] if len(parts) > 1 else None
    if "classes" not in arrays:
        return parts[0], test, None
    names = [str(name) for name in arrays["classes"]]
    for part in filter(None, (parts[0], test)):
        if part.labels.dtype.kind not in "iu" or part.labels.min() < 0 or part.labels.max() >= len(names):
            raise DataError(f"{path}: with names in `classes`, labels must be from 0 to {len(names) - 1}")
    named = [part and part._replace(labels=np.array(names)[part.labels]) for part in (parts[0], test)]
    return *named, names


def _array_part(pixels: np.ndarray, labels: np.ndarray, where: Path | str) -> Part:
    """Bring an array of grey (N, H, W) or coloured (N, H, W, 1, 3 or 4) images to a Part.

    Floats are taken for values in [0, 1], or in [0, 255] when one is above 1.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if (
        pixels.ndim not in (3, 4)
        or 0 in pixels.shape
        or pixels.ndim == 4
        and pixels.shape[3] not in (1, 3, 4)
    ):
        raise DataError(
            f"{where}: expected images (N, height, width) or (N, height, width, channels), "
            f"found an array of shape {pixels.shape}"
        )
    if labels.shape != pixels.shape[:1] or labels.dtype.kind not in "iuUS" or len(labels) == 0:
        raise DataError(
            f"{where}: expected {len(pixels)} whole numbers or names as labels, "
            f"found {labels.dtype} of shape {labels.shape}"
        )
    if labels.dtype.kind == "S":
        try:
            labels = np.char.decode(labels)
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: names of classes that are not UTF-8") from error
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "fiub" or not np.isfinite(pixels).all() or pixels.min() < 0:
            raise DataError(f"{where}: expected pixels from 0 to 255 or from 0 to 1")
        pixels = (pixels * (1 if pixels.max() > 1 else 255)).round().clip(0, 255).astype(np.uint8)
    if pixels.ndim == 4 and pixels.shape[3] == 1:
        pixels = pixels[..., 0]
    resized = len(pixels) * (pixels.shape[1:3] != (SIDE, SIDE))
    coloured = len(pixels) * (pixels.ndim == 4)
    if resized or coloured:
        pixels = np.stack([to_square(grey(Image.fromarray(image))) for image in pixels])
    return Part(pixels, labels, resized, coloured)
