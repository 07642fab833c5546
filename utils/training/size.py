"""What a recipe becomes where training images are few: steps of the optimiser count, not epochs."""

import shlex
from argparse import Namespace
from collections.abc import Collection
from typing import Any

import torch

# A recipe is for LARGE training images or more. With fewer, a training makes about STEPS steps. Chosen on
# validation images: of several triples of digits, with 9 and with 32 training images of each.
LARGE, STEPS, BATCH, AUGMENT = 10_000, 1000, 32, "elastic"


def for_size(values: dict, labels: torch.Tensor, given: Collection[str]) -> dict[str, Any]:
    """Return what changes in a script's values for training images with these labels; print it in a line.

    given: names of what the user chose, which stays. Who chooses the epochs chooses the length: then, and in
    a dry run, nothing changes. "passes" is how often an epoch goes through the images.
    """
    images, epochs = len(labels), values["epochs"]
    if images >= LARGE or "epochs" in given or values["dry_run"]:
        return {}
    smallest = int(labels.bincount()[labels.unique()].min())
    # Another seed may leave one image less of a class for the training.
    few: dict[str, Any] = {"batch_size": min(BATCH, images), "batch_images": max(2, smallest - 1)}
    few = {key: min(most, values[key]) for key, most in few.items() if key in values}
    if values.get("augment", "none") != "none":
        few |= {"augment": AUGMENT, "plain_epochs": 0}
    if values.get("steps") == 0:
        few["steps"] = STEPS // epochs
    few = {key: value for key, value in few.items() if key not in given}
    if batch := few.get("batch_size", values.get("batch_size")):
        few["passes"] = max(1, round(STEPS * batch / (epochs * images)))
    if not values["quiet"]:
        chosen = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in few.items())
        print(f"{images:,} training images need about {STEPS:,} steps: {epochs} epochs, {chosen}", flush=True)
    return few


def fit_to_size(args: Namespace, command: str, labels: torch.Tensor) -> None:
    """Adapt arguments in place to training images with these labels, see `for_size`.

    command: see `cli.command_line`; it holds the flags that the user gave.
    """
    given = {word[2:].replace("-", "_") for word in shlex.split(command) if word.startswith("--")}
    vars(args).update(for_size(vars(args), labels, given))
