"""What several test files need: where things are, small digit-like IDX files, one-line helpers."""

import importlib.util
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data.images import IDX_FILES

ROOT = Path(__file__).resolve().parent.parent

# The facts about its data that a saved model holds, see models.save_model.
FACTS = {"dataset": "mnist", "classes": list("0123456789"), "image_size": [28, 28], "mean": 0.1, "std": 0.3}


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
    offset = x * np.cos(direction)[:, None, None] + y * np.sin(direction)[:, None, None]
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * offset / period[:, None, None])
    window = 1 / (1 + np.exp(np.hypot(x, y) - 9))
    images = 230 * rng.uniform(0.8, 1, (count, 1, 1)) * wave * window + rng.normal(0, 12, (count, 28, 28))
    return images.clip(0, 255).astype(np.uint8), labels.astype(np.uint8)


def tiny_idx(folder, name="MNIST", train=200, test=100, seed=0):
    """Write the four raw IDX files of a small learnable data set; return the folder for --data-dir."""
    raw = Path(folder) / name / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    arrays = [*stripes(train, seed), *stripes(test, seed + 1)]
    for file, array in zip(IDX_FILES, arrays, strict=True):
        write_idx(raw / file, array)
    return Path(folder)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=gen(seed))


def without_seconds(metrics):
    """The records of a metrics.json without the times."""
    return [{k: v for k, v in run.items() if "seconds" not in k} for run in metrics["runs"]]


def no_network(*args, **kwargs):
    """Stand in for urllib.request.urlopen."""
    raise OSError("no network in tests")


def blobs(count, classes=3, spread=0.3, seed=0):
    """(N, 8) features in well separated directions, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = 3 * torch.eye(8)[labels]
    return centres + spread * torch.randn(count, 8, generator=generator), labels


def free_port():
    """A port of this machine at which processes can meet, as text."""
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return str(s.getsockname()[1])


def start_script(script, argv, *launcher, **environment):
    """Start a script in a process of its own with as many threads as this one: sums depend on them."""
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, *launcher, script, *argv, "--unverified"]
    environment = {**os.environ, **threads, **environment}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def run_two_ranks(script, argv):
    """Run a script in two processes, which torchrun would tell the same; its own start takes seconds."""
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    ranks = [start_script(script, argv, RANK=str(rank), LOCAL_RANK=str(rank), **meeting) for rank in range(2)]
    assert [process.wait(timeout=240) for process in ranks] == [0, 0]


def load_script(name):
    """The module of a script, also where a package has the same name."""
    spec = importlib.util.spec_from_file_location(f"{name}_script", ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def optional(*packages):
    """Import optional packages; where they are missing skip the test, but in CI fail."""
    for package in packages:
        if os.environ.get("REQUIRE_OPTIONAL"):
            importlib.import_module(package)
        else:
            pytest.importorskip(package)
