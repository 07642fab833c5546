"""Optional live tracking: TensorBoard or Weights & Biases, imported on use."""

import importlib
from typing import Any

from utils.errors import UserError
from utils.runs.folder import RunFolder

MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}


def load(kind: str) -> Any:
    """Import the module for --track, None for "none"; UserError when its package is not installed."""
    try:
        return None if kind == "none" else importlib.import_module(MODULES[kind])
    except ImportError as error:
        raise UserError(f"--track {kind} needs a package: pip install {kind}") from error


class Tracker:
    """Sends one dict of numbers per epoch to `kind`: "none", "tensorboard" or "wandb"."""

    def __init__(self, kind: str, run: RunFolder):
        module = load(kind)
        self.writer = module.SummaryWriter(log_dir=run.path("tensorboard")) if kind == "tensorboard" else None
        name = f"{run.folder.parent.name}/{run.folder.name}"
        self.wandb = module.init(project="mnist", name=name, dir=run.folder) if kind == "wandb" else None

    def log(self, values: dict[str, float], step: int) -> None:
        if self.writer:
            for key, value in values.items():
                self.writer.add_scalar(key, value, step)
        if self.wandb:
            self.wandb.log(values, step=step)

    def close(self) -> None:
        if self.writer:
            self.writer.close()
        if self.wandb:
            self.wandb.finish()
