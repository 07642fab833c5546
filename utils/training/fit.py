"""The one epoch loop: every script passes it a `step(*batch) -> loss, metrics`."""

import copy
import math
import time
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from models import CheckpointError
from utils import distributed
from utils.console import print_line, progress
from utils.errors import UserError, check_signals
from utils.runs.folder import RunFolder
from utils.training import optim
from utils.training.optim import FitConfig, make_optimizer, make_schedule, update_average

Step = Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor]]]
Validate = Callable[[nn.Module, int], dict[str, float]]

# One or two epochs make no curve: a training of fewer than SHORT epochs also logs about POINTS points of its
# steps, all epochs together.
SHORT, POINTS = 3, 50
LIKE = (0, 0, 0.0, True, 0, 0.0)  # the types of a checkpoint's counters, best epoch and best loss


def fit(
    model: nn.Module,
    step: Step,
    batches: Any,
    config: FitConfig,
    run: RunFolder | None = None,
    validate: Validate | None = None,
    *,
    groups: list[dict] | None = None,
    criterion: str = "val_loss",
    tolerance: float = 0.0,
) -> dict:
    """Train `model` in place, leave it with its best weights, and return the facts of the training.

    step(*batch): returns (loss, {name: scalar tensor}), means over the batch; it runs under autocast.
    batches: a BatchLoader or its like, with a length and epoch(number); len(batch[0]) is the batch size.
    run: its folder gets history.jsonl and a checkpoint after every epoch; a training resumes from an existing
    checkpoint, on the CPU bit for bit. None writes nothing. A training of one or two epochs also logs
    "steps", see `step_means`.
    validate(model, epoch): returns a dict of numbers for the epoch (from 1), which may hold the criterion.
    groups: parameter groups as in `make_optimizer`; by default one group of all parameters.

    The best weights are those of the epoch with the lowest criterion; with a tolerance, those of the last
    epoch whose criterion is within `tolerance` of the lowest so far; without a criterion, the last ones.
    With config.ema the averaged weights are validated and kept.

    Raises UserError when a loss, a weight or a metric is not finite, CheckpointError for the checkpoint of
    another model.
    """
    steps = min(len(batches), config.max_steps or len(batches))
    shared = getattr(batches, "world", 1) > 1  # the ranks train together, each on its piece of a batch
    training = Training(model, config, steps, groups, criterion, tolerance, shared)
    if run:
        training.restore(run)
    if config.compile:
        model.compile()
    start = time.perf_counter() - training.seconds
    with progress(config.epochs * steps, config.quiet, done=training.epoch * steps) as bar:
        while training.epoch < config.epochs and not training.stopped:
            training.epoch += 1
            bar.set_description(f"epoch {training.epoch}/{config.epochs}")
            values = training.train_epoch(step, batches, steps, bar)
            if validate:
                values |= validate(training.averaged or model, training.epoch)
            values = training.end_epoch(values, time.perf_counter() - start)
            if run:
                run.log(**values, **training.within_epoch)
                run.save_checkpoint(training.state())
            if not config.quiet:
                print_line(_line(values, config.epochs))
    return training.finish()


def step_means(
    table: torch.Tensor, weights: torch.Tensor, names: list[str], rates: list[float], points: int
) -> dict[str, list]:
    """Return at most `points` means over successive stretches of an epoch, each a list.

    table: (steps, names), on the CPU. weights: (steps,), images of every step. rates: learning rate of every
    step. "step" and "lr" are those of the last step of a stretch, counted from 1. Five significant digits.
    """
    curve: dict[str, list] = {"step": [], **{name: [] for name in names}, "lr": []}
    for stretch in torch.arange(len(table)).tensor_split(min(points, len(table))):
        means = weights[stretch] @ table[stretch] / weights[stretch].sum()
        last = int(stretch[-1])
        for key, value in zip(curve, [last + 1, *means.tolist(), rates[last]], strict=True):
            curve[key].append(value if key == "step" else float(f"{value:.5g}"))
    return curve


