"""MoCo pre-training: images per second of whole steps, against two PIL views an image from a DataLoader."""

import copy
from argparse import Namespace
from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import Subset

import train_moco
from benchmarks.measure import (
    SameBatch,
    alternate,
    rate_of,
    ratio,
    row,
    standard_batches,
    standard_dataset,
    standard_loader,
    timed_training,
)
from benchmarks.simclr import STANDARD_VIEWS, VIEWS, TwoViews, standard_views
from data import BatchLoader, load
from models import ContrastiveModel, MoCo, create
from utils.training.config import FitConfig
from utils.training.contrastive import make_views

STANDARD = (
    "the same networks with AdamW in float32, without shuffling, one parameter at a time in the momentum "
    f"update; {STANDARD_VIEWS}"
)


def moco(data_dir, device, repeats, images=4096):
    """Images per second of MoCo pre-training, side by side.

    Both sides train the default encoder and head with AdamW and the same queue, on batches of the same size,
    augmented by the same ranges.
    """
    flags = ["--device", device.type, "--data-dir", str(data_dir), "--views", VIEWS, "--epochs", "1"]
    args = train_moco.parse([*flags, "--quiet"])[0]
    train_set, _ = load("mnist", data_dir, device)
    images = min(images, len(train_set.labels))
    args.batch_size = min(args.batch_size, images // 2)
    loader = make_views(args, train_set, torch.arange(images), seed=0)
    dataset = Subset(TwoViews(standard_dataset(data_dir, True, *standard_views())), range(images))
    their_loader = standard_loader(dataset, args.batch_size, device)
    standard = StandardTraining(args)
    sides: dict[str, Callable[[int], float]] = {
        "ours": our_training(args, loader),
        "standard way": lambda repeat: rate_of(standard_batches(their_loader, device), device, standard),
    }
    found = alternate("moco", repeats, sides)
    both = found["ours"], found["standard way"]
    target = 3 if device.type == "cpu" else None
    return {
        "what": "MoCo: images per second of pre-training.",
        "rows": [row(side, "images/s", values) for side, values in found.items()],
        "ratios": [ratio("training, ours / standard way", *both, STANDARD, target)],
        "images": images,
        "batch_size": args.batch_size,
        "queue": args.queue,
        "views": VIEWS,
        "precision": {"ours": args.precision, "standard": "fp32"},
    }


def our_training(args: Namespace, loader: BatchLoader) -> Callable[[int], float]:
    """Return a function that trains one epoch as train_moco.py does and returns the images per second."""
    how = {"queue": args.queue, "momentum": args.momentum, "splits": args.splits}
    model = MoCo(create(args.encoder, 0), args.head, **how)
    model = model.to(args.device).to(memory_format=torch.channels_last)
    step = train_moco.moco_step(model, args.splits, args.temperature)
    train = timed_training(model, step, FitConfig.from_args(args), len(loader))
    train(SameBatch(next(loader.epoch()), 1))  # warm-up
    return lambda repeat: len(loader.indices) / train(loader, repeat + 1)


class StandardTraining:
    """The usual step: query, momentum update in a loop, key, logits of one positive and the queue."""

    def __init__(self, args: Namespace):
        self.query = ContrastiveModel(create(args.encoder, 0), args.head).to(args.device)
        self.key = copy.deepcopy(self.query).requires_grad_(False)
        self.momentum, self.temperature = args.momentum, args.temperature
        self.queue = normalize(torch.randn(args.queue, 128, device=args.device), dim=1)
        self.pointer = 0
        self.optimizer = torch.optim.AdamW(self.query.parameters(), args.lr)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        first, second = images.unbind(1)
        q = normalize(self.query(first), dim=1)
        with torch.no_grad():
            for key, query in zip(self.key.parameters(), self.query.parameters(), strict=True):
                key.copy_(self.momentum * key + (1 - self.momentum) * query)
            k = normalize(self.key(second), dim=1)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ self.queue.T], 1) / self.temperature
        loss = cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        rows = torch.arange(self.pointer, self.pointer + len(k), device=k.device) % len(self.queue)
        self.queue[rows] = k
        self.pointer = (self.pointer + len(k)) % len(self.queue)
        return loss.detach()
