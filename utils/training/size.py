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
    a dry run, only batches of classes that the images can't fill change. passes: over the images in an epoch.
    """
    images, epochs = len(labels), values["epochs"]
    few: dict[str, Any] = {}
    most = max(2, int(labels.bincount()[labels.unique()].min()) - 1)  # another seed may train on one less
    if values.get("batch_images", 0) > most:
        few["batch_images"] = most
    if short := images < LARGE and "epochs" not in given and not values["dry_run"]:
        if "batch_size" in values:
            few["batch_size"] = min(BATCH, images, values["batch_size"])
        if values.get("augment", "none") != "none":
            few |= {"augment": AUGMENT, "plain_epochs": 0}
        if values.get("max_steps"):
            few["max_steps"] = 0
        if values.get("steps") == 0:
            few["steps"] = STEPS // epochs
    few = {key: value for key, value in few.items() if key not in given}
    if short and (batch := few.get("batch_size", values.get("batch_size"))):
        few["passes"] = max(1, round(STEPS * batch / (epochs * images)))
    if few and not values["quiet"]:
        chosen = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in few.items())
        why = f" in each of {epochs} epochs, to make about {STEPS:,} steps" if short else ""
        print(f"few training images ({images:,}): {chosen}{why}", flush=True)
    return few


def with_recipe(args: Namespace, recipe: dict, model: str, labels: torch.Tensor) -> dict[str, Any]:
    """Return a script's values, with a model's recipe where no flag overrides it, see `for_size`."""
    given = {key: value for key, value in vars(args).items() if value is not None}
    values = {**recipe, **given, "model": model}
    return {**values, **for_size(values, labels, given)}


def fit_to_size(args: Namespace, command: str, labels: torch.Tensor) -> None:
    """Adapt arguments in place, see `for_size`; command: `cli.command_line`'s, with the user's flags."""
    given = {word[2:].replace("-", "_") for word in shlex.split(command) if word.startswith("--")}
    vars(args).update(for_size(vars(args), labels, given))
