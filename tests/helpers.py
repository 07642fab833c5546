"""What several test files need: where things are, small digit-like IDX files, one-line helpers."""

import contextlib
import importlib.util
import json
import multiprocessing
import os
import socket
import statistics
import struct
import urllib.request
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from data.images import IDX_FILES, ImageSet
from utils.training.optim import FitConfig

ROOT = Path(__file__).resolve().parent.parent

# Processes of tests are forks of one that has done these slow imports.
SCRIPTS = ("train_cnn", "train_mil", "train_simclr")
ON_FIRST_USE = ("torch._dynamo", "scipy.stats", "sklearn.manifold", "sklearn.model_selection")
multiprocessing.set_forkserver_preload([*SCRIPTS, *ON_FIRST_USE])

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


def spoilt(content, rng):
    """Bytes with their end cut off, or with a few bits flipped, mostly near the start."""
    if rng.random() < 0.3:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2, 20))):
        changed[rng.randrange(min(rng.choice((16, 64, len(content))), len(content)))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def claiming_png(width, height):
    """A PNG of a few bytes that claims to be large."""
    head, parts = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0), b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")):
        parts += struct.pack(">I", len(content)) + kind + content
        parts += struct.pack(">I", zlib.crc32(kind + content))
    return parts


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=gen(seed))


def without_seconds(metrics):
    """The records of a metrics.json without the times."""
    return [{k: v for k, v in run.items() if "seconds" not in k} for run in metrics["runs"]]


def base_flags(data, results, *more):
    """Flags of all scripts: a quiet run on the CPU in float32."""
    where = ["--data-dir", str(data), "--results-dir", str(results)]
    return [*where, "--device", "cpu", "--precision", "fp32", "--quiet", *more]


def refusal(main, argv, capsys):
    """The one line on stderr with which a script refuses its arguments, with exit code 2."""
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def equal_weights(*files):
    """Whether two saved models have the same weights, bit for bit."""
    a, b = (torch.load(file, weights_only=True)["weights"] for file in files)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def no_network(url, *args, urlopen=urllib.request.urlopen, **kwargs):
    """Stand in for urllib.request.urlopen: only the driver of the browser, on this machine, can be asked."""
    if not str(url).startswith("http://localhost:"):
        raise OSError("no network in tests")
    return urlopen(url, *args, **kwargs)


def flat_grey(labels, mean=0.0, std=1.0):
    """An ImageSet with these labels whose image i is flat grey of value i % 256."""
    values = (torch.arange(len(labels)) % 256).to(torch.uint8).view(-1, 1, 1, 1)
    return ImageSet(values.expand(-1, 1, 28, 28).contiguous(), labels, mean, std)


def blobs(count, classes=3, spread=0.3, seed=0):
    """(N, 8) features in well separated directions, and their classes."""
    labels = torch.arange(count) % classes
    return 3 * torch.eye(8)[labels] + spread * noise(count, 8, seed=seed), labels


def probabilities(labels, strength, seed, classes=10):
    """(N, C) float32 of a model that is right the more often the stronger it is, by seeded noise."""
    logits = np.random.default_rng(seed).normal(size=(len(labels), classes))
    logits[np.arange(len(labels)), labels] += strength
    powers = np.exp(logits)
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def fit_settings(**changes):
    base = {"epochs": 4, "optimizer": "sgd", "lr": 0.05, "schedule": "cosine", "quiet": True}
    return FitConfig(**{**base, **changes})


def small_network():
    torch.manual_seed(0)
    layers = nn.Linear(784, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 10)
    return nn.Sequential(nn.Flatten(), *layers)


def free_port():
    """A port of this machine at which processes can meet, as text."""
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return str(s.getsockname()[1])


def _run_script(name, argv, threads, environment):
    os.environ.update(environment)
    torch.set_num_threads(threads)  # sums depend on it
    script = importlib.import_module(name)
    script.plot_figures = lambda *args: None
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        script.main([*argv, "--unverified"])


def run_two_ranks(name, argv):
    """Run a script in two processes, which torchrun would tell the same."""
    meeting, ranks = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}, []
    for rank in "01":
        arguments = (name, argv, torch.get_num_threads(), {**meeting, "RANK": rank, "LOCAL_RANK": rank})
        context = multiprocessing.get_context("forkserver")
        ranks.append(context.Process(target=_run_script, args=arguments, daemon=True))
        ranks[-1].start()
    for process in ranks:
        process.join(240)
    assert [process.exitcode for process in ranks] == [0, 0]


def checked_benchmark(content, repeats):
    """{row: values} and {ratio: target} of a benchmark, after a look at every row and ratio."""
    for row in content["rows"]:
        assert row["unit"]
        assert len(row["values"]) == repeats
        assert row["median"] == pytest.approx(statistics.median(row["values"]), rel=1e-4)
    for ratio in content["ratios"]:
        assert list(ratio) == ["name", "value", "low", "high", "target", "standard", "verdict"]
        assert 0 < ratio["low"] <= ratio["value"] * 1.001 <= ratio["high"] * 1.002
        assert len(ratio["standard"]) > 10
        assert "\n" not in ratio["standard"]
        assert (ratio["target"] is None) == (ratio["verdict"] is None)
    json.dumps(content, allow_nan=False)
    rows = {row["name"]: row["values"] for row in content["rows"]}
    return rows, {ratio["name"]: ratio["target"] for ratio in content["ratios"]}


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
