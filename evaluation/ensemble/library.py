"""A library of finished runs: their saved predictions, checked to be of the same images."""

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from evaluation.cnn import fit_temperature, scale, surprise
from utils.errors import UserError
from utils.runs.folder import RunFolder

VALIDATION, TEST = ("val_probabilities", "val_labels", "val_indices"), ("test_probabilities", "test_labels")
ARRAYS = (*VALIDATION, *TEST)


class Member(NamedTuple):
    """One member: its folders (one per fold), short name, record of metrics.json, and arrays named ARRAYS."""

    folders: list[Path]
    name: str
    record: dict
    arrays: dict[str, np.ndarray]


class Library(NamedTuple):
    """M members evaluated on the same N images: probabilities (M, N, classes) float32 and labels (N,).

    Members that were trained on all training images have no validation images: N is 0.
    """

    members: list[Member]
    val_p: np.ndarray
    val_y: np.ndarray
    val_indices: np.ndarray
    test_p: np.ndarray
    test_y: np.ndarray

    def choose(self, indices: np.ndarray) -> "Library":
        """Return the library of the members at these indices."""
        members = [self.members[i] for i in indices]
        return self._replace(members=members, val_p=self.val_p[indices], test_p=self.test_p[indices])

    def calibrated(self) -> np.ndarray:
        """Return the validation probabilities, those of every member scaled by its own temperature.

        Members trained with smoothed labels are underconfident, and their average even more so. A selection
        by loss would otherwise choose a single member only because it is the most confident.
        """
        if not self.validated:
            return self.val_p
        return np.stack([scale(p, fit_temperature(-surprise(p), self.val_y)) for p in self.val_p])

    @property
    def validated(self) -> bool:
        """Whether there are validation images to choose on."""
        return len(self.val_y) > 0

    @property
    def names(self) -> list[str]:
        return [member.name for member in self.members]

    def mean(self, key: str) -> float:
        """Return the mean of a number in the members' records."""
        return fmean(member.record[key] for member in self.members)


def read_library(folders: Sequence[Path], dataset: str) -> Library:
    """Read all members in the folders of these runs; UserError when their images differ."""
    members = [member for folder in folders for member in read_members(Path(folder), dataset)]
    places = [folder.resolve() for member in members for folder in member.folders]
    if twice := [place for place in places if places.count(place) > 1]:
        raise UserError(f"{twice[0]}: named twice: a member counts once")
    first = members[0]
    for member in members[1:]:
        for name in ("val_indices", "val_labels", "test_labels"):
            if not np.array_equal(member.arrays[name], first.arrays[name]):
                raise UserError(
                    f"{member.folders[0]} and {first.folders[0]} differ in {name}: members must share one "
                    "validation split; train them with ensemble.py, or with train_cnn.py and one --seed"
                )
    p = {}
    for name in ("val_probabilities", "test_probabilities"):
        shapes = {member.arrays[name].shape for member in members}
        if len(shapes) > 1:
            raise UserError(f"members with {name} of unequal shapes: {', '.join(map(str, sorted(shapes)))}")
        p[name] = np.stack([member.arrays[name] for member in members])
    a = first.arrays
    val = p["val_probabilities"], a["val_labels"], a["val_indices"]
    return Library(members, *val, p["test_probabilities"], a["test_labels"])


def read_members(folder: Path, dataset: str) -> list[Member]:
    """Read the members in the folder of a run: its parts, or the run itself.

    The folds of one seed are one member, with out-of-fold validation predictions.
    """
    members = [read_part(path, dataset) for path in part_folders(folder)]
    grouped: dict[object, list[Member]] = {}
    for member in members:
        key = member.record["seed"] if "fold" in member.record else member.folders[0]
        grouped.setdefault(key, []).append(member)
    return [out_of_fold(folds) if "fold" in folds[0].record else folds[0] for folds in grouped.values()]


def part_folders(folder: Path) -> list[Path]:
    """Return the trained parts of a run by number: member-*, seed-* or fold-*; without any, the run."""
    for pattern in ("member-*/", "seed-*/", "fold-*/"):
        if parts := list(folder.glob(pattern)):
            return sorted(parts, key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])
    return [folder]


