"""Augmented training images per second, against torchvision's per-image transforms."""

import torch
from torch.utils.data import Subset

from benchmarks import measure
from benchmarks.measure import (
    alternate,
    rate_of,
    ratio,
    row,
    standard_batches,
    standard_dataset,
    standard_loader,
)
from data import POLICIES, Augment, BatchLoader, load

AUGMENT_BATCH = 256
STANDARD = (
    "torchvision.transforms.RandomAffine on one PIL image at a time in a DataLoader with "
    f"{measure.WORKERS} worker processes"
)


def augment(data_dir, device, repeats, images=20_000):
    """Augmented, normalised images per second on the device; no training.

    Ours: a whole epoch. The standard way: `images` images. Both are timed from the second batch on, so that
    the start of the worker processes is not counted (and the few batches that they made meanwhile are free).
    """
    train_set, _ = load("mnist", data_dir, device)
    everything = torch.arange(len(train_set.labels))
    batches = BatchLoader(train_set, everything, AUGMENT_BATCH, augment=POLICIES["affine"])
    dataset = standard_dataset(data_dir, True, standard_affine(POLICIES["affine"]))
    dataset = Subset(dataset, range(min(images, len(everything))))
    loader = standard_loader(dataset, AUGMENT_BATCH, device)
    rate_of(batches.epoch(), device)  # warm-up
    found = alternate(
        "augment",
        repeats,
        {
            "ours": lambda repeat: rate_of(batches.epoch(repeat), device),
            "standard way": lambda repeat: rate_of(standard_batches(loader, device), device),
        },
        show="{:,.0f} images/s".format,
    )
    target = 8 if device.type == "cpu" else None
    return {
        "what": "Augmented and normalised training images per second: rotation, shift, zoom and shear.",
        "rows": [row(side, "images/s", values) for side, values in found.items()],
        "ratios": [ratio("ours / standard way", found["ours"], found["standard way"], STANDARD, target)],
        "batch_size": AUGMENT_BATCH,
        "images": {"ours": len(everything), "standard": len(dataset)},
    }


def standard_affine(policy: Augment):
    """Return torchvision's per-image transform with the ranges of an affine Augment."""
    from torchvision import transforms

    return transforms.RandomAffine(
        degrees=policy.rotate,
        translate=(policy.translate, policy.translate),
        scale=(1 - policy.scale, 1 + policy.scale),
        shear=(-policy.shear, policy.shear, -policy.shear, policy.shear),
        interpolation=transforms.InterpolationMode.BILINEAR,
    )
