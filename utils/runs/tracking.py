"""Optional live tracking: TensorBoard or Weights & Biases, imported on use."""

from utils.errors import UserError
from utils.runs.folder import RunFolder


class Tracker:
    """Send one dict of numbers per epoch to `kind`: "none", "tensorboard" or "wandb"."""

    def __init__(self, kind: str, run: RunFolder):
        self.writer = self.wandb = None
        if kind == "tensorboard":
            self.writer = _tensorboard()(log_dir=run.path("tensorboard"))
        elif kind == "wandb":
            name = f"{run.folder.parent.name}/{run.folder.name}"
            self.wandb = _wandb().init(project="mnist", name=name, dir=run.folder)

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


def check(kind: str) -> None:
    """Raise UserError before any training when the package for --track is not installed."""
    {"none": lambda: None, "tensorboard": _tensorboard, "wandb": _wandb}[kind]()


def _tensorboard():
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--track tensorboard needs a package: pip install tensorboard") from error
    return SummaryWriter


def _wandb():
    try:
        import wandb
    except ImportError as error:
        raise UserError("--track wandb needs a package: pip install wandb") from error
    return wandb
