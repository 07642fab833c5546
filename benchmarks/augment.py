"""Augmented training images per second, against torchvision's per-image transforms."""

import torch

from benchmarks import measure
from benchmarks.measure import clock, ratio, row, standard_dataset
from data import POLICIES, BatchLoader, load

AUGMENT_BATCH = 256


def augment(data_dir, device, repeats, images=20_000):
    """Augmented, normalised images per second on the device; no training.

    Ours: a whole epoch. The standard way: `images` images, timed from the second batch on, so that the
    start of the worker processes is not counted (and the few batches that they made meanwhile are free).
    """
    train_set, _ = load("mnist", data_dir, device)
    batches = BatchLoader(
        train_set, torch.arange(len(train_set.labels)), AUGMENT_BATCH, augment=POLICIES["affine"]
    )
    standard_set = standard_dataset(data_dir, True, standard_affine(POLICIES["affine"]))
    standard_set = torch.utils.data.Subset(standard_set, range(min(images, len(standard_set))))
    our_rate(batches, device, 0)
    ours, standard = [], []
    for repeat in range(repeats):
        ours.append(our_rate(batches, device, repeat))
        standard.append(standard_rate(standard_set, device))
        print(
            f"augment, repeat {repeat + 1}: ours {ours[-1]:,.0f}/s, standard {standard[-1]:,.0f}/s",
            flush=True,
        )
    return {
        "what": "Augmented and normalised training images per second: rotation, shift, zoom and shear.",
        "rows": [row("ours", "images/s", ours), row("standard way", "images/s", standard)],
        "ratios": [ratio("ours / standard way", ours, standard, target=8 if device.type == "cpu" else None)],
        "batch_size": AUGMENT_BATCH,
        "workers": measure.WORKERS,
        "images": {"ours": len(train_set.labels), "standard": len(standard_set)},
    }


def standard_affine(policy):
    """torchvision's per-image transform with the ranges of an affine Augment."""
    from torchvision import transforms

    return transforms.RandomAffine(
        degrees=policy.rotate,
        translate=(policy.translate, policy.translate),
        scale=(1 - policy.scale, 1 + policy.scale),
        shear=(-policy.shear, policy.shear, -policy.shear, policy.shear),
        interpolation=transforms.InterpolationMode.BILINEAR,
    )


def our_rate(batches, device, epoch):
    """Images per second over one epoch of a BatchLoader."""
    start = clock(device)
    count = sum(len(images) for images, _ in batches.epoch(epoch))
    return count / (clock(device) - start)


def standard_rate(dataset, device):
    """Images per second of a DataLoader from its second batch on, each batch moved to the device."""
    loader = torch.utils.data.DataLoader(
        dataset, AUGMENT_BATCH, shuffle=True, num_workers=measure.WORKERS, pin_memory=device.type == "cuda"
    )
    batches = iter(loader)
    next(batches)
    start = clock(device)
    count = sum(len(images.to(device)) for images, _ in batches)
    return count / (clock(device) - start)