def read_part(folder: Path, dataset: str) -> Member:
    run = RunFolder(folder)
    if not run.finished:
        raise UserError(
            f"{folder}: no finished run with its predictions.npz, which is not committed: train it here first"
        )
    try:
        arrays, record = run.predictions(), run.records()[0]
        config = run.read_json("config.json")
        arguments, run_name = config["arguments"], config["name"]
    except Exception as error:  # NumPy, zipfile and json raise half a dozen types for a damaged file
        raise UserError(f"{folder}: damaged ({error}); train it again with --overwrite") from error
    if missing := [name for name in expected_arrays(arrays) if name not in arrays]:
        raise UserError(
            f"{folder}: predictions.npz lacks {', '.join(missing)}; train it again with --overwrite"
        )
    check_predictions(arrays, folder)
    if lacking := [
        key for key in ("seconds", "train_images") if not isinstance(record.get(key), int | float)
    ]:
        raise UserError(f"{folder}: metrics.json lacks {', '.join(lacking)}; train it again with --overwrite")
    if (other := arguments["dataset"]) != dataset:
        raise UserError(f"{folder}: a run on {other}, not on {dataset}: say --dataset {other}")
    model = record.get("model") or arguments.get("model") or run_name
    arrays = {**no_validation(arrays["test_probabilities"]), **arrays}
    return Member([folder], f"{model} {record.get('seed', '')}".strip(), record, arrays)


def expected_arrays(arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Return the names that predictions must have: all, or TEST of a training on all images."""
    return TEST if arrays.keys().isdisjoint(VALIDATION) else ARRAYS


def no_validation(test_p: np.ndarray) -> dict[str, np.ndarray]:
    """Return arrays named VALIDATION of no images, with the classes of test_p (N, classes)."""
    return dict(zip(VALIDATION, (test_p[:0], np.empty(0, np.int64), np.empty(0, np.int64)), strict=True))


def check_predictions(arrays: dict[str, np.ndarray], where: Path | str) -> None:
    """Raise UserError unless predictions are valid, and as many as their labels and indices."""

    def fault(name, expected):
        found = arrays[name]
        return UserError(
            f"{where}: predictions.npz is damaged or not of a classifier: {name} must be {expected}, "
            f"found {found.dtype} of shape {found.shape}; train the run again with --overwrite"
        )

    validated = expected_arrays(arrays) == ARRAYS
    for part in ("val", "test") if validated else ("test",):
        p, y = arrays[f"{part}_probabilities"], arrays[f"{part}_labels"]
        if p.dtype.kind != "f" or p.ndim != 2 or 0 in p.shape:
            raise fault(f"{part}_probabilities", "(N, classes) floats")
        if not (np.isfinite(p).all() and (p >= 0).all() and (np.abs(p.sum(1) - 1) < 1e-3).all()):
            raise fault(f"{part}_probabilities", "finite, not negative, and of sum 1 for every image")
        if y.dtype.kind not in "iu" or y.shape != p.shape[:1] or y.min() < 0 or y.max() >= p.shape[1]:
            raise fault(f"{part}_labels", f"{len(p)} whole numbers from 0 to {p.shape[1] - 1}")
    if validated:
        indices, labels = arrays["val_indices"], arrays["val_labels"]
        different = len(np.unique(indices)) == indices.size
        if indices.dtype.kind not in "iu" or indices.shape != labels.shape or not different:
            raise fault("val_indices", "different whole numbers, one for each of val_labels")


def out_of_fold(folds: list[Member]) -> Member:
    """Join K folds into one member.

    Each image's validation prediction comes from the fold that did not train on it; test predictions are
    averaged.
    """
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


def member_history(pool: Library) -> list[dict]:
    """Return the members' history lines, each with its member's seed, model and fold."""
    lines = []
    for member in pool.members:
        for folder in member.folders:
            run = RunFolder(folder)
            record = run.records()[0]
            whose = {key: record[key] for key in ("seed", "model", "fold") if key in record}
            lines += [{**whose, **line} for line in run.history()]
    return lines
