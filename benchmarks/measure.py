"""What the benchmarks share: clock, alternating repeats, rows and ratios, one pass of either side's loop."""

import contextlib
import itertools
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

import train_cnn
from utils.training.config import FitConfig
from utils.training.fit import Batches, Step, Training

# Worker processes of the standard way's DataLoader.
WORKERS = 2
REACHED, MISSED, CROSSED = "reached", "not reached", "the range crosses it"

Value = TypeVar("Value")
# None stands for a goal that a training did not reach.
Values = Sequence[float | None]


def clock(device: torch.device) -> float:
    """Return seconds, read when everything that was queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def alternate(
    name: str,
    repeats: int,
    sides: Mapping[str, Callable[[int], Value]],
    show: Callable[[Value], str] = "{:,.4g}".format,
) -> dict[str, list[Value]]:
    """Call side(repeat) of every side in turn and return {side: values}; print a line per repeat.

    Every other repeat goes backwards, so that a machine that becomes slower or faster meets all sides.
    """
    values: dict[str, list[Value]] = {side: [] for side in sides}
    for repeat in range(repeats):
        print(f"{name}, repeat {repeat + 1} of {repeats}:", end="", flush=True)
        for side in list(sides)[:: -1 if repeat % 2 else 1]:
            values[side].append(sides[side](repeat))
            print(f"  {side} {show(values[side][-1])}", end="", flush=True)
        print(flush=True)
    return values


# --- Results ---


def digits(value: float, count: int = 5) -> float:
    """Round to as many significant digits as a measurement has."""
    return float(f"{value:.{count}g}")


def median(values: Values) -> float | None:
    """Return the median, rounded; None when one of the values is None."""
    known = [value for value in values if value is not None]
    return digits(statistics.median(known)) if len(known) == len(values) else None


def row(name: str, unit: str, values: Values, **facts) -> dict:
    """Return one measured quantity for the file: all its values and their median."""
    rounded = [None if value is None else digits(value) for value in values]
    return {"name": name, "unit": unit, "values": rounded, "median": median(values), **facts}


def ratio(
    name: str, numerators: Values, denominators: Values, standard: str, target: float | None = None
) -> dict:
    """Return the ratio of two medians with the range of the paired ratios, one pair per repeat.

    standard: one line that describes the standard way. target: the least ratio that reaches the goal. When a
    value is None, so are the ratio and its range.
    """
    pairs = zip(numerators, denominators, strict=True)
    paired = [digits(a / b) for a, b in pairs if a is not None and b is not None]
    top, bottom = median(numerators), median(denominators)
    found: dict[str, Any] = {"name": name, "value": None, "low": None, "high": None}
    if top is not None and bottom is not None:
        found |= {"value": digits(top / bottom), "low": min(paired), "high": max(paired)}
    found |= {"target": target, "standard": standard}
    return {**found, "verdict": verdict(found)}


def verdict(found: dict) -> str | None:
    """Say whether all repeats reach the goal of a ratio, or none, or only some; None without a goal."""
    if found["target"] is None:
        return None
    if found["value"] is None or found["high"] < found["target"]:
        return MISSED
    return REACHED if found["low"] >= found["target"] else CROSSED


def line(found: dict) -> str:
    """Return a ratio in words: name, value, range and, where there is a goal, whether it is reached."""
    if found["value"] is None:
        text = f"{found['name']}: accuracy not reached"
    else:
        text = f"{found['name']} {found['value']:.3g} ({found['low']:.3g} to {found['high']:.3g})"
    return text if found["target"] is None else f"{text}, goal of {found['target']:.3g}: {found['verdict']}"


# --- Our side ---


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use a single CPU thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def recipe_arguments(model: str, device: torch.device, *flags: str) -> Namespace:
    """Return the arguments of `python train_cnn.py --model MODEL`, on all of the training images."""
    words = ["--model", model, "--device", device.type, "--val-fraction", "0", "--quiet", *flags]
    return train_cnn.parse(words)[0]


class SameBatch:
    """One batch, again and again, so that only the training step is timed."""

    def __init__(self, batch: tuple[torch.Tensor, ...], count: int):
        self.batch, self.count = batch, count

    def __len__(self) -> int:
        return self.count

    def epoch(self, number: int = 0) -> Iterator[tuple[torch.Tensor, ...]]:
        return itertools.repeat(self.batch, self.count)


def timed_training(
    model: nn.Module, step: Step, config: FitConfig, steps_per_epoch: int
) -> Callable[..., float]:
    """Return train(batches, epoch=1): it trains on all of the batches as `fit` does and returns the seconds.

    A step is forward, backward, optimiser, schedule and, where the config has one, the weight average.
    """
    training = Training(model, config, steps_per_epoch)

    def train(batches: Batches, epoch: int = 1) -> float:
        training.epoch = epoch
        start = clock(training.device)
        training.train_epoch(step, batches, len(batches), tqdm(disable=True))
        return clock(training.device) - start

    return train


# --- The standard way ---


def standard_dataset(data_dir: Path | str, train: bool, *augmentation: Callable) -> Dataset:
    """Return MNIST as tutorials load it: one PIL image at a time, transformed when it is asked for."""
    from torchvision import datasets, transforms  # here, because importing it takes seconds

    normalise = transforms.Normalize((0.1307,), (0.3081,))
    transform = transforms.Compose([*augmentation, transforms.ToTensor(), normalise])
    return datasets.MNIST(data_dir, train=train, transform=transform)


def standard_loader(
    dataset: Dataset, batch_size: int, device: torch.device, shuffle: bool = True
) -> DataLoader:
    """Return the DataLoader that tutorials recommend: worker processes, pinned memory for a GPU."""
    pin = device.type == "cuda"
    return DataLoader(dataset, batch_size, shuffle=shuffle, num_workers=WORKERS, pin_memory=pin)


def standard_batches(loader: DataLoader, device: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the batches of a loader on the device."""
    return ((images.to(device), labels.to(device)) for images, labels in loader)


def rate_of(
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    device: torch.device,
    step: Callable[[torch.Tensor, torch.Tensor], Any] | None = None,
) -> float:
    """Return images per second over the batches from the second on: worker processes have started by then."""
    start, count = 0.0, 0
    for number, (images, labels) in enumerate(batches):
        if step:
            step(images, labels)
        if number == 0:
            start = clock(device)
        else:
            count += len(images)
    return count / (clock(device) - start)
