"""Your own data: folders of pictures, NumPy archives and IDX files, brought to the form of MNIST.

    train/<class>/*.png, test/<class>/*.png         the ImageFolder convention of torchvision
    <class>/*.png                                   without a test part
    *.npz with x_train, y_train, x_test, y_test     the convention of Keras; names in `classes` are optional
    a folder with IDX files                         named as those of MNIST or EMNIST, also .gz

Pictures may have any size, and be grey or in colour. The test part may be missing: then a stratified share of
the training images is held out. Grey range and polarity are found once, for the whole data set.
"""

import hashlib
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from data.errors import DataError
from data.idx import IDX_FILES, check_bytes, find_any_idx, read_idx_pair
from data.pictures import (
    PICTURES,
    SIDE,
    border,
    check_size,
    first_only,
    grey,
    is_picture,
    on_light_paper,
    open_picture,
    shrunk,
)
from data.splits import split

ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes")
TEST_FRACTION = 1 / 6
SEED = 0  # of the held-out share and of the order
# The greatest grey value of an array: of shares, of 4, 8, 12 and 16 bits, and of scikit-learn's digits.
RANGES = (1, 15, 16, 255, 4095, 65535)
POLARITY_SAMPLE, ALIKE = 1000, 0.9  # images whose paper is looked at; the share that must agree


class Part(NamedTuple):
    """The training or the test images of a data set.

    images: (N, 28, 28) uint8. labels: (N,) integers or strings. resized, coloured: numbers of images that
    had another size, and that were in colour. notes: what else was changed or left out, one sentence each.
    """

    images: np.ndarray
    labels: np.ndarray
    resized: int = 0
    coloured: int = 0
    notes: tuple[str, ...] = ()


