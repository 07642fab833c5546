"""Hand-written layers against their obvious versions, timed as whole training steps."""

import statistics
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.measure import SameBatch, one_thread, ratio, recipe_arguments, row, timed_training
from data import POLICIES, BatchLoader, ImageSet, load
from models import create
from models.layers import Dropout, GlobalPool
from utils.training.config import FitConfig
from utils.training.fit import classification_step

# The least gain of a whole training step for which a layer is written by hand.
TARGET = 1.1


class PlainGlobalPool(nn.Module):
    """GlobalPool as two poolings of torch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1)


# Layer: how to make its obvious version, in one line what that is, and the models of RECIPES that use it.
LAYERS: dict[type, tuple[Callable, str, tuple[str, ...]]] = {
    Dropout: (lambda layer: nn.Dropout(layer.level / 256), "torch.nn.Dropout", ("mlp", "cnn", "wide")),
    GlobalPool: (lambda layer: PlainGlobalPool(), "torch.amax and torch.mean", ("compact", "wide")),
}


def layers(data_dir, device, repeats, steps=20, cases=None):
    """Gain of every hand-written layer: the time of a training step with the obvious version over ours.

    A step is that of `fit` by the model's recipe, on one batch and one CPU thread. A repeat is the median of
    `steps` steps of each version; the versions take turns step by step, because the effect is small. cases:
    (layer, model) pairs, by default all.
    """
    train_set, _ = load("mnist", data_dir, device)
    cases = cases or [(layer, model) for layer, (_, _, models) in LAYERS.items() for model in models]
    rows, ratios = [], []
    for layer, model in cases:
        name, standard = f"{layer.__name__} in {model}", LAYERS[layer][1]
        with one_thread():
            takes = [training_step(model, train_set, device, plain) for plain in (None, layer)]
            medians = []
            for repeat in range(repeats):
                medians.append(alternating_steps(takes, steps))
                ours, obvious = (f"{1e3 * seconds:.1f} ms" for seconds in medians[-1])
                print(f"layers, {name}, repeat {repeat + 1} of {repeats}: ours {ours}, obvious {obvious}")
        columns = list(zip(*medians, strict=True))
        for side, values in zip(("ours", "obvious"), columns, strict=True):
            rows.append(row(f"step, {name}, {side}", "s", values))
        ratios.append(ratio(f"{name}, obvious / ours", columns[1], columns[0], standard, TARGET))
    return {
        "what": "Seconds of a training step with a hand-written layer and with its obvious version.",
        "rows": rows,
        "ratios": ratios,
        "steps": steps,
        "step_threads": 1,
    }


def alternating_steps(takes: list[Callable[[], float]], steps: int) -> list[float]:
    """Return the median seconds of the steps of every version."""
    seconds: list[list[float]] = [[] for _ in takes]
    for number in range(steps):
        for version in range(len(takes))[:: -1 if number % 2 else 1]:
            seconds[version].append(takes[version]())
    return [statistics.median(values) for values in seconds]


def training_step(
    model: str, train_set: ImageSet, device: torch.device, plain: type | None = None
) -> Callable[[], float]:
    """Return a function that makes a training step of a model by its recipe and returns the seconds.

    plain: the type of layers to replace by their obvious version.
    """
    args = recipe_arguments(model, device)
    indices = torch.arange(len(train_set.labels))
    loader = BatchLoader(train_set, indices, args.batch_size, augment=POLICIES[args.augment])
    torch.manual_seed(0)
    network = create(model).to(device).to(memory_format=torch.channels_last)
    if plain:
        replace_layers(network, plain)
    step = classification_step(network, args.label_smoothing)
    train = timed_training(network, step, FitConfig.from_args(args), len(loader))
    batch = next(loader.epoch())
    train(SameBatch(batch, 3))  # warm-up
    return lambda: train(SameBatch(batch, 1))


def replace_layers(network: nn.Module, layer: type) -> None:
    """Put the obvious version in place of every layer of this type."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, layer):
                setattr(parent, name, LAYERS[layer][0](child))
