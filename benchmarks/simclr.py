"""Contrastive pre-training: two views a image, whole steps, and the loss, against the usual way of each."""

import functools
import re
import resource
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import Dataset, Subset

import train_simclr
from benchmarks import measure
from benchmarks.augment import standard_affine
from benchmarks.measure import (
    SameBatch,
    alternate,
    clock,
    rate_of,
    ratio,
    row,
    standard_batches,
    standard_dataset,
    standard_loader,
    timed_training,
)
from data import BatchLoader, load, view_augment
from models import ContrastiveModel, create, nt_xent
from utils.training.config import FitConfig
from utils.training.contrastive import make_views

# torchvision has no fast elastic deformation of PIL images: both sides go without.
VIEWS = "affine,blur"
LOSS_SHAPE = (4096, 128)
LOSS_REPEATS = 5
STANDARD_VIEWS = (
    "torchvision.transforms of PIL images, one view at a time, in a DataLoader with "
    f"{measure.WORKERS} worker processes"
)
STANDARD_TRAINING = f"the same network with AdamW in float32 and a loss with masks; {STANDARD_VIEWS}"
STANDARD_LOSS = "NT-Xent with boolean masks of all pairs of views"


def simclr(data_dir, device, repeats, images=4096, loss_shape=LOSS_SHAPE):
    """Images per second of the views alone and of training, and the loss's time and memory, side by side.

    Both sides train the default encoder and head with AdamW on batches of the same size, augmented by the
    same ranges.
    """
    flags = ["--device", device.type, "--data-dir", str(data_dir), "--views", VIEWS, "--epochs", "1"]
    args = train_simclr.parse([*flags, "--quiet"])[0]
    train_set, _ = load("mnist", data_dir, device)
    images = min(images, len(train_set.labels))
    args.batch_size = min(args.batch_size, images // 2)
    loader = make_views(args, train_set, torch.arange(images), seed=0)
    dataset = Subset(TwoViews(standard_dataset(data_dir, True, *standard_views())), range(images))
    their_loader = standard_loader(dataset, args.batch_size, device)
    standard = StandardTraining(args)
    sides: dict[str, Callable[[int], float]] = {
        "views, ours": lambda repeat: rate_of(loader.epoch(repeat), device),
        "views, standard way": lambda repeat: rate_of(standard_batches(their_loader, device), device),
        "training, ours": our_training(args, loader),
        "training, standard way": lambda repeat: rate_of(
            standard_batches(their_loader, device), device, standard
        ),
    }
    for name, loss in (("ours", nt_xent), ("with masks", masked_nt_xent)):
        sides[f"loss time, {name}"] = functools.partial(loss_seconds, loss, loss_shape, device)
        sides[f"loss memory, {name}"] = functools.partial(loss_megabytes, loss, loss_shape, device)
    found = alternate("simclr", repeats, sides)
    units = {"views": "images/s", "training": "images/s", "loss time": "s", "loss memory": "MB"}
    count, width = loss_shape
    return {
        "what": f"SimCLR: images per second, and the loss of {count:,} x {width} features.",
        "rows": [row(side, units[side.partition(",")[0]], values) for side, values in found.items()],
        "ratios": all_ratios(found, on_cpu=device.type == "cpu"),
        "images": images,
        "batch_size": args.batch_size,
        "views": VIEWS,
        "precision": {"ours": args.precision, "standard": "fp32"},
    }


def all_ratios(found: dict[str, list[float]], on_cpu: bool) -> list[dict]:
    ratios = []
    for what, name, standard, target in (
        ("training", "training", STANDARD_TRAINING, 3),
        ("views", "two views alone", STANDARD_VIEWS, 8),
    ):
        sides = found[f"{what}, ours"], found[f"{what}, standard way"]
        ratios.append(ratio(f"{name}, ours / standard way", *sides, standard, target if on_cpu else None))
    for what in ("loss time", "loss memory"):
        sides = found[f"{what}, with masks"], found[f"{what}, ours"]
        ratios.append(ratio(f"{what}, with masks / ours", *sides, STANDARD_LOSS))
    return ratios


def our_training(args: Namespace, loader: BatchLoader) -> Callable[[int], float]:
    """Return a function that trains one epoch as train_simclr.py does and returns the images per second."""
    model = ContrastiveModel(create(args.encoder, 0), args.head)
    model = model.to(args.device).to(memory_format=torch.channels_last)
    step = train_simclr.contrastive_step(model, args.method, args.temperature)
    train = timed_training(model, step, FitConfig.from_args(args), len(loader))
    train(SameBatch(next(loader.epoch()), 1))  # warm-up
    return lambda repeat: len(loader.indices) / train(loader, repeat + 1)


# --- The usual way ---


class TwoViews(Dataset):
    """Each image of a data set twice, transformed each time it is asked for."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        (first, label), (second, _) = self.dataset[index], self.dataset[index]
        return torch.stack([first, second]), label


def standard_views():
    """torchvision's per-image transforms with the ranges of VIEWS."""
    from torchvision import transforms  # here, because importing it takes seconds

    ranges = view_augment(VIEWS.split(","))
    return standard_affine(ranges), transforms.GaussianBlur(7, (0.01, ranges.blur))


class StandardTraining:
    """The same network, trained in float32 with the loss that builds masks."""

    def __init__(self, args):
        self.model = ContrastiveModel(create(args.encoder, 0), args.head).to(args.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), args.lr)
        self.temperature = args.temperature

    def __call__(self, images, labels):
        features = self.model(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        loss = masked_nt_xent(features, self.temperature)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def masked_nt_xent(features, temperature):
    """NT-Xent by boolean (2B, 2B) masks that pick positives and negatives out of all pairs."""
    count = len(features)
    rows = normalize(torch.cat([features[:, 0], features[:, 1]]), dim=1)
    which = torch.cat([torch.arange(count)] * 2).to(rows.device)
    same = which.unsqueeze(0) == which.unsqueeze(1)
    self_pairs = torch.eye(2 * count, dtype=torch.bool, device=rows.device)
    similarity = rows @ rows.T
    positives = similarity[same & ~self_pairs].view(2 * count, 1)
    negatives = similarity[~same].view(2 * count, -1)
    logits = torch.cat([positives, negatives], 1) / temperature
    return cross_entropy(logits, torch.zeros(2 * count, dtype=torch.long, device=rows.device))


# --- The loss alone: features of so many views, forward and backward ---


def loss_once(loss, shape, device):
    views, width = shape
    features = torch.randn(views // 2, 2, width, device=device, requires_grad=True)
    loss(features, 0.2).backward()


def loss_seconds(loss, shape, device, repeat=0):
    loss_once(loss, shape, device)  # warm-up
    start = clock(device)
    for _ in range(LOSS_REPEATS):
        loss_once(loss, shape, device)
    return (clock(device) - start) / LOSS_REPEATS


def loss_megabytes(loss, shape, device, repeat=0):
    """Peak memory of one forward and backward pass, MB; on a CPU that of a process of its own."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss_once(loss, shape, device)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with mp.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_rise, (loss, shape))


def _peak_rise(loss, shape):
    torch.set_num_threads(1)
    loss_once(loss, (8, shape[1]), "cpu")  # load what every call needs
    before = _peak_megabytes()
    loss_once(loss, shape, "cpu")
    return _peak_megabytes() - before


def _peak_megabytes():
    """The most memory that this process ever had. On Linux ru_maxrss begins at that of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        kilobytes = re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())[0]
        return int(kilobytes) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