def read_own(path: Path) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], dict]:
    """Read the data set at `path`, in any of the forms above.

    Returns images (N, 28, 28) uint8 and labels (N,) int64 for training and test, and what describes them, the
    other fields of ImageSet. The images come in a fixed random order, because files are often sorted by
    class. Raises DataError, with one line, for what can't be read.
    """
    parts, classes = _read(path)
    values = sorted(np.unique(parts[0].labels).tolist(), key=natural) if classes is None else classes
    if len(values) < 2:
        raise DataError(f"{path}: a data set needs at least 2 classes, found {len(values)}")
    if lacking := set(values) - set(parts[0].labels.tolist()):
        raise DataError(f"{path}: no training image of class {min(lacking)}")
    index = {value: i for i, value in enumerate(values)}
    if unknown := set(parts[-1].labels.tolist()) - set(index):
        raise DataError(f"{path}: test label {min(unknown)} does not occur among the training labels")
    count, notes = (
        sum(len(part.labels) for part in parts),
        list(dict.fromkeys(n for p in parts for n in p.notes)),
    )
    if resized := sum(part.resized for part in parts):
        notes.append(f"{resized:,} of {count:,} images resized to {SIDE} x {SIDE} pixels")
    if coloured := sum(part.coloured for part in parts):
        notes.append(f"{coloured:,} of {count:,} images made grey")
    pairs = [(part.images, torch.tensor([index[v] for v in part.labels.tolist()])) for part in parts]
    if len(pairs) == 1:
        pairs = _hold_out(*pairs[0], path)
        notes.append(f"no test images: {len(pairs[1][1]):,} of them held out, stratified by class")
    sample = pairs[0][0][:: max(1, len(pairs[0][0]) // POLARITY_SAMPLE)]
    light = float(np.mean([on_light_paper(image) for image in sample]))
    inverted, mixed = light >= ALIKE, 1 - ALIKE < light < ALIKE
    if inverted or mixed:
        notes.append(
            f"some on light paper ({light:.0%}), some on dark: left as they are"
            if mixed
            else "light paper: images inverted"
        )
    orders = [np.random.default_rng(SEED).permutation(len(labels)) for _, labels in pairs]
    tensors = [
        (torch.from_numpy((255 - images if inverted else images)[order]), labels[torch.from_numpy(order)])
        for order, (images, labels) in zip(orders, pairs, strict=True)
    ]
    pixels = tensors[0][0].double() / 255
    digest = hashlib.sha256(repr(values).encode())
    for tensor in (t for pair in tensors for t in pair):
        digest.update(tensor.numpy().tobytes())
    facts = {
        "name": path.resolve().stem,
        "mean": round(pixels.mean().item(), 4),
        "std": round(max(pixels.std().item(), 1e-3), 4),
        "classes": tuple(map(str, values)),
        "inverted": inverted,
        "mixed": mixed,
        "digest": digest.hexdigest()[:16],
        "notes": tuple(notes),
    }
    return tensors, facts


def _read(path):
    """Return the training Part and, where there is one, the test Part, and the classes or None."""
    if path.suffix == ".npz" and path.is_file():
        return _read_npz(path)
    if (path / "train").is_dir():
        places = [path / part for part in ("train", "test") if (path / part).is_dir()]
        folders = [_class_folders(place) for place in places]
        if unknown := set(folders[-1]) - set(folders[0]):
            raise DataError(f"{path / 'test' / min(unknown)}: no such class in {path / 'train'}")
        parts = list(map(_read_pictures, places, folders))
        if beside := ", ".join(sorted(f"{p.name}/" for p in _subfolders(path) if p not in places)):
            parts[0] = parts[0]._replace(notes=(*parts[0].notes, f"not read: {beside}"))
        return parts, list(folders[0])
    files, prefix = find_any_idx(path) if path.is_dir() else ([], "")
    if files:
        pairs = [read_idx_pair(pair) for pair in files]
        if "emnist" in prefix:  # its images lie on their side
            pairs = [(x.mT.contiguous(), y) for x, y in pairs]
        top = grey_range(x.numpy() for x, _ in pairs)
        parts = [_array_part(x.numpy(), y.numpy(), path, top) for x, y in pairs]
        notes = ("images transposed, as those of EMNIST are",) if "emnist" in prefix else ()
        return [part._replace(notes=part.notes + notes) for part in parts], None
    if path.is_dir() and any(is_picture(file) for folder in _subfolders(path) for file in folder.iterdir()):
        folders = _class_folders(path)
        return [_read_pictures(path, folders)], list(folders)
    found = sorted(p.name + "/" * p.is_dir() for p in path.iterdir()) if path.is_dir() else []
    raise DataError(
        f"{path}: not a data set; expected an .npz file, or a folder with train/<class>/*.png, <class>/*.png "
        f"or {', '.join(IDX_FILES)}; found {', '.join(found[:4]) or path.suffix or 'nothing'}"
    )


def _hold_out(images, labels, path):
    try:
        train, test = split(labels, TEST_FRACTION, SEED)
    except DataError as error:
        raise DataError(f"{path}: without test images a share is held out: {error}") from error
    return [(images[chosen.numpy()], labels[chosen]) for chosen in (train, test)]


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


def natural(name: object) -> tuple:
    """Return the sort key of a name: numbers in their order, class 2 before class 10."""
    words = re.split(r"(\d+)", str(name))
    return [int(word) if i % 2 else word for i, word in enumerate(words)], str(name)


def _subfolders(folder):
    return [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))]


def _class_folders(folder):
    """Return {class name: picture files}, the names in natural order."""
    names = sorted((entry.name for entry in _subfolders(folder)), key=natural)
    if not names:
        raise DataError(f"{folder}: expected a folder for each class, found none")
    classes = {name: sorted(filter(is_picture, (folder / name).iterdir())) for name in names}
    for name, files in classes.items():
        if not files:
            raise DataError(f"{folder / name}: no pictures ({', '.join(PICTURES)})")
    return classes


def _read_pictures(folder, classes):
    images, labels, resized, coloured, several = [], [], 0, 0, 0
    for name, files in classes.items():
        for file in files:
            picture = open_picture(file)
            coloured += "RGB" in picture.mode or picture.mode in ("P", "CMYK", "YCbCr", "HSV", "LAB")
            several += bool(first_only(picture))
            resized += picture.size != (SIDE, SIDE)
            images.append(to_square(grey(shrunk(picture))))
            labels.append(name)
    skipped = sum(file.is_file() for file in folder.rglob("*")) - len(images)
    notes = [f"{folder.name}/: {len(images):,} files read, {skipped:,} skipped"]
    if several:
        notes.append(f"{folder.name}/: of {several:,} files only the first of their pages or frames was read")
    return Part(np.stack(images), np.array(labels), resized, coloured, tuple(notes))


# --- Arrays ---


