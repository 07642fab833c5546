"""Ten members trained, against torchensemble; and selection from a thousand cached members."""

import contextlib
import io
import tempfile
from collections.abc import Callable
from functools import partial
from types import ModuleType

import numpy as np
import torch
from torch import nn
from torch.utils.data import Subset

import ensemble as script
from benchmarks import measure
from benchmarks.measure import alternate, clock, ratio, row, standard_dataset, standard_loader
from data import Data, load
from evaluation.ensemble.library import read_library
from evaluation.ensemble.selection import METRICS, average, greedy
from models import create
from utils.runs.opening import open_run
from utils.training.ensemble import choose_images, member_config, training_units

# One network and as many epochs on both sides, no augmentation: the work is the same.
FLAGS = ["--epochs", "1", "--augment", "none", "--plain-epochs", "0", "--ema", "0", "--label-smoothing", "0"]
# Images of training and test set: enough that starting worker processes and writing files count for little.
IMAGES = (12_000, 2_000)
STANDARD = (
    "torchensemble's VotingClassifier of the same network, AdamW, PIL images from a DataLoader with "
    f"{measure.WORKERS} worker processes"
)
OURS, ONE, THEIRS = "ours", "ours, one member", "standard way"


def ensemble(data_dir, device, repeats, members=10, images=IMAGES, library=(1000, 10_000)):
    """Seconds to train `members` members, ours and by torchensemble's VotingClassifier, one epoch each.

    Ours on the first images[0] training and images[1] test images, of which a tenth
    and all are predicted and saved: that is counted in for ours only. Every side trains a small library
    before it is timed. Without torchensemble installed that side is skipped with a notice. Then seconds of
    greedy selection from library[0] made-up members of library[1] images.
    """
    model = "lenet" if device.type == "cpu" else "cnn"
    data = truncated(load("mnist", data_dir, device), images)
    sides: dict[str, Callable[[int], dict]] = {
        OURS: lambda seed: our_training(data, data_dir, device, model, members, seed),
        ONE: lambda seed: our_training(data, data_dir, device, model, 1, seed),
    }
    our_training(data, data_dir, device, model, 2, 0, "--dry-run")  # warm-up: imports, kernels, files
    if torchensemble := imported():
        sides[THEIRS] = lambda seed: standard_training(
            torchensemble, data, data_dir, device, model, members, seed
        )
        small = truncated(data, (500, 100))
        standard_training(torchensemble, small, data_dir, device, model, 1, 0)
    found = alternate("ensemble", repeats, sides, show=lambda value: f"{value['seconds']:.2f} s")
    seconds = {side: [value["seconds"] for value in values] for side, values in found.items()}
    rows = [row(side, "s", values) for side, values in seconds.items()]
    rows += [
        row(f"{side}, test accuracy", "of the images", [value["accuracy"] for value in values])
        for side, values in found.items()
    ]
    for metric, values in selection_seconds(library[0], library[1], repeats).items():
        rows.append(row(f"ours, selection by {metric}", "s", values, target=10))
    return {
        "what": f"Seconds to train {members} members of {model} for one epoch each, and to select greedily "
        f"from {library[0]:,} cached members of {library[1]:,} images.",
        "rows": rows,
        "ratios": all_ratios(seconds, device),
        "model": model,
        "members": members,
        "images": [len(part.labels) for part in data],
        "library": list(library),
    }


def all_ratios(seconds: dict[str, list[float]], device: torch.device) -> list[dict]:
    goal = None if device.type == "cuda" else 3
    if THEIRS not in seconds:
        return []
    return [ratio("standard way / ours", seconds[THEIRS], seconds[OURS], STANDARD, goal)]


def truncated(data: Data, images: tuple[int, int]) -> Data:
    """Return the first images of training and test set."""
    train, test = (
        part._replace(images=part.images[:count], labels=part.labels[:count])
        for part, count in zip(data, images, strict=True)
    )
    return train, test


def imported() -> ModuleType | None:
    try:
        import torchensemble
    except ImportError:
        print("ensemble: no torchensemble to compare with; pip install -r requirements-benchmark.txt")
        return None
    return torchensemble


def our_training(data: Data, data_dir, device, model: str, members: int, seed: int, *flags: str) -> dict:
    """Return seconds, and the test accuracy of the plain average, of a library as ensemble.py trains it."""
    with tempfile.TemporaryDirectory() as folder:
        where = ["--data-dir", str(data_dir), "--results-dir", folder, "--device", device.type, "--quiet"]
        args = script.parse(["--model", model, "--seed", str(seed), *FLAGS, *where, *flags])[0]
        args.members = members
        run = open_run("ensemble", args, model, "benchmark")
        start = clock(device)
        for jobs in training_units(args):
            script.train_unit(args, data, run, jobs)
        seconds = clock(device) - start
        library = read_library([run.folder], args.dataset)
    accuracy = float((average(library.test_p).argmax(1) == library.test_y).mean())
    return {"seconds": seconds, "accuracy": accuracy}


def standard_training(
    torchensemble: ModuleType, data: Data, data_dir, device, model: str, members: int, seed: int
) -> dict:
    """Do the same by torchensemble, as its documentation shows it: a DataLoader, AdamW, one epoch."""
    args = script.parse(["--model", model, *FLAGS, "--device", device.type])[0]
    config = member_config(args, model)
    train_idx, _ = choose_images(args, data[0].labels, {"seed": seed})
    train_set = Subset(standard_dataset(data_dir, True), train_idx.tolist())
    test_set = Subset(standard_dataset(data_dir, False), range(len(data[1].labels)))
    loader = standard_loader(train_set, config.batch_size, device)
    test_loader = standard_loader(test_set, 1000, device, shuffle=False)
    torch.manual_seed(seed)
    voting = torchensemble.VotingClassifier(
        estimator=network_class(model), n_estimators=members, cuda=device.type == "cuda"
    )
    rate = config.fit.lr / 4  # there is no warm-up: a lower rate
    voting.set_optimizer("AdamW", lr=rate, weight_decay=config.fit.weight_decay)
    with contextlib.redirect_stdout(io.StringIO()):
        start = clock(device)
        voting.fit(loader, epochs=1, log_interval=10**9, save_model=False)
        seconds = clock(device) - start
        with torch.no_grad():
            accuracy = voting.evaluate(test_loader) / 100
    return {"seconds": seconds, "accuracy": accuracy}


def network_class(model: str) -> type[nn.Module]:
    """Return a class whose instances are fresh networks: what torchensemble wants to be given."""

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = create(model)

        def forward(self, images):
            return self.network(images)

    return Network


def selection_seconds(members: int, images: int, repeats: int) -> dict[str, list[float]]:
    """Return {metric: seconds} to select from members of unequal quality, which agree about hard images."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, images)
    shared = 2 * rng.standard_normal((images, 10), dtype=np.float32)
    shared[np.arange(images), y] += 8
    p = np.empty((members, images, 10), np.float32)
    for k, member in enumerate(p):
        logits = shared + (1 + 2 * k / members) * rng.standard_normal(shared.shape, dtype=np.float32)
        np.exp(logits - logits.max(1, keepdims=True), out=member)
        member /= member.sum(1, keepdims=True)

    def seconds(metric, repeat):
        start = clock(torch.device("cpu"))
        greedy(p, y, metric)
        return clock(torch.device("cpu")) - start

    sides = {metric: partial(seconds, metric) for metric in METRICS}
    return alternate("ensemble, selection", repeats, sides, show="{:.2f} s".format)
