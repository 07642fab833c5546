"""The settings of `fit`, and what they choose: optimiser, learning-rate schedule, average of the weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

OPTIMIZERS = ("adam", "adamw", "muon", "sgd")
# What they keep of every parameter, besides "step" tensors like the parameter.
MOMENTS: dict[str, tuple[str, ...]] = {"sgd": ("momentum_buffer",), "kernel": ("step", "momentum_buffer")}
MOMENTS |= dict.fromkeys(("adam", "adamw", "muon"), ("step", "exp_avg", "exp_avg_sq"))
SCHEDULES = ("none", "step", "cosine", "warm-up-cosine", "one-cycle", "plateau")
MUON_SCALE = 5.0  # learning rate of Muon's convolutions to that of all other weights
# The share of the steps in which the learning rate rises.
WARM_UP = {"cosine": 0.0, "warm-up-cosine": 0.1, "one-cycle": 0.25}


class Muon(torch.optim.AdamW):
    """Muon (Jordan et al., 2024) for groups with "muon": True, AdamW for the others.

    A convolution's weights, as a matrix (outputs, inputs * height * width), move by their momentum brought to
    singular values of about one. Then they are scaled to the norm sqrt(outputs): batch normalisation, which
    should follow, makes their scale meaningless.
    """

    MOMENTUM = 0.9  # of Nesterov

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"] if group.get("muon") else ():
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state |= {"step": torch.zeros(()), "momentum_buffer": torch.zeros_like(p)}
                momentum = state["momentum_buffer"].mul_(self.MOMENTUM).add_(p.grad)
                update = orthogonal(p.grad.add(momentum, alpha=self.MOMENTUM).flatten(1))
                p.sub_(group["lr"] * update.view_as(p))
                p.mul_(math.sqrt(len(p)) / p.norm())
                p.grad = None  # AdamW leaves out what has no gradient
        return super().step(closure)


def orthogonal(matrix: torch.Tensor, steps: int = 3) -> torch.Tensor:
    """Return a matrix (M, N) with the singular vectors of `matrix` and singular values of about one.

    Newton-Schulz iterations of the polynomial of Jordan et al. (2024), which is steep at zero.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x


@dataclass(frozen=True)
class FitConfig:
    """Everything that `fit` reads.

    lr: peak learning rate. ema: decay of the exponential moving average of the weights, 0 for none.
    clip_norm: largest gradient norm, 0 for no limit. patience: stop after this many epochs without a lower
    criterion, 0 for never. precision: "fp32" or "bf16". max_steps: steps per epoch at most, None for all.
    """

    epochs: int
    lr: float
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    schedule: str = "none"
    ema: float = 0.0
    clip_norm: float = 0.0
    patience: int = 0
    precision: str = "fp32"
    compile: bool = False
    max_steps: int | None = None
    quiet: bool = False

    @classmethod
    def from_values(cls, values: dict) -> "FitConfig":
        """Take the fields from a dict that may hold more; a dry run makes one step per epoch."""
        names = {field.name for field in fields(cls)}
        given = {key: value for key, value in values.items() if key in names and value is not None}
        return cls(**given | ({"max_steps": 1} if values.get("dry_run") else {}))

    @property
    def needs_validation(self) -> bool:
        return bool(self.patience) or self.schedule == "plateau"


def make_optimizer(groups: list[dict], config: FitConfig) -> torch.optim.Optimizer:
    """Create the optimiser: adam, adamw, muon or sgd (Nesterov momentum 0.9).

    groups: dicts of "params" and, optionally, "lr_scale", the group's share of the learning rate. Frozen
    parameters are left out; biases and normalisation parameters get no weight decay. Muon moves the
    convolutions of more than one input channel, at MUON_SCALE times the learning rate; AdamW all others.
    """

    def by_muon(p):
        return config.optimizer == "muon" and p.ndim == 4 and p.shape[1] > 1

    split = []
    for group in groups:
        trained = [p for p in group["params"] if p.requires_grad]
        rate = config.lr * group.get("lr_scale", 1.0)
        weights = [p for p in trained if p.ndim > 1 and not by_muon(p)]
        kernels, others = [p for p in trained if by_muon(p)], [p for p in trained if p.ndim <= 1]
        split.append({"params": weights, "weight_decay": config.weight_decay, "lr": rate})
        split.append({"params": others, "weight_decay": 0.0, "lr": rate})
        if kernels:
            split.append({"params": kernels, "weight_decay": 0.0, "lr": MUON_SCALE * rate, "muon": True})
    devices = {p.device.type for group in split for p in group["params"]}
    fused = devices <= {"cpu", "cuda"}
    if config.optimizer == "sgd":
        return torch.optim.SGD(split, config.lr, momentum=0.9, nesterov=True, fused=fused)
    cls: Callable = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "muon": Muon}[config.optimizer]
    return cls(split, config.lr, fused=fused)


