"""Who wrote MNIST's digits: 539 people the training images, 297 others the test images.

writers.npz has two columns for all 70,000 images, training images first, in MNIST's order: `writer`, a
number, and `series` of NIST, 0 for employees of the US census and 4 for high-school students. They are from
the label tables of QMNIST (Yadav and Bottou, "Cold case: the lost MNIST digits", 2019,
https://github.com/facebookresearch/qmnist), under its BSD-style licence, see writers.LICENSE.
"""

import zlib
from pathlib import Path

import numpy as np
import torch

from data.errors import DataError
from data.splits import TRIES, few_labels

FILE = Path(__file__).with_name("writers.npz")
# By number of images the first row and the CRC-32 of the labels: training images, those of a dry run, test.
PARTS = {60_000: (0, 3121080559), 1_000: (0, 1588986242), 10_000: (60_000, 4001760473)}


def column(name: str, labels: torch.Tensor) -> torch.Tensor | None:
    """Return "writer" or "series" of MNIST's images with these labels, (N,) int64; None for other images."""
    row, known = PARTS.get(len(labels), (0, -1))
    if zlib.crc32(labels.cpu().numpy().astype(np.uint8).tobytes()) != known:
        return None
    with np.load(FILE) as table:
        return torch.from_numpy(table[name][row : row + len(labels)].astype(np.int64))


def find_writers(labels: torch.Tensor) -> torch.Tensor:
    """Return who wrote the training images with these labels, (N,); DataError for images not MNIST's."""
    if (writers := column("writer", labels)) is None:
        raise DataError("only MNIST's writers are known: leave out --split writers, --hands or --dataset")
    return writers


def writers_for(how: str | None, labels: torch.Tensor) -> torch.Tensor | None:
    """Return what `split` needs for this value of --split."""
    return find_writers(labels) if how == "writers" else None


def by_hands(labels: torch.Tensor, writers: torch.Tensor, hands: int, each: int, seed: int) -> torch.Tensor:
    """Sample `each` images of every class, all by `hands` random writers; return their indices.

    Writers are drawn again until they have enough images of each class; DataError when they never do.
    """
    rng, names = np.random.default_rng(seed), np.unique(writers)
    for _ in range(TRIES if hands <= len(names) else 0):
        own = torch.from_numpy(np.flatnonzero(np.isin(writers, rng.choice(names, hands, replace=False))))
        if labels[own].bincount(minlength=int(labels.max()) + 1).min() >= each:
            return own[few_labels(labels[own], each, seed)]
    raise DataError(f"no {hands} writers have {each} of each class: change --labels or --hands")
