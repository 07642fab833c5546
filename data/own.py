"""Your own data: folders of pictures, NumPy archives and IDX files, brought to the form of MNIST.

    train/<class>/*.png, test/<class>/*.png         the ImageFolder convention of torchvision
    *.npz with x_train, y_train, x_test, y_test     the convention of Keras; names in `classes` are optional
    a folder with MNIST's four IDX files            also .gz

Pictures may have any size, and be grey or in colour. The test part may be missing: then a stratified share of
the training images is held out.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from data.errors import DataError
from data.idx import IDX_FILES, check_bytes, find_idx, read_idx_pair
from data.pictures import PICTURES, SIDE, border, check_size, grey, open_picture, shrunk
from data.splits import split

ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes")
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


def read_own(path: Path) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], dict]:
    """Read the data set at `path`, in any of the forms above.

    Returns images (N, 28, 28) uint8 and labels (N,) int64 for training and test, and what describes them, as
    in ImageSet: name, mean, std, classes, inverted and notes. The images come in a fixed random order,
    because files are often sorted by class. Raises DataError, with one line, for what can't be read.
    """
    parts, classes = _read(path)
    values = np.unique(parts[0].labels).tolist() if classes is None else classes
    if len(values) < 2:
        raise DataError(f"{path}: a data set needs at least 2 classes, found {len(values)}")
    if lacking := set(values) - set(parts[0].labels.tolist()):
        raise DataError(f"{path}: no training image of class {min(lacking)}")
    index = {value: i for i, value in enumerate(values)}
    if unknown := set(parts[-1].labels.tolist()) - set(index):
        raise DataError(f"{path}: test label {min(unknown)} does not occur among the training labels")
    count, notes = sum(len(part.labels) for part in parts), []
    if resized := sum(part.resized for part in parts):
        notes.append(f"{resized:,} of {count:,} images resized to {SIDE} x {SIDE} pixels")
    if coloured := sum(part.coloured for part in parts):
        notes.append(f"{coloured:,} of {count:,} images made grey")
    pairs = [(part.images, torch.tensor([index[v] for v in part.labels.tolist()])) for part in parts]
    if len(pairs) == 1:
        pairs = _hold_out(*pairs[0], path)
        notes.append(f"no test images: {len(pairs[1][1]):,} of them held out, stratified by class")
    inverted = bool(np.median([np.median(border(image)) for image in pairs[0][0][:1000]]) > 127)
    if inverted:
        notes.append("light paper: images inverted")
    orders = [np.random.default_rng(SEED).permutation(len(labels)) for _, labels in pairs]
    tensors = [
        (torch.from_numpy((255 - images if inverted else images)[order]), labels[torch.from_numpy(order)])
        for order, (images, labels) in zip(orders, pairs, strict=True)
    ]
    pixels = tensors[0][0].double() / 255
    facts = {
        "name": path.resolve().stem,
        "mean": round(pixels.mean().item(), 4),
        "std": round(max(pixels.std().item(), 1e-3), 4),
        "classes": tuple(map(str, values)),
        "inverted": inverted,
        "notes": tuple(notes),
    }
    return tensors, facts


def _read(path):
    """Return the training Part and, where there is one, the test Part, and the classes or None."""
    if path.suffix == ".npz" and path.is_file():
        return _read_npz(path)
    if (path / "train").is_dir():
        folders = [_class_folders(path / part) for part in ("train", "test") if (path / part).is_dir()]
        if unknown := set(folders[-1]) - set(folders[0]):
            raise DataError(f"{path / 'test' / min(unknown)}: no such class in {path / 'train'}")
        return list(map(_read_pictures, folders)), list(folders[0])
    if files := find_idx(path) or find_idx(path, IDX_FILES[:2]):
        pairs = [read_idx_pair(files[i : i + 2]) for i in range(0, len(files), 2)]
        return [_array_part(x.numpy(), y.numpy(), path) for x, y in pairs], None
    raise DataError(
        f"{path}: not a data set; expected an .npz file, or a folder with train/<class>/*.png or with "
        f"{', '.join(IDX_FILES)}"
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


def _class_folders(folder):
    """Return {class name: picture files}; numbers in their order, then names in theirs."""
    names = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    names.sort(key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    if not names:
        raise DataError(f"{folder}: expected a folder for each class, found none")
    classes = {}
    for name in names:
        classes[name] = sorted(file for file in (folder / name).iterdir() if file.suffix.lower() in PICTURES)
        if not classes[name]:
            raise DataError(f"{folder / name}: no pictures ({', '.join(PICTURES)})")
    return classes


def _read_pictures(classes):
    images, labels, resized, coloured = [], [], 0, 0
    for name, files in classes.items():
        for file in files:
            picture = open_picture(file)
            coloured += "RGB" in picture.mode or picture.mode in ("P", "CMYK", "YCbCr", "HSV", "LAB")
            resized += picture.size != (SIDE, SIDE)
            images.append(to_square(grey(shrunk(picture))))
            labels.append(name)
    return Part(np.stack(images), np.array(labels), resized, coloured)


# --- Arrays ---


def _read_npz(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            known = [name for name in file.files if name in ARRAYS]
            check_bytes(sum(file.zip.getinfo(f"{name}.npy").file_size for name in known), path)
            arrays = {name: file[name] for name in known}
    except DataError:
        raise
    except Exception as error:  # NumPy and zipfile raise half a dozen types for a damaged file
        raise DataError(f"{path}: not a NumPy archive, damaged, or with Python objects in it") from error
    names = ["train", *(["test"] if {"x_test", "y_test"} & set(arrays) else [])]
    if missing := [f"{axis}_{name}" for name in names for axis in "xy" if f"{axis}_{name}" not in arrays]:
        raise DataError(f"{path}: lacks {', '.join(missing)}; it has {', '.join(arrays) or 'no arrays'}")
    parts = [_array_part(arrays[f"x_{name}"], arrays[f"y_{name}"], f"{path}, x_{name}") for name in names]
    if "classes" not in arrays:
        return parts, None
    classes = [str(name) for name in arrays["classes"]]
    for labels in (part.labels for part in parts):
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(f"{path}: with names in `classes`, labels must be from 0 to {len(classes) - 1}")
    return [part._replace(labels=np.array(classes)[part.labels]) for part in parts], classes


def _array_part(pixels: np.ndarray, labels: np.ndarray, where: Path | str) -> Part:
    """Bring an array of grey (N, H, W) or coloured (N, H, W, 1, 3 or 4) images to a Part.

    Floats are taken for values in [0, 1], or in [0, 255] when one is above 1.
    """
    shape = pixels.shape
    if len(shape) < 3 or 0 in shape or shape[3:] not in ((), (1,), (3,), (4,)):
        raise DataError(
            f"{where}: expected images (N, height, width) or (N, height, width, channels), "
            f"found an array of shape {shape}"
        )
    check_size(where, shape[2], shape[1])
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != shape[:1] or labels.dtype.kind not in "iuUS":
        raise DataError(
            f"{where}: expected {len(pixels)} whole numbers or names as labels, "
            f"found {labels.dtype} of shape {labels.shape}"
        )
    try:
        labels = np.char.decode(labels) if labels.dtype.kind == "S" else labels
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: names of classes that are not UTF-8") from error
    if pixels.dtype != np.uint8:
        if pixels.dtype.kind not in "fiub" or not np.isfinite(pixels).all() or pixels.min() < 0:
            raise DataError(f"{where}: expected pixels from 0 to 255 or from 0 to 1")
        pixels = (pixels * (1 if pixels.max() > 1 else 255)).round().clip(0, 255).astype(np.uint8)
    pixels = pixels[..., 0] if shape[3:] == (1,) else pixels
    resized, coloured = shape[1:3] != (SIDE, SIDE), pixels.ndim == 4
    if resized or coloured:
        pixels = np.stack([to_square(grey(shrunk(Image.fromarray(image)))) for image in pixels])
    return Part(pixels, labels, len(pixels) * resized, len(pixels) * coloured)
