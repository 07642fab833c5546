"""Shared by all tests: small digit-like IDX files, and the rule for tests on the real MNIST.

Tests marked `slow` measure accuracy on the real MNIST. They run only with `pytest -m slow`, from the folder
in the environment variable MNIST_DIR, else ../shared/data beside the repository, else datasets/.
"""

import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
# So that a plain `pytest` finds the scripts and rooms as `python -m pytest` does.
sys.path.insert(0, str(ROOT))

from data import load  # noqa: E402
from data.images import IDX_FILES  # noqa: E402

torch.set_num_threads(1)  # the fastest for data this small, and no fight with the processes that tests start


def real_mnist():
    """The folder for --data-dir that holds the real MNIST, or None."""
    if "MNIST_DIR" in os.environ:
        candidates = [Path(os.environ["MNIST_DIR"])]
    else:
        candidates = [ROOT.parent / "shared" / "data", ROOT / "datasets"]
    for folder in candidates:
        if all((folder / "MNIST" / "raw" / file).is_file() for file in IDX_FILES):
            return folder
    return None


def pytest_collection_modifyitems(config, items):
    slow = [item for item in items if "slow" in item.keywords]
    if config.option.markexpr:
        if real_mnist() is None:
            for item in slow:
                item.add_marker(pytest.mark.skip(reason="no MNIST files: set MNIST_DIR"))
    elif slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def mnist_dir():
    """The folder of the real MNIST; the test is skipped without it."""
    folder = real_mnist()
    if folder is None:
        pytest.skip("no MNIST files: set MNIST_DIR")
    return folder


def write_idx(path, array):
    """Write a uint8 array as an IDX file, as Yann LeCun's page describes the format."""
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def stripes(count, seed):
    """Learnable stand-ins for digits: (count, 28, 28) and (count,) uint8, the ten classes equally often.

    A class is a stripe pattern (five directions, two widths) under a round window, black at the border.
    Position, strength and noise vary, so that a linear model and a globally pooled CNN both can learn it.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 10)
    direction, period = np.pi * (labels % 5) / 5, np.where(labels < 5, 5.0, 10.0)
    y, x = np.mgrid[:28, :28] - 13.5
    centre = rng.uniform(-1, 1, (2, count, 1, 1))
    y, x = y - centre[0], x - centre[1]
    across = x * np.cos(direction)[:, None, None] + y * np.sin(direction)[:, None, None]
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * across / period[:, None, None])
    window = 1 / (1 + np.exp(np.hypot(x, y) - 9))
    images = 230 * rng.uniform(0.8, 1, (count, 1, 1)) * wave * window + rng.normal(0, 12, (count, 28, 28))
    return images.clip(0, 255).astype(np.uint8), labels.astype(np.uint8)


def tiny_idx(folder, name="MNIST", train=200, test=100, seed=0):
    """Write the four raw IDX files of a small learnable data set; returns the folder for --data-dir."""
    raw = Path(folder) / name / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    arrays = [*stripes(train, seed), *stripes(test, seed + 1)]
    for file, array in zip(IDX_FILES, arrays, strict=True):
        write_idx(raw / file, array)
    return Path(folder)


@pytest.fixture(scope="session", name="tiny_idx")
def tiny_idx_fixture():
    """The function `tiny_idx`."""
    return tiny_idx


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory):
    """A folder for `--dataset mnist --data-dir`: 200 training and 100 test images. Read only."""
    return tiny_idx(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def digits(tiny_dir):
    """The 200 training images of `tiny_dir` as an ImageSet. Read only."""
    return load("mnist", tiny_dir)[0]
