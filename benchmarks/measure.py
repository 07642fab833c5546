"""What every benchmark shares: the clock, rows and ratios of measured values, the standard data loading."""

import statistics
import time

import torch

import train_cnn

# Worker processes of the standard way's DataLoader.
WORKERS = 2


def clock(device):
    """Seconds, read when everything that was queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def digits(value, count=5):
    """A number with as many significant digits as a measurement has; None stays None."""
    return None if value is None else float(f"{value:.{count}g}")


def median(values):
    """The median; None when one of the values is None, a goal that was not reached."""
    return None if None in values else statistics.median(values)


def row(name, unit, values, **facts):
    values = [digits(value) for value in values]
    return {"name": name, "unit": unit, "values": values, "median": median(values), **facts}


def ratio(name, numerators, denominators, target=None):
    """The median of the repeats' ratios, not the ratio of medians: each was measured side by side."""
    pairs = zip(numerators, denominators, strict=True)
    values = [digits(a / b) if a and b else None for a, b in pairs]
    return {"name": name, "value": median(values), "values": values, "target": target}


def recipe_arguments(model, device, *flags):
    """The arguments of `python train_cnn.py --model MODEL`, on all of the training images."""
    flags = ("--model", model, "--device", device.type, "--val-fraction", "0", "--quiet", *flags)
    return train_cnn.parse(flags)[0]


def standard_dataset(data_dir, train, *augmentation):
    """MNIST as tutorials load it: one PIL image at a time, transformed when it is asked for."""
    from torchvision import datasets, transforms  # here, because importing it takes seconds

    normalise = transforms.Normalize((0.1307,), (0.3081,))
    transform = transforms.Compose([*augmentation, transforms.ToTensor(), normalise])
    return datasets.MNIST(data_dir, train=train, transform=transform)