def make_schedule(
    optimizer: torch.optim.Optimizer, config: FitConfig, steps_per_epoch: int
) -> tuple[Any, bool]:
    """Return the schedule, or None, and whether it moves per step (else per epoch).

    cosine, warm-up-cosine, one-cycle: see `anneal`. step: times 0.9 every five epochs. plateau: times 0.3
    after two epochs without a lower validation loss.
    """
    if config.schedule == "step":
        return lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9 ** (epoch // 5)), False
    if config.schedule == "plateau":
        return lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=2), False
    if config.schedule in WARM_UP:
        total, warm_up = config.epochs * steps_per_epoch, WARM_UP[config.schedule]
        return lr_scheduler.LambdaLR(optimizer, lambda step: anneal(step, total, warm_up)), True
    return None, False


def anneal(step: int, total: int, warm_up: float) -> float:
    """Return the share of the peak learning rate at `step` of `total`.

    It rises from 4 % during the share `warm_up` of the steps and then follows a cosine to zero at the last
    step: cosine annealing (Loshchilov and Hutter, 2017), with 0.25 one-cycle (Smith and Topin, 2018).
    """
    done = min(step / max(1, total - 1), 1.0)
    if done < warm_up:
        return 0.04 + 0.96 * done / warm_up
    return 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


# --- Resuming: numbers come from the checkpoint; sizes, rates and kernels from the configuration ---


def check_tensors(saved: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> None:
    """Raise ValueError unless `saved` has finite tensors of the names, shapes and types of `own`."""
    if saved.keys() != own.keys():
        raise ValueError(f"it has {', '.join(map(str, saved))}, not {', '.join(own)}")
    for name, value in own.items():
        if saved[name].shape != value.shape or saved[name].dtype != value.dtype:
            facts = f"{tuple(saved[name].shape)} {saved[name].dtype}", f"{tuple(value.shape)} {value.dtype}"
            raise ValueError(f"{name} is {facts[0]}, not {facts[1]}")
        if not saved[name].isfinite().all():
            raise ValueError(f"{name} is not finite")


def load_moments(optimizer: torch.optim.Optimizer, saved: dict, config: FitConfig) -> None:
    """Take the moments of every parameter from a checkpoint, after a check.

    Fused kernels trust sizes, strides and storage, hence each moment is copied into one like its parameter.
    """
    own, moments = optimizer.state_dict()["param_groups"], {}
    parameters = [(p, group.get("muon")) for group in optimizer.param_groups for p in group["params"]]
    for number, values in saved["state"].items():
        parameter, by_muon = parameters[number]
        like = dict.fromkeys(MOMENTS["kernel" if by_muon else config.optimizer], parameter)
        like |= {"step": torch.zeros(())} if "step" in like else {}
        check_tensors(values, like)
        moments[number] = {key: torch.empty_like(like[key]).copy_(value) for key, value in values.items()}
    if config.schedule == "plateau":  # all others compute the rate, see `set_schedule`
        for group, other in zip(own, saved["param_groups"], strict=True):
            if not 0 <= other["lr"] <= group["lr"]:
                raise ValueError(f"a learning rate of {other['lr']}")
            group["lr"] = float(other["lr"])
    optimizer.load_state_dict({"state": moments, "param_groups": own})


def set_schedule(schedule: Any, saved: dict, done: int) -> None:
    """Move a schedule to where it stands after `done` steps or epochs."""
    if isinstance(schedule, lr_scheduler.ReduceLROnPlateau):
        best, bad = float(saved["best"]), int(saved["num_bad_epochs"])
        schedule.load_state_dict({**schedule.state_dict(), "best": best, "num_bad_epochs": bad})
    elif schedule and done:
        start = {"last_epoch": done - 1, "_step_count": done + 1}
        schedule.load_state_dict({**schedule.state_dict(), **start})
        schedule.step()


@torch.no_grad()
def update_average(averaged: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the exponential moving average of weights and buffers one step towards `model`, in place.

    The decay is at most (1 + step) / (10 + step), so that the random first weights are forgotten quickly.
    """
    decay = min(decay, (1 + step) / (10 + step))
    pairs = list(zip(averaged.state_dict().values(), model.state_dict().values(), strict=True))
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - decay)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)
