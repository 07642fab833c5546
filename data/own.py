"""Your own data: pictures, tables, archives and IDX files, brought to the form of MNIST.

    train/<class>/*.png, test/<class>/*.png         the ImageFolder convention of torchvision
    <class>/*.png                                   without a test part
    *.csv, a label and the pixels in each row       as those of Kaggle, see data/tables.py; also .csv.gz
    *.npz, *.mat with x_train, y_train, x_test, y_test     or other names, see `role`; names in `classes`
    a folder with IDX files                         named as those of MNIST or EMNIST, also .gz

Pictures may have any size, be grey or in colour, and lie in folders below that of their class. The test part
of train.csv is test.csv beside it. Without one a stratified share of the training images is held out. Grey
range and polarity are found once, for the whole data set.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from data import pictures
from data.errors import DataError
from data.idx import IDX_FILES, check_bytes, find_idx, read_idx_pair
from data.pictures import SIDE
from data.splits import split
from data.tables import read_table

TRAIN, TEST = ("train", "training", "trainingset"), ("test", "testing", "testset")  # names of folders
PART, AXIS = "(?:(train|test)(?:ing)?)?", "(?:(x|images?|imgs?|data|pixels)|y|labels?|targets?)"
ROLE = re.compile(f"(?:dataset_)?{PART}_?{AXIS}_?{PART}", re.IGNORECASE)
TEST_FRACTION = 1 / 6
SEED = 0  # of the held-out share and of the order
# The greatest grey value of an array: of shares, of 4, 8, 12 and 16 bits, and of scikit-learn's digits.
RANGES = (1, 15, 16, 255, 4095, 65535)
RESIZED = f"resized to {SIDE} x {SIDE} pixels"
COLOURED = ("P", "CMYK", "YCbCr", "HSV", "LAB")  # modes of Pillow, beside those with RGB
POLARITY_SAMPLE, ALIKE = 1000, 0.9  # images whose paper is looked at; the share that must agree


class Part(NamedTuple):
    """The training or the test images of a data set.

    images: (N, 28, 28) uint8. labels: (N,) integers or strings. notes: what was changed or left out, one
    sentence each. files: of each image, none where they are rows of one file.
    """

    images: np.ndarray
    labels: np.ndarray
    notes: tuple[str, ...] = ()
    files: Sequence[str] = ()


def read_own(path: Path) -> tuple[list[tuple[torch.Tensor, torch.Tensor, np.ndarray]], dict]:
    """Read the data set at `path`, in any of the forms above.

    Returns images (N, 28, 28) uint8, labels (N,) int64 and sources, files or rows from 0, for training and
    test, and what describes them, the other fields of ImageSet. The images come in a fixed random order,
    because files are often sorted by class. Raises DataError, with one line, for what can't be read.
    """
    parts, classes, unread = _read(path)
    values = sorted(np.unique(parts[0].labels).tolist(), key=natural) if classes is None else classes
    if len(values) < 2:
        raise DataError(f"{path}: a data set needs at least 2 classes, found {len(values)}")
    if lacking := set(values) - set(parts[0].labels.tolist()):
        raise DataError(f"{path}: no training image of class {min(lacking)}")
    index = {value: i for i, value in enumerate(values)}
    if unknown := set(parts[-1].labels.tolist()) - set(index):
        raise DataError(f"{path}: test label {min(unknown)} has no training image: add some, or leave it out")
    notes = list(dict.fromkeys(note for part in parts for note in part.notes))
    notes += [f"not read: {', '.join(unread)[:200]}"] * bool(unread)
    numbers = [torch.tensor([index[v] for v in part.labels.tolist()]) for part in parts]
    sources = [np.array(part.files or range(len(part.labels))) for part in parts]
    pairs = [*zip([part.images for part in parts], numbers, sources, strict=True)]
    if len(pairs) == 1:
        pairs = _hold_out(*pairs[0], path)
        notes.append(f"no test images: {len(pairs[1][1]):,} of them held out, stratified by class")
    sample = pairs[0][0][:: max(1, len(pairs[0][0]) // POLARITY_SAMPLE)]
    light = np.mean([pictures.on_light_paper(image) for image in sample])
    inverted, mixed = bool(light >= ALIKE), bool(1 - ALIKE < light < ALIKE)
    notes += ["light paper: images inverted"] * inverted
    notes += [f"some on light paper ({light:.0%}), some on dark: left as they are"] * mixed
    loaded, digest = [], hashlib.sha256(repr(values).encode())
    for images, labels, places in pairs:
        order = np.random.default_rng(SEED).permutation(len(labels))
        x, y = torch.from_numpy((255 - images if inverted else images)[order]), labels[order]
        digest.update(x.numpy().tobytes() + y.numpy().tobytes())
        loaded.append((x, y, places[order]))
    pixels = loaded[0][0].double() / 255
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
    return loaded, facts


def _read(path):
    """Return the training and maybe the test Part, the classes or None, and names of what is left out."""
    if path.is_file():
        return _read_file(path)
    inside = sorted(_subfolders(path)) if path.is_dir() else []
    places = [[p for p in inside if p.name.lower() in names][:1] for names in (TRAIN, TEST)]
    if places[0]:
        places = sum(places, [])
        folders = [_class_folders(place) for place in places]
        if unknown := set(folders[-1]) - set(folders[0]):
            raise DataError(f"{places[1] / min(unknown)}: no such class in {places[0]}: rename or remove it")
        unread = [f"{p.name}/" for p in inside if p not in places]
        return list(map(_read_pictures, places, folders)), list(folders[0]), unread
    files, prefix = find_idx(path)
    if files:
        pairs = [[values.numpy() for values in read_idx_pair(pair)] for pair in files]
        top = grey_range(x for x, _ in pairs)
        return [_array_part(x, y, path, top, "emnist" in prefix) for x, y in pairs], None, []
    tables = [p for p in path.glob("*") if re.fullmatch(r".*train.*\.csv(\.gz)?", p.name.lower())]
    if len(only := tables or inside) == 1:  # inside: the folder that was packed
        return _read(only[0])
    if any(map(pictures.pictures_in, inside)):
        folders = _class_folders(path)
        return [_read_pictures(path, folders)], list(folders), []
    found = sorted(p.name + "/" * p.is_dir() for p in path.iterdir()) if path.is_dir() else []
    raise DataError(
        f"{path}: not a data set; expected a .csv, .npz or .mat file, or a folder with train/<class>/*.png, "
        f"<class>/*.png, a train.csv or {', '.join(IDX_FILES)}; found {', '.join(found[:4]) or 'nothing'}"
    )


def _hold_out(images, labels, sources, path):
    try:
        train, test = split(labels, TEST_FRACTION, SEED)
    except DataError as error:
        raise DataError(f"{path}: without test images a share is held out: {error}") from error
    return [(images[chosen.numpy()], labels[chosen], sources[chosen.numpy()]) for chosen in (train, test)]


# --- Pictures ---


def to_square(values: np.ndarray) -> np.ndarray:
    """Scale grey values (H, W) in [0, 1] to (28, 28) uint8; oblong pictures get margins of their border."""
    missing = [max(values.shape) - side for side in values.shape]
    if any(missing):
        margins = [(rest // 2, rest - rest // 2) for rest in missing]
        values = np.pad(values, margins, constant_values=np.median(pictures.border(values)))
    if values.shape != (SIDE, SIDE):
        method = Image.Resampling.BOX if len(values) > SIDE else Image.Resampling.BICUBIC
        values = np.asarray(Image.fromarray(values.astype(np.float32)).resize((SIDE, SIDE), method))
    return np.rint(255 * values.clip(0, 1)).astype(np.uint8)


def natural(name: object) -> tuple:
    """Return the sort key of a name: numbers in their order, class 2 before class 10."""
    words = re.split(r"(\d+)", str(name))
    return [int(word) if i % 2 else word for i, word in enumerate(words)], str(name)


def _subfolders(folder):
    return [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))]


def _class_folders(folder):
    """Return {class name: picture files, also of folders below it}, the names in natural order."""
    classes = {p.name: pictures.pictures_in(p) for p in sorted(_subfolders(folder), key=natural)}
    if not classes:
        raise DataError(f"{folder}: expected a folder for each class, found none")
    if empty := [name for name, files in classes.items() if not files]:
        raise DataError(f"{folder / empty[0]}: no pictures ({', '.join(pictures.PICTURES)}): remove it?")
    below = [{file.parent.name for file in files} for files in classes.values()]
    if len(below[0]) > 1 and all(names == below[0] for names in below):
        same = ", ".join(sorted(below[0]))[:80]
        raise DataError(f"{folder}: each folder has pictures in {same}: put those of a class into one folder")
    return classes


def _read_pictures(folder, classes):
    files: list[Path] = sum(classes.values(), [])
    images, counts = [], Counter(skipped=sum(file.is_file() for file in folder.rglob("*")) - len(files))
    for file in files:
        picture = pictures.open_picture(file)
        counts[RESIZED] += picture.size != (SIDE, SIDE)
        counts["made grey"] += "RGB" in picture.mode or picture.mode in COLOURED
        counts["of several pages or frames: the first was read"] += bool(pictures.first_only(picture))
        images.append(to_square(pictures.grey(pictures.shrunk(picture))))
    labels = np.repeat(list(classes), list(map(len, classes.values())))
    read = f"{folder.name}/: {len(files):,} files read, {counts.pop('skipped'):,} skipped"
    note = ", ".join([read, *(f"{count:,} {change}" for change, count in counts.items() if count)])
    names = [str(file.relative_to(folder.parent)) for file in files]
    return Part(np.stack(images), labels, (note,), names)


# --- Arrays ---


def role(name: str) -> str | None:
    """Return what an array is by its name, "x_test" of test_images or XTest, "y_train" of labels, or None."""
    known = ROLE.fullmatch(name)
    return known and f"{'x' if known[2] else 'y'}_{(known[1] or known[3] or 'train').lower()}"


def _read_arrays(path):
    """Return the arrays of a file by their `role`, or as "classes", and the names of the others in it."""
    if (suffix := path.suffix.lower()) not in (".npz", ".mat"):
        return read_table(path), []
    try:
        if suffix == ".mat":
            from scipy.io import loadmat

            found = loadmat(path, simplify_cells=True)
            while inside := [name for name, value in found.items() if isinstance(value, dict)]:
                found |= {f"{name}_{n}": v for name in inside for n, v in found.pop(name).items()}
        else:
            with np.load(path, allow_pickle=False) as file:
                check_bytes(sum(info.file_size for info in file.zip.infolist()), path)
                found = {n: file[n] if role(n) or n == "classes" else None for n in file.files}
    except DataError:
        raise
    except Exception as error:  # NumPy, SciPy and zipfile raise half a dozen types for a damaged file
        reason = "damaged, or with Python objects in it; MATLAB: save it with -v7"
        raise DataError(f"{path}: not a NumPy or MATLAB archive, {reason}") from error
    arrays: dict[str, np.ndarray] = {}
    for name in [name for name in found if role(name) or name == "classes"]:
        if (meant := role(name) or name) in arrays:
            raise DataError(f"{path}: {name} and another array are both {meant}: rename the one to leave out")
        arrays[meant] = np.asarray(found.pop(name))
    return arrays, [name for name in found if not name.startswith("__")]


def _read_file(path):
    """Read an archive or a table, and the test images in it or in a file of their own beside it."""
    arrays, unread = _read_arrays(path)
    beside = path.with_name(path.name.replace("train", "test").replace("Train", "Test"))
    if beside != path and beside.is_file() and {"x_test", "y_test"}.isdisjoint(arrays):
        other = _read_arrays(beside)[0]
        labelled = {"x_train", "y_train"} <= set(other)  # Kaggle's has no labels
        arrays |= {f"{axis}_test": other[f"{axis}_train"] for axis in "xy" if labelled}
        unread += [beside.name] * (not labelled)
    names = ["train", *(["test"] if {"x_test", "y_test"} & set(arrays) else [])]
    if missing := [f"{axis}_{name}" for name in names for axis in "xy" if f"{axis}_{name}" not in arrays]:
        has = ", ".join([*arrays, *unread])[:200] or "no arrays"
        raise DataError(f"{path}: lacks {', '.join(missing)}; it has {has}: rename them (in a table: label)")
    pixels = [arrays[f"x_{name}"] for name in names]
    tops = [grey_range(x for x in pixels if x.dtype == own.dtype) for own in pixels]
    emnist = pixels[0].ndim == 2 and "emnist" in path.name.lower()
    parts = [
        _array_part(x, arrays[f"y_{name}"], f"{path}, x_{name}", top, emnist)
        for x, name, top in zip(pixels, names, tops, strict=True)
    ]
    if "classes" not in arrays:
        return parts, None, unread
    classes = [str(name) for name in arrays["classes"]]
    for labels in (part.labels for part in parts):
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(f"{path}: with names in `classes`, labels must be from 0 to {len(classes) - 1}")
    return [part._replace(labels=np.array(classes)[part.labels]) for part in parts], classes, unread


def read_rows(path: Path, mixed: bool = False) -> np.ndarray:
    """Read the images of a table, (N, 28, 28) uint8 in order, inverted if on light paper and not `mixed`."""
    pixels, emnist = read_table(path)["x_train"], "emnist" in path.name.lower()
    images = _array_part(pixels, np.arange(len(pixels)), path, grey_range([pixels]), emnist).images
    return images if mixed or np.mean([*map(pictures.on_light_paper, images)]) < ALIKE else 255 - images


def grey_range(arrays: Iterable[np.ndarray]) -> int:
    """Return the least of RANGES, or the greatest of them, that holds all values but for rounding."""
    most = max((x.max() for x in arrays if x.size and x.dtype.kind in "fiub"), default=0)
    return next((top for top in RANGES if most <= 1.01 * top), RANGES[-1])


def _array_part(pixels, labels, where, top, emnist=False):
    """Bring an array of images to a Part: (N, H, W), (N, H * H), or with 1, 3 or 4 channels last or first.

    N may be the last axis, as in MATLAB. top: the value of white. labels: whole numbers of any type, names,
    or one-hot rows. emnist: whether images are transposed.
    """
    labels = _plain_labels(labels)
    if pixels.shape[-1:] == labels.shape != pixels.shape[:1]:
        pixels = np.moveaxis(pixels, -1, 0)
    if pixels.ndim == 2 and math.isqrt(pixels.shape[1]) ** 2 == pixels.shape[1]:
        pixels = pixels.reshape(len(pixels), math.isqrt(pixels.shape[1]), -1) if pixels.size else pixels
    pixels = np.ascontiguousarray(pixels.swapaxes(1, 2)) if emnist and pixels.ndim > 2 else pixels
    if pixels.ndim == 4 and pixels.shape[3] not in (1, 3, 4) and pixels.shape[1] in (1, 3, 4):
        pixels = np.moveaxis(pixels, 1, 3)
    shape = pixels.shape
    if len(shape) < 3 or 0 in shape or shape[3:] not in ((), (1,), (3,), (4,)):
        wanted = "expected images (N, height, width) or (N, height, width, channels)"
        raise DataError(f"{where}: {wanted}, found an array of shape {shape}")
    pictures.check_size(where, shape[2], shape[1])
    if labels.shape != shape[:1] or labels.dtype.kind not in "iuU":
        found = f"found {labels.dtype} of shape {labels.shape}"
        raise DataError(f"{where}: expected {len(pixels)} whole numbers or names as labels, {found}")
    if pixels.dtype.kind not in "fiub" or not np.isfinite(pixels).all() or pixels.min() < 0:
        raise DataError(f"{where}: expected pixels from 0 to {', '.join(f'{top:,}' for top in RANGES)}")
    if (pixels.dtype, top) != (np.uint8, 255):
        pixels = (pixels * (255 / top)).round().clip(0, 255).astype(np.uint8)
    pixels = pixels[..., 0] if shape[3:] == (1,) else pixels
    resized, coloured = shape[1:3] != (SIDE, SIDE), pixels.ndim == 4
    if resized or coloured:
        pixels = np.stack(
            [to_square(pictures.grey(pictures.shrunk(Image.fromarray(image)))) for image in pixels]
        )
    notes = (f"grey values from 0 to {top:,}",) * (top != 255)
    notes += ("images transposed, as those of EMNIST are",) * emnist
    notes += (f"images {RESIZED}",) * resized + ("images made grey",) * coloured
    return Part(pixels, labels, notes)


def _plain_labels(labels):
    """Return labels in one column, whole numbers as such, one-hot rows as their numbers, bytes as text."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind == "b" or (labels.dtype.kind == "f" and (labels == labels.round()).all()):
        labels = labels.astype(np.int64)
    if labels.ndim == 2 and labels.dtype.kind in "iu" and ((labels == 0) | (labels == 1)).all():
        labels = labels.argmax(1) if (labels.sum(1) == 1).all() else labels
    return np.char.decode(labels, errors="backslashreplace") if labels.dtype.kind == "S" else labels
