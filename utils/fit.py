"""The one epoch loop: every script passes it a `step(*batch) -> loss, metrics`."""

import copy
import math
import sys
import time

import torch
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler
from tqdm import tqdm

from models import CheckpointError
from utils.errors import Fault
from utils.lars import LARS
from utils.track import Tracker

WARM_UP = {"cosine": 0.0, "warm-up-cosine": 0.1, "one-cycle": 0.25}


def fit(model, step, batches, args, run, validate=None, criterion="val_loss", tolerance=0.0):
    """Train `model` in place and leave it with its best weights; returns the facts of the training.

    step(*batch): gives (loss, {name: scalar tensor}), means over the batch; runs under autocast.
    batches: has `epoch(number)` and a length; batch[0] has the batch's size. args: epochs, optimizer, lr,
    weight_decay, schedule, ema, clip_norm, patience, precision, compile, quiet, track, dry_run. validate:
    None or a function of the model to evaluate that gives a dict of floats, maybe with the criterion.

    Best weights are those of the epoch with the lowest criterion, or the last where there never is one; with
    a tolerance those of the last epoch that was less than it above the lowest so far. With `--ema` the
    averaged weights are validated and kept. The run's folder holds a checkpoint after every epoch, and a
    checkpoint that is there already is gone on from: on the CPU bit for bit.

    Raises Fault at the first step with a non-finite loss, CheckpointError for another model's checkpoint.
    """
    if validate is None and needs_validation(args):
        raise ValueError("early stopping and the plateau schedule need `validate`")
    steps = 1 if args.dry_run else len(batches)
    training = Training(model, args, steps, criterion, tolerance)
    training.restore(run)
    if args.compile:
        model.compile()
    tracker = Tracker(args.track, run)
    show_bar = not args.quiet and sys.stderr.isatty()
    first, total = training.epoch * steps, args.epochs * steps
    start, validated = time.perf_counter() - training.seconds, ""
    with tqdm(initial=first, total=total, mininterval=0.5, disable=not show_bar) as bar:
        while training.epoch < args.epochs and not training.stopped:
            training.epoch += 1
            bar.set_description(f"epoch {training.epoch}/{args.epochs}{validated}")
            values = training.train_epoch(step, batches, steps, bar)
            if validate:
                found = validate(training.averaged or model)
                values.update(found)
                validated = "".join(f", {key} {value:.4f}" for key, value in found.items()) or validated
            training.end_epoch(values)
            training.seconds = time.perf_counter() - start
            values = {"epoch": training.epoch, **values, "seconds": round(training.seconds, 3)}
            run.log(**values)
            run.save_checkpoint(training.state())
            tracker.log(values, training.epoch)
            if not args.quiet and not show_bar:
                print(_line(values, args.epochs), flush=True)
    tracker.close()
    best = training.best if training.best["weights"] else {"epoch": training.epoch}
    model.load_state_dict(best.get("weights") or training.last_weights())
    return {
        "epochs": training.epoch,
        "best_epoch": best["epoch"],
        "train_seconds": round(training.seconds, 3),
    }


def classification_step(model, label_smoothing):
    """The step for `fit`: cross-entropy on logits, and the batch's accuracy.

    labels: (B,) classes, or (B, classes) probabilities.
    """

    def step(images, labels):
        logits = model(images).float()
        loss = cross_entropy(logits, labels, label_smoothing=label_smoothing)
        classes = labels if labels.ndim == 1 else labels.argmax(1)
        return loss, {"accuracy": (logits.argmax(1) == classes).float().mean()}

    return step


def needs_validation(args):
    return bool(args.patience) or args.schedule == "plateau"


