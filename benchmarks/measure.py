"""What the benchmarks share: alternating measurements, rows, ratios, and the training loop of each side."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

import train_cnn
from report.text import significant
from utils.training.cnn import ClassifierConfig
from utils.training.fit import FitConfig, Training
from utils.training.forward import clock

WORKERS = 2
LOADER = f"in a DataLoader with {WORKERS} worker processes"

Side = Callable[[int], float]  # what is measured, given the number of the repeat


def compare(name: str, repeats: int, sides: Mapping[str, tuple], ratios: Iterable[tuple]) -> dict:
    """Measure all sides in turn; return "rows" and "ratios" for the file; print a line per repeat.

    sides: {name of the row: (unit, side)}. ratios: (name, side, side, standard, target), see `ratio`. Every
    other repeat runs backwards, so that a drift of the machine affects all sides alike.
    """
    values: dict[str, list] = {side: [] for side in sides}
    for repeat in range(repeats):
        print(f"{name}, repeat {repeat + 1} of {repeats}:", end="", flush=True)
        for side in list(sides)[:: -1 if repeat % 2 else 1]:
            unit, measure = sides[side]
            values[side].append(measure(repeat))
            print(f"  {side} {significant(values[side][-1])} {unit}", end="", flush=True)
        print(flush=True)
    rows = [row(side, unit, values[side]) for side, (unit, _) in sides.items()]
    measured = [ratio(title, values[a], values[b], *facts) for title, a, b, *facts in ratios]
    return {"rows": rows, "ratios": measured}


def versus(name: str, repeats: int, unit: str, ours: Side, theirs: Side, standard: str, target) -> dict:
    """Return `compare` of two sides, "ours" and "standard way"; standard, target: see `ratio`."""
    sides = {"ours": (unit, ours), "standard way": (unit, theirs)}
    return compare(name, repeats, sides, [("ours / standard way", *sides, standard, target)])


def rounded(value: float) -> float:
    """Round to five significant digits, as many as a measurement has."""
    return float(f"{value:.5g}")


def row(name: str, unit: str, values: Sequence[float]) -> dict:
    """Return one measured quantity for the file: all its values and their median."""
    recorded = [rounded(value) for value in values]
    return {"name": name, "unit": unit, "values": recorded, "median": rounded(median(values))}


def ratio(name: str, a: Sequence[float], b: Sequence[float], standard: str, target: float | None) -> dict:
    """Return the ratio a / b of two medians with the range of the paired ratios, one pair per repeat.

    standard: one line that describes the standard way. target: the least ratio that reaches the goal.
    """
    pairs, verdict = [x / y for x, y in zip(a, b, strict=True)], None
    value, low, high = map(rounded, (median(a) / median(b), min(pairs), max(pairs)))
    if target is not None:
        reached = "reached" if low >= target else "the range crosses it"
        verdict = reached if high >= target else "not reached"
    measured = {"name": name, "value": value, "low": low, "high": high}
    return {**measured, "target": target, "standard": standard, "verdict": verdict}


def training_rate(model: nn.Module, step, config: FitConfig, batches, count: int, device, most=None) -> Side:
    """Return a side: images per second of an epoch of `count` images, trained as `fit` does.

    most: steps of an epoch, by default all. The first step, a warm-up, is not timed.
    """
    training = Training(model.to(device).to(memory_format=torch.channels_last), config, len(batches))

    def rate(steps):
        training.epoch = 1
        start = clock()
        training.train_epoch(step, batches, steps, tqdm(disable=True))
        return count / (clock() - start)

    rate(1)
    return lambda repeat: rate(most or len(batches))


def classifier_config(model: str, device: torch.device, *flags: str) -> ClassifierConfig:
    """Return the settings of `python train_cnn.py --model MODEL`."""
    args = train_cnn.parse(["--model", model, "--device", device.type, "--quiet", *flags])[0]
    return ClassifierConfig.from_values(vars(args))


def standard_transform(*augmentation: Callable) -> Callable:
    """Return torchvision's transform of a PIL image to a normalised tensor."""
    from torchvision import transforms  # here, because importing it takes seconds

    normalise = transforms.Normalize((0.1307,), (0.3081,))
    return transforms.Compose([*augmentation, transforms.ToTensor(), normalise])


def standard_dataset(data_dir: Path | str, train: bool, transform: Callable | None = None) -> Dataset:
    """Return MNIST as tutorials load it: one PIL image at a time, transformed on access."""
    from torchvision import datasets

    return datasets.MNIST(data_dir, train=train, transform=transform or standard_transform())


def standard_loader(dataset: Dataset, batch_size: int, device: torch.device, shuffle=True) -> DataLoader:
    """Return the DataLoader that tutorials recommend: worker processes, pinned memory for a GPU."""
    pin = device.type == "cuda"
    return DataLoader(dataset, batch_size, shuffle=shuffle, num_workers=WORKERS, pin_memory=pin)


def rate_of(batches: Iterable, device: torch.device, step: Callable | None = None) -> float:
    """Return images per second from the second batch on, when the worker processes have started."""
    start, count = 0.0, 0
    for number, (images, labels) in enumerate(batches):
        images, labels = images.to(device), labels.to(device)
        if step:
            step(images, labels)
        if number == 0:
            start = clock()
        else:
            count += len(images)
    return count / (clock() - start)


def descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Take one step of the optimiser."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
