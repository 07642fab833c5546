"""A library of finished runs: their saved predictions, read and checked to belong together."""

import re
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from utils.errors import Fault
from utils.evaluate import fit_temperature, scale
from utils.run import Run

ARRAYS = ("val_probabilities", "val_labels", "val_indices", "test_probabilities", "test_labels")


class Member(NamedTuple):
    """One member: its folders (one a fold), short name, record in metrics.json, predictions by ARRAYS."""

    folders: list
    name: str
    record: dict
    arrays: dict


class Library(NamedTuple):
    """Members with the same images: probabilities (M, N, classes) float32 and labels (N,)."""

    members: list
    val_p: np.ndarray
    val_y: np.ndarray
    val_indices: np.ndarray
    test_p: np.ndarray
    test_y: np.ndarray

    def choose(self, indices):
        """The library of the members at these indices."""
        members = [self.members[i] for i in indices]
        return self._replace(members=members, val_p=self.val_p[indices], test_p=self.test_p[indices])

    def calibrated(self):
        """This library with every member scaled by its temperature, fitted on the validation images.

        What members learned with smoothed labels leaves them underconfident, and their average more so. A
        selection by loss would then take a single member, only because it is the surest.
        """
        temperatures = [fit_temperature(p, self.val_y) for p in self.val_p]
        val_p, test_p = (
            np.stack([scale(p, temperature) for p, temperature in zip(members, temperatures, strict=True)])
            for members in (self.val_p, self.test_p)
        )
        return self._replace(val_p=val_p, test_p=test_p)

    @property
    def names(self):
        return [member.name for member in self.members]

    def mean(self, key):
        """Of a number in the members' records."""
        return fmean(member.record[key] for member in self.members)


def read_library(folders, dataset):
    """The Library of all members in these runs' folders; Fault when they don't belong together."""
    members = [member for folder in folders for member in read_members(Path(folder), dataset)]
    first = members[0]
    for member in members[1:]:
        for name in ("val_indices", "val_labels", "test_labels"):
            if not np.array_equal(member.arrays[name], first.arrays[name]):
                raise Fault(
                    f"{member.folders[0]} and {first.folders[0]} differ in {name}: members share one split; "
                    "ensemble.py trains such members, train_cnn.py only those of one --seed"
                )
    p = {}
    for name in ("val_probabilities", "test_probabilities"):
        shapes = {member.arrays[name].shape for member in members}
        if len(shapes) > 1:
            raise Fault(f"members with {name} of unequal shapes: {', '.join(map(str, sorted(shapes)))}")
        p[name] = np.stack([member.arrays[name] for member in members])
    a = first.arrays
    val = p["val_probabilities"], a["val_labels"], a["val_indices"]
    return Library(members, *val, p["test_probabilities"], a["test_labels"])


def read_members(folder, dataset):
    """The members in a run's folder: its trained parts, or else the run itself.

    The folds of one seed are one member, with out-of-fold validation predictions.
    """
    found = [read_part(path, dataset) for path in part_folders(folder)]
    grouped = {}
    for member in found:
        key = member.record["seed"] if "fold" in member.record else member.folders[0]
        grouped.setdefault(key, []).append(member)
    return [out_of_fold(folds) if "fold" in folds[0].record else folds[0] for folds in grouped.values()]


def part_folders(folder):
    """What was trained within a run, in the order of its numbers: member-*, seed-*, fold-*, or the run."""
    for pattern in ("member-*/", "seed-*/", "fold-*/"):
        if parts := list(folder.glob(pattern)):
            return sorted(parts, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])
    return [folder]


def read_part(folder, dataset):
    run = Run(folder)
    if not run.finished:
        raise Fault(
            f"{folder}: no finished run with its predictions.npz, which is not committed: train it here first"
        )
    try:
        arrays, record = run.predictions(), run.read_json("metrics.json")["runs"][0]
        config = run.read_json("config.json")
        arguments, run_name = config["arguments"], config["name"]
    except Exception as error:  # NumPy, zipfile and json raise half a dozen types for a damaged file
        raise Fault(f"{folder}: damaged ({error}); train it again with --overwrite") from error
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise Fault(
            f"{folder}: predictions.npz lacks {', '.join(missing)}: was it trained with a validation split?"
        )
    if (other := arguments["dataset"]) != dataset:
        raise Fault(f"{folder}: a run on {other}, not on {dataset}: say --dataset {other}")
    model = record.get("model") or arguments.get("model") or run_name
    return Member([folder], f"{model} {record.get('seed', '')}".strip(), record, arrays)


def out_of_fold(folds):
    """One member of K folds: each image's validation prediction by the fold that did not see it, test
    predictions averaged."""
    arrays = {name: [fold.arrays[name] for fold in folds] for name in ARRAYS}
    order = np.argsort(np.concatenate(arrays["val_indices"]), kind="stable")
    joined = {name: np.concatenate(arrays[name])[order] for name in ARRAYS if name.startswith("val")}
    joined |= {
        "test_probabilities": np.mean(arrays["test_probabilities"], 0),
        "test_labels": arrays["test_labels"][0],
    }
    seconds = sum(fold.record["seconds"] for fold in folds)
    images = sum(fold.record["train_images"] for fold in folds) / len(folds)
    record = {**folds[0].record, "seconds": seconds, "train_images": images}
    folders = [folder for fold in folds for folder in fold.folders]
    return folds[0]._replace(folders=folders, record=record, arrays=joined)