class Training:
    """Everything that a checkpoint holds: model, optimiser, schedule, average, best weights, counters."""

    def __init__(self, model, args, steps, criterion="val_loss", tolerance=0.0):
        self.model, self.args, self.criterion, self.tolerance = model, args, criterion, tolerance
        self.device = next(model.parameters()).device
        self.optimizer = make_optimizer(model, args)
        self.schedule, self.per_step = make_schedule(self.optimizer, args, steps)
        self.averaged = copy.deepcopy(model).eval() if args.ema else None
        self.epoch, self.step, self.seconds, self.stopped = 0, 0, 0.0, False
        self.best = {"loss": math.inf, "epoch": 0, "weights": None}

    def train_epoch(self, step, batches, steps, bar):
        """One pass over the batches; returns the means of loss and metrics, one device synchronisation."""
        model, device = self.model.train(), self.device
        parameters = [p for p in model.parameters() if p.requires_grad]
        rows, sizes, rate = [], [], self.optimizer.param_groups[0]["lr"]
        bf16 = self.args.precision == "bf16"
        for batch, _ in zip(batches.epoch(self.epoch - 1), range(steps), strict=False):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss, metrics = step(*batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if self.args.clip_norm:
                torch.nn.utils.clip_grad_norm_(parameters, self.args.clip_norm)
            rate = self.optimizer.param_groups[0]["lr"]
            self.optimizer.step()
            if self.per_step:
                self.schedule.step()
            self.step += 1
            if self.averaged:
                update_average(self.averaged, model, self.args.ema, self.step)
            rows.append(torch.stack([loss.detach().float(), *(v.detach() for v in metrics.values())]))
            sizes.append(len(batch[0]))
            if bar.update():  # true when the bar was redrawn, a few times a second
                shown = dict(zip(["loss", *metrics], rows[-1].tolist(), strict=True))
                bar.set_postfix({k: f"{v:.4f}" for k, v in shown.items()}, refresh=False)
        table = torch.stack(rows).cpu().double()
        self._check_finite(table[:, 0])
        weights = torch.tensor(sizes, dtype=torch.float64)
        means = (weights @ table / weights.sum()).tolist()
        names = ["train_loss", *(f"train_{name}" for name in metrics)]
        return {**dict(zip(names, means, strict=True)), "lr": rate}

    def _check_finite(self, losses):
        bad = (~losses.isfinite()).nonzero().flatten().tolist()
        if bad:
            at = self.step - len(losses) + bad[0] + 1
            raise Fault(
                f"the loss is {losses[bad[0]]} at step {at} (epoch {self.epoch}); the checkpoint of "
                f"epoch {self.epoch - 1} is kept; try a lower --lr or --precision fp32"
            )

    def end_epoch(self, values):
        """Choose the best weights, move the epoch-wise schedule, decide on an early stop."""
        loss = values.get(self.criterion)
        if loss is not None and loss < self.best["loss"] + self.tolerance:
            lowest, weights = min(loss, self.best["loss"]), copy.deepcopy(self.last_weights())
            self.best = {"loss": lowest, "epoch": self.epoch, "weights": weights}
        if self.schedule and not self.per_step:
            self.schedule.step(*([loss] if self.args.schedule == "plateau" else []))
        patience = self.args.patience
        self.stopped = bool(patience) and self.epoch - self.best["epoch"] >= patience

    def last_weights(self):
        return (self.averaged or self.model).state_dict()

    def state(self):
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "best": self.best,
            "counters": [self.epoch, self.step, self.seconds, self.stopped],
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def restore(self, run):
        """Go on from the run's checkpoint, if it has one; history lines after it are dropped."""
        state = run.load_checkpoint()
        if state is None:
            run.write_history([])
            return
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.schedule:
                self.schedule.load_state_dict(state["schedule"])
            if self.averaged:
                self.averaged.load_state_dict(state["averaged"])
            self.best = state["best"]
            self.epoch, self.step, self.seconds, self.stopped = state["counters"]
            torch.set_rng_state(state["rng"])
            if state["cuda_rng"] is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda_rng"], self.device)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{run.path('last.pt')}: the checkpoint of another model: {error}"
            ) from error
        run.write_history([line for line in run.history() if line["epoch"] <= self.epoch])


def make_optimizer(model, args):
    """adam, adamw, lars or sgd (Nesterov momentum 0.9); no weight decay on biases and normalisation.

    A parameter with an attribute `rate` learns at that share of the rate.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = []
    for rate in sorted({getattr(p, "rate", 1.0) for p in trained}, reverse=True):
        mine = [p for p in trained if getattr(p, "rate", 1.0) == rate]
        weights, others = [p for p in mine if p.ndim > 1], [p for p in mine if p.ndim <= 1]
        groups.append({"params": weights, "weight_decay": args.weight_decay, "lr": rate * args.lr})
        groups.append({"params": others, "weight_decay": 0.0, "lr": rate * args.lr})
    fused = trained[0].device.type in ("cpu", "cuda")
    if args.optimizer == "sgd":
        return torch.optim.SGD(groups, args.lr, momentum=0.9, nesterov=True, fused=fused)
    if args.optimizer == "lars":
        return LARS(groups, args.lr)
    cls = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[args.optimizer]
    return cls(groups, args.lr, fused=fused)


def make_schedule(optimizer, args, steps_per_epoch):
    """The schedule and whether it moves per step; see `anneal` for cosine and one-cycle.

    step: times 0.9 every five epochs. plateau: times 0.3 after two epochs without a better validation
    loss.
    """
    if args.schedule == "step":
        return lr_scheduler.StepLR(optimizer, 5, 0.9), False
    if args.schedule == "plateau":
        return lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=2), False
    if args.schedule in WARM_UP:
        total, warm_up = args.epochs * steps_per_epoch, WARM_UP[args.schedule]
        return lr_scheduler.LambdaLR(optimizer, lambda step: anneal(step, total, warm_up)), True
    return None, False


def anneal(step, total, warm_up):
    """The share of the peak rate at `step` of `total`: up from 4 % for a share `warm_up` of the steps, then
    along a cosine, which ends at zero with the last step. With warm_up 0 that is cosine annealing
    (Loshchilov and Hutter, 2017), with 0.25 the one-cycle policy (Smith and Topin, 2018), and between them
    the warm-up of SimCLR.
    """
    done = min(step / max(1, total - 1), 1.0)
    if done < warm_up:
        return 0.04 + 0.96 * done / warm_up
    return 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


@torch.no_grad()
def update_average(averaged, model, decay, step):
    """Exponential moving average of weights and statistics, with a smaller decay during the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    pairs = list(zip(averaged.state_dict().values(), model.state_dict().values(), strict=True))
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in floats], [b for _, b in floats], 1 - decay)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)


def _line(values, epochs):
    shown = [f"epoch {values['epoch']}/{epochs}"]
    for key, value in values.items():
        if key in ("epoch", "seconds"):
            continue
        shown.append(f"{key} {value:.2e}" if key == "lr" else f"{key} {value:.4f}")
    return "  ".join([*shown, f"{values['seconds']:.0f} s"])
