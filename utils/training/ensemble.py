"""Which members an ensemble trains, by which settings and on which images."""

from argparse import Namespace

import torch

from data import bootstrap, folds, split
from utils.training.cnn import ClassifierConfig
from utils.training.config import RECIPES

MODES = ("voting", "bagging", "snapshot", "fusion")
# The modes whose members are trained together or build on each other, by one process.
TOGETHER = ("snapshot", "fusion")
# A cycle of a snapshot run ends at a learning rate of zero; a shorter one would learn too little.
SHORTEST_CYCLE = 2
Indices = tuple[torch.Tensor, torch.Tensor]  # of training and validation images


def training_units(args: Namespace) -> list[list[dict]]:
    """Return lists of jobs, each for one process: single members, or libraries of the modes TOGETHER.

    Every member has its own seed, counted from --seed; with several models they take turns in a library.
    """
    models, units = args.models, []
    for first in range(args.seed, args.seed + args.runs * args.members, args.members):
        for fold in range(args.member_folds or 1):
            library = [{"seed": first + i, "model": models[i % len(models)]} for i in range(args.members)]
            if args.member_folds:
                library = [{**job, "fold": fold} for job in library]
            units += [library] if args.mode in TOGETHER else [[job] for job in library]
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
    given = {key: value for key, value in vars(args).items() if value is not None}
    return ClassifierConfig.from_args(Namespace(**{**recipe, **given, "model": model}))


def choose_images(args: Namespace, labels: torch.Tensor, job: dict) -> Indices:
    """Return the images of one member; all members share the validation images."""
    if args.member_folds:
        train, val = folds(labels, args.member_folds, args.split_seed)[job["fold"]]
    else:
        train, val = split(labels, args.val_fraction, args.split_seed)
    return (bootstrap(train, job["seed"]) if args.mode == "bagging" else train), val
