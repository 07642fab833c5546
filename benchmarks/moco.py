"""MoCo pre-training: images per second of whole steps, against two PIL views an image from a DataLoader."""

import copy
from argparse import Namespace

import torch
from torch.nn.functional import cross_entropy, normalize

import train_moco
from benchmarks import measure
from benchmarks.contrastive import STANDARD_VIEWS, VIEWS, both_loaders
from models import ContrastiveModel, create
from utils.training.fit import FitConfig

STANDARD = (
    "the same networks with AdamW in float32, without shuffling, one parameter at a time in the momentum "
    f"update; {STANDARD_VIEWS}"
)


def moco(data_dir, device, repeats, images=4096):
    """MoCo: images per second of pre-training, against PIL views from a DataLoader.

    Both sides train the default encoder and head with AdamW and the same queue, on batches of the same size,
    augmented by the same ranges.
    """
    args = train_moco.parse(["--device", device.type, "--views", VIEWS, "--quiet"])[0]
    batches, loader = both_loaders(args, data_dir, device, images)
    images = len(batches.indices)
    model, step = train_moco.build(args)
    ours = measure.training_rate(model, step, FitConfig.from_values(vars(args)), batches, images, device)
    standard = standard_step(args)
    sides = {
        "ours": ("images/s", ours),
        "standard way": ("images/s", lambda repeat: measure.rate_of(loader, device, standard)),
    }
    goal = 3 if device.type == "cpu" else None
    ratios = [("training, ours / standard way", "ours", "standard way", STANDARD, goal)]
    return {
        "what": "MoCo: images per second of pre-training.",
        **measure.compare("moco", repeats, sides, ratios),
        "images": images,
        "batch_size": args.batch_size,
        "queue": args.queue,
        "views": VIEWS,
        "precision": {"ours": args.precision, "standard": "fp32"},
    }


def standard_step(args: Namespace):
    """Return the usual step: query, momentum update in a loop, key, logits of one positive and the queue."""
    encoder_q = ContrastiveModel(create(args.model, 0), args.head).to(args.device)
    encoder_k = copy.deepcopy(encoder_q).requires_grad_(False)
    queue = normalize(torch.randn(args.queue, 128, device=args.device), dim=1)
    optimizer = torch.optim.AdamW(encoder_q.parameters(), args.lr)
    pointer = 0

    def step(images, labels):
        nonlocal pointer
        first, second = images.unbind(1)
        q = normalize(encoder_q(first), dim=1)
        with torch.no_grad():
            for key, query in zip(encoder_k.parameters(), encoder_q.parameters(), strict=True):
                key.copy_(args.momentum * key + (1 - args.momentum) * query)
            k = normalize(encoder_k(second), dim=1)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / args.temperature
        measure.descend(
            optimizer, cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))
        )
        rows = torch.arange(pointer, pointer + len(k), device=k.device) % len(queue)
        queue[rows] = k
        pointer = (pointer + len(k)) % len(queue)

    return step
