"""Training the members of an ensemble: one by one, as cycles of one run, or together as one network."""

from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from data import Data, ImageSet, SideBySide, bootstrap, folds, split
from models import Fusion, create, load_model, stack, unstack
from utils.runs.folder import RunFolder
from utils.runs.repeat import train_part
from utils.training.cnn import (
    ClassifierConfig,
    classifier_batches,
    predict_and_score,
    save_classifier,
    validate_classifier,
)
from utils.training.config import RECIPES
from utils.training.fit import classification_step, fit

MODES = ("voting", "bagging", "snapshot", "fusion")
# A cycle of a snapshot run ends at a learning rate of zero; a shorter one would learn too little.
SHORTEST_CYCLE = 2
Images = tuple[torch.Tensor, torch.Tensor]  # training and validation indices


def training_units(args: Namespace) -> list[list[dict]]:
    """Return lists of jobs, each for one process: single members, or libraries that are trained together.

    Every member has its own seed, counted from --seed; with several models they take turns in a library.
    """
    models, together = args.models, args.stacked or args.mode in ("snapshot", "fusion")
    units = []
    for first in range(args.seed, args.seed + args.runs * args.members, args.members):
        for fold in range(args.member_folds or 1):
            library = [{"seed": first + i, "model": models[i % len(models)]} for i in range(args.members)]
            if args.member_folds:
                library = [{**job, "fold": fold} for job in library]
            units += [library] if together else [[job] for job in library]
    return units


def member_folder(job: dict) -> str:
    return f"member-{job['seed']}" + (f"-fold-{job['fold']}" if "fold" in job else "")


def member_config(args: Namespace, model: str) -> ClassifierConfig:
    """Return the settings of one member: its model's recipe where no flag overrides it.

    The cycles of a snapshot run share the epochs of one recipe; each follows a cosine (Huang et al., 2017).
    """
    recipe = RECIPES[model]
    if args.mode == "snapshot":
        cycle = max(SHORTEST_CYCLE, recipe["epochs"] // args.members)
        recipe = {**recipe, "epochs": cycle, "schedule": "cosine", "plain_epochs": 0, "ema": 0.0}
    return ClassifierConfig.from_args(args, model, recipe)


def choose_images(args: Namespace, labels: torch.Tensor, job: dict) -> Images:
    """Return (training, validation) indices of one member; all members share the validation images."""
    if args.member_folds:
        train, val = folds(labels, args.member_folds, args.split_seed)[job["fold"]]
    else:
        train, val = split(labels, args.val_fraction, args.split_seed)
    return (bootstrap(train, job["seed"]) if args.mode == "bagging" else train), val


def train_unit(
    train: Callable[..., dict], args: Namespace, data: Data, run: RunFolder, jobs: Sequence[dict]
) -> None:
    """Train the unfinished members of one unit.

    train(config, data, images, job, part, model): trains one member, see train_cnn.py.
    """
    todo = [(job, run.part(member_folder(job))) for job in jobs]
    if all(part.finished for _, part in todo):
        return
    if args.stacked or args.mode == "fusion":
        train_together(args, data, run, todo)
        return
    previous: RunFolder | None = None
    for job, part in todo:
        config, images = member_config(args, job["model"]), choose_images(args, data[0].labels, job)

        def train_member(job, part, config=config, images=images, previous=previous):
            # A cycle of a snapshot run starts from the weights of the last one.
            model = load_model(previous.path("best.pt")) if previous else None
            return train(config, data, images, job, part, model)

        train_part(train_member, job, part, run, args.quiet)
        previous = part


def train_together(args: Namespace, data: Data, run: RunFolder, todo: list[tuple[dict, RunFolder]]) -> None:
    """Train one library as one network; the part of its first member keeps checkpoint and history."""
    jobs, parts = [job for job, _ in todo], [part for _, part in todo]
    config, train_set = member_config(args, jobs[0]["model"]), data[0]
    images = [choose_images(args, train_set.labels, job) for job in jobs]
    val_idx, classes = images[0][1], len(train_set.classes)
    members = []
    for job in jobs:
        torch.manual_seed(job["seed"])
        members.append(create(config.model, classes))
    if not args.quiet:
        print(f"{len(todo)} members of {run.folder}, together", flush=True)
    prepare = fusion_training if args.mode == "fusion" else stacked_training
    network, step, batches, validate = prepare(config, train_set, jobs, images, members)
    facts = fit(network, step, batches, config.fit, parts[0], validate)
    if args.stacked:
        unstack(network, members)

    seconds = round(facts["train_seconds"] / len(todo), 3)
    for model, job, part, (train_idx, _) in zip(members, jobs, parts, images, strict=True):
        save_classifier(part, model, config.model, train_set, val_idx)
        record = {**job, **facts, "train_images": len(train_idx), "train_seconds": seconds}
        score = partial(predict_and_score, model, data, val_idx, record, shifts=config.shifts)
        train_part(lambda _, part, score=score: score(run=part), job, part, run, quiet=True)


def fusion_training(
    config: ClassifierConfig,
    train_set: ImageSet,
    jobs: Sequence[dict],
    images: Sequence[Images],
    members: Sequence[nn.Module],
) -> tuple:
    """Return (network, step, batches, validate) to train the mean of the members' logits.

    The batches are those of the first member's seed.
    """
    network = Fusion(members).to(config.device).to(memory_format=torch.channels_last)
    train_idx, val_idx = images[0]
    batches = classifier_batches(config, train_set, train_idx, jobs[0]["seed"])
    step = classification_step(network, config.label_smoothing)
    return network, step, batches, validate_classifier(train_set, val_idx, config.label_smoothing)


def stacked_training(
    config: ClassifierConfig,
    train_set: ImageSet,
    jobs: Sequence[dict],
    images: Sequence[Images],
    members: Sequence[nn.Module],
) -> tuple:
    """Return (network, step, batches, validate) to train the members side by side, each on its own batches.

    The best weights are those of the epoch with the lowest mean validation loss, the same epoch for all.
    """
    count, classes = len(members), len(train_set.classes)
    network = stack(members).to(config.device).to(memory_format=torch.channels_last)
    loaders = [
        classifier_batches(config, train_set, train_idx, job["seed"])
        for job, (train_idx, _) in zip(jobs, images, strict=True)
    ]
    for member in members:
        member.to(config.device).to(memory_format=torch.channels_last)

    def step(x, y):
        logits = network(x).float().view(-1, classes)
        mean = cross_entropy(logits, y.flatten(), label_smoothing=config.label_smoothing)
        # The value is the mean over the members, the gradient that of their sum, as if each were alone.
        loss = mean + (count - 1) * (mean - mean.detach())
        return loss, {"accuracy": (logits.argmax(1) == y.flatten()).float().mean()}

    validate_member = validate_classifier(train_set, images[0][1], config.label_smoothing)

    def validate(network, epoch):
        unstack(network, members)
        metrics = [validate_member(member, epoch) for member in members]
        return {key: float(np.mean([values[key] for values in metrics])) for key in metrics[0]}

    return network, step, SideBySide(loaders), validate