def _read_npz(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            every, known = file.files, [name for name in file.files if name in ARRAYS]
            check_bytes(sum(file.zip.getinfo(f"{name}.npy").file_size for name in known), path)
            arrays = {name: file[name] for name in known}
    except DataError:
        raise
    except Exception as error:  # NumPy and zipfile raise half a dozen types for a damaged file
        raise DataError(f"{path}: not a NumPy archive, damaged, or with Python objects in it") from error
    names = ["train", *(["test"] if {"x_test", "y_test"} & set(arrays) else [])]
    if missing := [f"{axis}_{name}" for name in names for axis in "xy" if f"{axis}_{name}" not in arrays]:
        named = ", ".join(every)[:200] or "no arrays"
        raise DataError(f"{path}: lacks {', '.join(missing)}; it has {named}: rename them")
    pixels = [arrays[f"x_{name}"] for name in names]
    tops = [grey_range(x for x in pixels if x.dtype == own.dtype) for own in pixels]
    parts = [
        _array_part(x, arrays[f"y_{name}"], f"{path}, x_{name}", top)
        for x, name, top in zip(pixels, names, tops, strict=True)
    ]
    if "classes" not in arrays:
        return parts, None
    classes = [str(name) for name in arrays["classes"]]
    for labels in (part.labels for part in parts):
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(f"{path}: with names in `classes`, labels must be from 0 to {len(classes) - 1}")
    return [part._replace(labels=np.array(classes)[part.labels]) for part in parts], classes


def grey_range(arrays: Iterable[np.ndarray]) -> int:
    """Return the least of RANGES, or the greatest of them, that holds all values but for rounding."""
    most = max((x.max() for x in arrays if x.size and x.dtype.kind in "fiub"), default=0)
    return next((top for top in RANGES if most <= 1.01 * top), RANGES[-1])


def _array_part(pixels: np.ndarray, labels: np.ndarray, where: Path | str, top: int) -> Part:
    """Bring an array of images to a Part: (N, H, W), (N, H * H), or with 1, 3 or 4 channels last or first.

    top: the value of white. labels: whole numbers of any type, names, or one-hot rows.
    """
    if pixels.ndim == 2 and math.isqrt(pixels.shape[1]) ** 2 == pixels.shape[1]:
        pixels = pixels.reshape(len(pixels), math.isqrt(pixels.shape[1]), -1) if pixels.size else pixels
    if pixels.ndim == 4 and pixels.shape[3] not in (1, 3, 4) and pixels.shape[1] in (1, 3, 4):
        pixels = np.moveaxis(pixels, 1, 3)
    shape = pixels.shape
    if len(shape) < 3 or 0 in shape or shape[3:] not in ((), (1,), (3,), (4,)):
        raise DataError(
            f"{where}: expected images (N, height, width) or (N, height, width, channels), "
            f"found an array of shape {shape}"
        )
    check_size(where, shape[2], shape[1])
    labels = _plain_labels(labels, where)
    if labels.shape != shape[:1] or labels.dtype.kind not in "iuU":
        raise DataError(
            f"{where}: expected {len(pixels)} whole numbers or names as labels, "
            f"found {labels.dtype} of shape {labels.shape}"
        )
    if pixels.dtype.kind not in "fiub" or not np.isfinite(pixels).all() or pixels.min() < 0:
        raise DataError(f"{where}: expected pixels from 0 to {', '.join(f'{top:,}' for top in RANGES)}")
    if (pixels.dtype, top) != (np.uint8, 255):
        pixels = (pixels * (255 / top)).round().clip(0, 255).astype(np.uint8)
    pixels = pixels[..., 0] if shape[3:] == (1,) else pixels
    resized, coloured = shape[1:3] != (SIDE, SIDE), pixels.ndim == 4
    if resized or coloured:
        pixels = np.stack([to_square(grey(shrunk(Image.fromarray(image)))) for image in pixels])
    notes = () if top == 255 else (f"grey values from 0 to {top:,}",)
    return Part(pixels, labels, len(pixels) * resized, len(pixels) * coloured, notes)


def _plain_labels(labels, where):
    """Return labels in one column, whole numbers as such, one-hot rows as their numbers, bytes as text."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind == "b" or (labels.dtype.kind == "f" and (labels == labels.round()).all()):
        labels = labels.astype(np.int64)
    if labels.ndim == 2 and labels.dtype.kind in "iu" and ((labels == 0) | (labels == 1)).all():
        labels = labels.argmax(1) if (labels.sum(1) == 1).all() else labels
    try:
        return np.char.decode(labels) if labels.dtype.kind == "S" else labels
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: names of classes that are not UTF-8") from error
