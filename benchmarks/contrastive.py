"""Contrastive pre-training: two views per image and training steps, against the usual way."""

from argparse import Namespace
from collections.abc import Callable
from functools import partial

import torch
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import Subset

import train_simclr
from benchmarks import measure
from benchmarks.cnn import standard_affine
from benchmarks.measure import rate_of
from data import load, view_augment
from models import ContrastiveModel, create
from utils.training.fit import FitConfig

# Without elastic deformation on either side: torchvision has no fast one for PIL images.
VIEWS = "affine,blur"
STANDARD_VIEWS = f"torchvision.transforms of PIL images, one view at a time, {measure.LOADER}"
STANDARD_SIMCLR = f"the same network with AdamW in float32 and a loss with masks; {STANDARD_VIEWS}"


def simclr(data_dir, device, repeats, images=4096):
    """SimCLR: images per second of views and of training, against PIL views from a DataLoader.

    Both sides train the default encoder and head with AdamW on batches of the same size, augmented by the
    same ranges.
    """
    from torchvision import transforms  # here, because importing it takes seconds

    args = train_simclr.parse(["--device", device.type, "--views", VIEWS, "--quiet"])[0]
    train_set, _ = load("mnist", data_dir, device)
    images = min(images, len(train_set.labels))
    args.batch_size = min(args.batch_size, images // 2)
    batches = train_simclr.make_views(args, train_set, torch.arange(images), seed=0)
    ranges = view_augment(VIEWS.split(","))
    blur = transforms.GaussianBlur(7, (0.01, ranges.blur))
    views = partial(two_views, measure.standard_transform(standard_affine(ranges), blur))
    dataset = Subset(measure.standard_dataset(data_dir, True, views), range(images))
    loader = measure.standard_loader(dataset, args.batch_size, device)
    model, step = train_simclr.build(args)
    ours = measure.training_rate(model, step, FitConfig.from_values(vars(args)), batches, images, device)
    their_step = standard_simclr(args)
    sides = {
        "views, ours": ("images/s", lambda repeat: rate_of(batches.epoch(repeat), device)),
        "views, standard way": ("images/s", lambda repeat: rate_of(loader, device)),
        "training, ours": ("images/s", ours),
        "training, standard way": ("images/s", lambda repeat: rate_of(loader, device, their_step)),
    }
    ratios = []
    for what, text, goal in (("training", STANDARD_SIMCLR, 3), ("views", STANDARD_VIEWS, 8)):
        pair = f"{what}, ours", f"{what}, standard way"
        ratios.append((f"{what}, ours / standard way", *pair, text, goal if device.type == "cpu" else None))
    precision = {"ours": args.precision, "standard": "fp32"}
    facts = {"images": images, "batch_size": args.batch_size, "views": VIEWS, "precision": precision}
    return measure.compare("simclr", repeats, sides, ratios) | facts


def two_views(view: Callable, image) -> torch.Tensor:
    return torch.stack([view(image), view(image)])


def standard_simclr(args: Namespace) -> Callable:
    """Return a step on the same network, in float32 with the loss that builds masks."""
    model = ContrastiveModel(create(args.model, 0), args.head).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), args.lr)

    def step(images, labels):
        features = model(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        measure.descend(optimizer, masked_nt_xent(features, args.temperature))

    return step


def masked_nt_xent(features: torch.Tensor, temperature: float) -> torch.Tensor:
    """NT-Xent of (B, 2, D) features by (2B, 2B) masks that pick positives and negatives out of all pairs."""
    rows = normalize(features.transpose(0, 1).flatten(0, 1), dim=1)
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    same = itself | itself.roll(len(features), 0)
    similarity = rows @ rows.T
    positives = similarity[same & ~itself].unsqueeze(1)
    negatives = similarity[~same].view(len(rows), -1)
    logits = torch.cat([positives, negatives], 1) / temperature
    return cross_entropy(logits, torch.zeros(len(rows), dtype=torch.long, device=rows.device))