def classification_step(model: nn.Module, label_smoothing: float = 0.0) -> Step:
    """Return a classifier's step: cross-entropy, accuracy; labels (B,), or probabilities (B, classes)."""

    def step(images, labels):
        logits = model(images).float()
        loss = cross_entropy(logits, labels, label_smoothing=label_smoothing)
        classes = labels if labels.ndim == 1 else labels.argmax(1)
        return loss, {"accuracy": (logits.argmax(1) == classes).float().mean()}

    return step


class Training:
    """Everything that a checkpoint holds: model, optimiser, schedule, average, best weights, counters."""

    def __init__(
        self,
        model: nn.Module,
        config: FitConfig,
        steps: int,
        groups: list[dict] | None = None,
        criterion: str = "val_loss",
        tolerance: float = 0.0,
        shared: bool = False,
    ):
        self.model, self.config, self.shared = model, config, shared
        self.criterion, self.tolerance = criterion, tolerance
        self.device = next(model.parameters()).device
        self.optimizer = make_optimizer(groups or [{"params": list(model.parameters())}], config)
        self.schedule, self.per_step = make_schedule(self.optimizer, config, steps)
        self.averaged = copy.deepcopy(model).eval() if config.ema else None
        self.epoch, self.step, self.seconds, self.stopped = 0, 0, 0.0, False
        self.best: dict[str, Any] = {"loss": math.inf, "epoch": 0, "weights": None}
        self.within_epoch: dict[str, dict] = {}  # of the last epoch, for the history of a short training

    def train_epoch(self, step: Step, batches: Any, steps: int, bar: tqdm) -> dict[str, float]:
        """Train for one epoch; return the means of loss and metrics. Waits for the device once."""
        model, config = self.model.train(), self.config
        parameters = [p for p in model.parameters() if p.requires_grad]
        rows, sizes, rates = [], [], []
        metrics: dict[str, torch.Tensor] = {}
        bf16 = config.precision == "bf16"
        for batch, _ in zip(batches.epoch(self.epoch - 1), range(steps), strict=False):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                loss, metrics = step(*batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if config.clip_norm:
                torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            rates.append(self.optimizer.param_groups[0]["lr"])
            check_signals()
            self.optimizer.step()
            if self.per_step:
                self.schedule.step()
            self.step += 1
            if self.averaged:
                update_average(self.averaged, model, config.ema, self.step)
            rows.append(torch.stack([loss.detach().float(), *(v.detach() for v in metrics.values())]))
            sizes.append(len(batch[0]))
            if bar.update():  # true when the bar was redrawn, a few times a second
                bar.set_postfix_str(f"loss {loss.item():.4f}", refresh=False)
        # The last step may spoil weights and statistics.
        spoilt = torch.stack([(~value.isfinite()).sum() for value in model.state_dict().values()]).sum()
        numbers = torch.cat([*rows, spoilt.float().view(1)]).cpu().double()
        table = numbers[:-1].view(len(rows), -1)
        for number, loss in enumerate(table[:, 0].tolist(), self.step - len(rows) + 1):
            if not math.isfinite(loss):
                self._fail(f"the loss is {loss} at step {number}")
        if numbers[-1]:
            self._fail(f"weights are not finite after step {self.step}")
        weights = torch.tensor(sizes, dtype=torch.float64)
        means = (weights @ table / weights.sum()).tolist()
        names = ["train_loss", *(f"train_{name}" for name in metrics)]
        if config.epochs < SHORT:
            curve = step_means(table, weights, names, rates, POINTS // config.epochs)
            self.within_epoch = {"steps": curve}
        return {**dict(zip(names, means, strict=True)), "lr": rates[-1]}

    def _fail(self, problem: str) -> NoReturn:
        kept = f"; the checkpoint of epoch {self.epoch - 1} is kept" if self.epoch > 1 else ""
        raise UserError(f"{problem} (epoch {self.epoch}){kept}; try a lower --lr or --precision fp32")

    def end_epoch(self, values: dict[str, float], seconds: float) -> dict[str, float]:
        """Choose the best weights, move a schedule that goes by epochs, decide on an early stop.

        values: metrics of the epoch. seconds: of the training so far. Returns its line of the history. Raises
        UserError for a metric that is not finite.
        """
        for key, value in values.items():
            if not math.isfinite(value):
                self._fail(f"{key} is {value}")
        loss = values.get(self.criterion)
        if loss is not None and loss < self.best["loss"] + self.tolerance:
            lowest, weights = min(loss, self.best["loss"]), copy.deepcopy(self.last_weights())
            self.best = {"loss": lowest, "epoch": self.epoch, "weights": weights}
        if self.schedule and not self.per_step:
            self.schedule.step(*([loss] if self.config.schedule == "plateau" else []))
        patience = self.config.patience
        self.stopped = bool(patience) and self.epoch - self.best["epoch"] >= patience
        self.seconds = seconds
        return {"epoch": self.epoch, **values, "seconds": round(seconds, 3)}

    def finish(self) -> dict:
        """Give the model its best weights; return the facts of the training."""
        weights = self.best["weights"]
        self.model.load_state_dict(weights or self.last_weights())
        best_epoch = self.best["epoch"] if weights else self.epoch
        return {"epochs": self.epoch, "best_epoch": best_epoch, "train_seconds": round(self.seconds, 3)}

    def last_weights(self) -> dict:
        return (self.averaged or self.model).state_dict()

    def state(self) -> dict:
        """Return what a checkpoint holds, with the random states of every rank that shares this training."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "best": self.best,
            "counters": [self.epoch, self.step, self.seconds, self.stopped],
            "rng": distributed.gather_objects(random) if self.shared else [random],
        }

    def restore(self, run: RunFolder) -> None:
        """Resume from the checkpoint of the run, if there is one; drop history lines written after it."""
        state = run.load_checkpoint()
        if state is None:
            run.write_history([])
            return
        try:
            self._take(state)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            path = run.path("last.pt")
            raise CheckpointError(f"{path}: the checkpoint of another model: {error}") from error
        run.write_history([line for line in run.history() if line.get("epoch", 0) <= self.epoch])

    def _take(self, state: dict) -> None:
        """Take over what `state` returned; an error for what this training can't have left."""
        self.epoch, self.step, self.seconds, self.stopped = counters = state["counters"]
        best, (loss, epoch, weights) = state["best"], (state["best"][key] for key in self.best)
        whole = all(type(n) is type(o) for n, o in zip((*counters, epoch, loss), LIKE, strict=True))
        if not (whole and 0 <= epoch <= self.epoch <= self.config.epochs and self.step >= 0 and loss == loss):
            raise ValueError(f"impossible counters {counters}, best loss {loss} of epoch {epoch}")
        self.best = best
        for name, module in (("model", self.model), ("averaged", self.averaged)):
            if module:
                optim.check_tensors(state[name], module.state_dict())
                module.load_state_dict(state[name])
        if weights is not None:
            optim.check_tensors(weights, self.last_weights())
        optim.load_moments(self.optimizer, state["optimizer"], self.config)
        optim.set_schedule(self.schedule, state["schedule"], self.step if self.per_step else self.epoch)
        random = state["rng"]
        own = random[distributed.rank() if self.shared and len(random) == distributed.world() else 0]
        torch.set_rng_state(own["cpu"])
        if "cuda" in own and self.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda"], self.device)


def _line(values, epochs):
    metrics = {key: value for key, value in values.items() if key not in ("epoch", "lr", "seconds")}
    words = [f"{key.removeprefix('train_')} {value:.4f}" for key, value in metrics.items()]
    return "  ".join([f"epoch {values['epoch']}/{epochs}", *words, f"{values['seconds']:.0f} s"])
