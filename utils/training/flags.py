"""The flags of trainings, as parent parsers; their defaults are in the recipes."""

import argparse
from collections.abc import Iterable

from data import POLICIES, VIEW_PARTS
from models import ENCODERS
from models.contrastive import HEADS
from utils.arguments import LARGEST_SEED, Number, list_of
from utils.training.optim import OPTIMIZERS, SCHEDULES

EPOCHS = Number(int, 1, 100_000)
SHARE = Number(float, 0, 0.9999)
VAL_FRACTION = 0.1  # of the training images, where no flag names another


def split_flag() -> argparse.ArgumentParser:
    """Return the flag of every script that validates, for `data.writers_for`."""
    parser = argparse.ArgumentParser(add_help=False)
    how = "choice of the validation images: any, or all of writers who are not in training (default: random)"
    parser.add_argument_group("validation").add_argument("--split", choices=("random", "writers"), help=how)
    return parser


def training_flags(least_batch: int | None = 2) -> argparse.ArgumentParser:
    """Return the flags of every script that trains networks.

    least_batch: of --batch-size, None for no such flag. Batch normalisation can't train on a single image.
    """
    parser = argparse.ArgumentParser(add_help=False, parents=[split_flag()])
    add = parser.add_argument_group("training").add_argument
    rate, recipe = Number(float, 1e-9, 100), " (default: the recipe's)"
    add("--runs", type=Number(int, 1, 1000), default=1, help="trainings, with seeds --seed, --seed + 1, ...")
    add("--epochs", type=EPOCHS, help=f"passes over the training data{recipe}")
    if least_batch:
        add("--batch-size", type=Number(int, least_batch, 65536), help=f"batch size{recipe}")
    add("--lr", type=rate, help=f"highest learning rate{recipe}")
    add("--compile", action="store_true", help="compile the network with torch.compile")
    return parser


def optimizer_flags(validated: bool = True) -> argparse.ArgumentParser:
    """Return the flags of the optimisation; "plateau" is a choice where there is a validation loss."""
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument_group("optimisation (defaults: the recipe's, see below)").add_argument
    add("--optimizer", choices=OPTIMIZERS, help="optimiser")
    add("--weight-decay", type=Number(float, 0, 100), help="weight decay; biases and normalisation get none")
    schedules = [name for name in SCHEDULES if validated or name != "plateau"]
    add("--schedule", choices=schedules, help="how the learning rate changes")
    add("--ema", type=SHARE, help="decay of the moving average of the weights; 0 for none")
    add("--clip-norm", type=Number(float, 0, 1_000_000), help="largest norm of the gradient; 0 for no limit")
    return parser


def recipe_flags() -> argparse.ArgumentParser:
    """Return the flags that override the recipe of a supervised classifier, `optimizer_flags` included."""
    parser = argparse.ArgumentParser(add_help=False, parents=[optimizer_flags()])
    add = parser.add_argument_group("recipe (defaults: see below)").add_argument
    epochs, shifts = Number(int, 0, EPOCHS.high), Number(int, 0, 4)
    add("--augment", choices=POLICIES, help="random changes of the training images")
    add("--plain-epochs", type=epochs, help="number of last epochs without --augment")
    add("--label-smoothing", type=SHARE, help="share of the target to spread over all classes")
    add("--max-steps", type=epochs, help="steps per epoch at most; 0 for all")
    add("--patience", type=epochs, help="stop after N epochs without a lower validation loss; 0 for never")
    add("--shifts", type=shifts, default=0, help="average predictions over all shifts by up to N pixels")
    return parser


def view_flags(encoders: Iterable[str] = ENCODERS) -> argparse.ArgumentParser:
    """Return the flags of an encoder's training on augmented images."""
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument_group("contrastive learning (defaults: the recipe's, see below)").add_argument
    parts = f"random changes that make a view, joined by commas: {', '.join(VIEW_PARTS)}"
    add("--model", choices=encoders, help="network to train")
    add("--temperature", type=Number(float, 0.001, 100), help="temperature of the loss")
    add("--views", type=list_of(known=VIEW_PARTS), metavar="A,B,...", help=parts)
    add("--strength", type=Number(float, 0, 10), help="factor on the ranges of all --views")
    add("--knn-every", type=EPOCHS, default=5, help="check by k-NN on validation images every N epochs")
    return parser


def contrastive_flags() -> argparse.ArgumentParser:
    """Return the flags that SimCLR, SupCon and MoCo share: `optimizer_flags`, `view_flags` and their own."""
    parser = argparse.ArgumentParser(add_help=False, parents=[optimizer_flags(validated=False), view_flags()])
    add = parser.add_argument_group("encoder (defaults: the recipe's)").add_argument
    add("--head", choices=HEADS, help="projection head")
    seed = "seed of the choice of validation images, which members of an ensemble share (default: --seed's)"
    add("--split-seed", type=Number(int, 0, LARGEST_SEED), help=seed)
    return parser
