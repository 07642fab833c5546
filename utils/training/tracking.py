"""Optional live tracking: TensorBoard or Weights & Biases, imported on use."""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

from utils.errors import UserError
from utils.runs.folder import RunFolder

STARTS = {"tensorboard": ("torch.utils.tensorboard", "SummaryWriter"), "wandb": ("wandb", "init")}


def load(kind: str) -> Any:
    """Import what starts --track, None for "none"; UserError when its package is not installed."""
    if kind == "none":
        return None
    module, start = STARTS[kind]
    try:
        return getattr(importlib.import_module(module), start)
    except (AttributeError, ImportError) as error:  # AttributeError: of a folder of that name
        raise UserError(f"--track {kind} needs a package: pip install {kind}") from error


@contextlib.contextmanager
def tracker(kind: str, run: RunFolder | None) -> Iterator[Callable]:
    """Give a function (numbers of an epoch, epoch) that sends to `kind`: "none", "tensorboard" or "wandb"."""
    if not run or kind == "none":
        yield lambda values, step: None
    elif kind == "tensorboard":
        with load(kind)(log_dir=run.path("tensorboard")) as writer:
            yield lambda values, step: [writer.add_scalar(name, values[name], step) for name in values]
    else:
        name = f"{run.folder.parent.name}/{run.folder.name}"
        with load(kind)(project="mnist", name=name, dir=run.folder) as session:
            yield session.log
