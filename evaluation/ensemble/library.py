"""A library of finished runs: reads their saved predictions and scores every combination of its members."""

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from evaluation.cnn import calibration_error, fit_temperature, mcnemar, scale, score
from evaluation.ensemble import selection
from utils.errors import UserError
from utils.runs.folder import RunFolder
from utils.training.forward import cross_entropy, surprise

VALIDATION, TEST = ("val_probabilities", "val_labels", "val_indices"), ("test_probabilities", "test_labels")


class Member(NamedTuple):
    """One member: its folder, short name, record of metrics.json, and predictions.

    arrays: named as in VALIDATION and TEST; those of VALIDATION are empty after a training on all images.
    """

    folder: Path
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

    def sample(self, size: int, seed: int) -> "Library":
        """Return a random library of `size` members, in their order."""
        chosen = np.random.default_rng(seed).choice(len(self.members), size, replace=False)
        return self.choose(np.sort(chosen))

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


# --- Reading ---


def read_library(folders: Sequence[Path], dataset: str) -> Library:
    """Read all members in the folders of these runs; UserError when their images differ."""
    members = [read_part(part, dataset) for folder in folders for part in part_folders(Path(folder))]
    places = [member.folder.resolve() for member in members]
    if twice := [place for place in places if places.count(place) > 1]:
        raise UserError(f"{twice[0]}: named twice: a member counts once")
    first = members[0]
    for member in members[1:]:
        for name in ("val_indices", "val_labels", "test_labels"):
            if not np.array_equal(member.arrays[name], first.arrays[name]):
                raise UserError(
                    f"{member.folder} and {first.folder} differ in {name}: members must share one "
                    "validation split; train them with ensemble.py, or with train_cnn.py and one --seed"
                )
    if len(shapes := {member.arrays["test_probabilities"].shape for member in members}) > 1:
        raise UserError(f"members of unequal shapes: {', '.join(map(str, sorted(shapes)))}")
    val_p = np.stack([member.arrays["val_probabilities"] for member in members])
    test_p = np.stack([member.arrays["test_probabilities"] for member in members])
    val_y, val_indices, test_y = (first.arrays[name] for name in ("val_labels", "val_indices", "test_labels"))
    return Library(members, val_p, val_y, val_indices, test_p, test_y)


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
    arrays, record = run.predictions(*VALIDATION, *TEST), run.records()[0]
    config = run.read_json("config.json")
    check_predictions(arrays, folder)
    try:
        arguments, script = config["arguments"], config["script"].removeprefix("train_")
        other, model = arguments["dataset"], record.get("model") or arguments.get("model") or config["name"]
        method = arguments.get("method", script) if script in ("simclr", "moco") else ""
        name = f"{method} {model} {record.get('seed', '')}".strip()
        float(record["train_images"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: not the run of a classifier, or damaged: {error!r}") from error
    if other != dataset:
        raise UserError(f"{folder}: a run on {other}, not on {dataset}: say --dataset {other}")
    nothing = arrays["test_probabilities"][:0], np.empty(0, np.int64), np.empty(0, np.int64)
    return Member(folder, name, record, {**dict(zip(VALIDATION, nothing, strict=True)), **arrays})


def check_predictions(arrays: dict[str, np.ndarray], where: Path | str) -> None:
    """Raise UserError unless these are predictions of a classifier, as many as labels and indices."""
    missing = np.empty(0)
    for part in ("test",) if arrays.keys().isdisjoint(VALIDATION) else ("test", "val"):
        p, y, i = (arrays.get(f"{part}_{key}", missing) for key in ("probabilities", "labels", "indices"))
        whole = {y.dtype.kind, i.dtype.kind if part == "val" else "i"} <= {"i", "u"}
        classes = p.shape[1] if p.ndim == 2 else 0
        distributions = p.dtype in (np.float32, np.float64) and p.ndim == 2 and p.size and p.min() >= 0
        checks = {
            "probabilities": distributions and np.allclose(p.sum(1), 1, atol=1e-3),
            "labels": whole and y.shape == p.shape[:1] and np.isin(y, np.arange(classes)).all(),
            "indices": part == "test" or i.shape == y.shape and len(np.unique(i)) == len(y),
        }
        if faults := [f"{part}_{key}" for key, valid in checks.items() if not valid]:
            fault = f"predictions.npz is damaged or not of a classifier: no or impossible {faults[0]}"
            raise UserError(f"{where}: {fault}; train the run again with --overwrite")


def member_history(pool: Library) -> list[dict]:
    """Return the members' history lines, each with its member's seed and model."""
    lines = []
    for member in pool.members:
        job = {key: member.record[key] for key in ("seed", "model") if key in member.record}
        lines += [{**job, **line} for line in RunFolder(member.folder).history()]
    return lines


# --- Scoring ---


def evaluate_library(library: Library, headline: str, job: dict) -> tuple[dict, dict[str, np.ndarray]]:
    """Choose weights on the validation predictions, score the test predictions.

    Returns the record and the predictions of the headline, one of COMBINATIONS, whose metrics have the plain
    names; those of every combination start with its name. Without validation images only FIXED are scored.
    """
    weights = selection.choose(library.calibrated(), library.val_y, job["seed"])
    names = selection.COMBINATIONS if library.validated else selection.FIXED
    pair = library.val_p, library.test_p
    combined = {name: [selection.combine(name, p, weights) for p in pair] for name in names}
    val_y, test_y = library.val_y, library.test_y
    val_p, test_p = combined[headline]
    predictions = {"test_probabilities": test_p, "test_labels": test_y}
    record = {**job, "members": len(library.members), "library": library.names}
    record |= {"train_images": round(library.mean("train_images")), "val_images": len(val_y)}
    record |= score(test_p, test_y, "test")
    if library.validated:
        predictions |= {"val_probabilities": val_p, "val_labels": val_y, "val_indices": library.val_indices}
        record |= score(val_p, val_y, "val")
    plain = combined["average"][1].argmax(1) == test_y
    for name, (p, q) in combined.items():
        metrics = combination_metrics(library, p, q, plain)
        record |= {f"{name}_{key}": value for key, value in metrics.items()}
    record |= {f"{name}_weights": [round(float(w), 6) for w in values] for name, values in weights.items()}
    singles = [score(p, test_y, "mean_single_test") for p in library.test_p]
    for key in ("mean_single_test_accuracy", "mean_single_test_loss", "mean_single_test_ece"):
        record[key] = float(np.mean([single[key] for single in singles]))
    record["oracle_test_accuracy"] = float(selection.oracle(library.test_p, test_y).mean())
    record["test_agreement"] = selection.agreement(library.test_p)
    record["test_right_shares"] = selection.shares_right(library.test_p, test_y).round(5).tolist()
    seconds = round(library.mean("seconds") * len(library.members), 2)
    return {**record, "seconds": seconds}, predictions


def combination_metrics(library: Library, val_p: np.ndarray, test_p: np.ndarray, plain: np.ndarray) -> dict:
    """Return the metrics of one combination of the library's members: its probabilities (N, classes).

    gain: accuracy above the plain average, which gets the test images `plain` (N,) right, and mcnemar_p, the
    p-value of its exact test. scaled_...: under the temperature, which needs validation images.
    """
    val_y, test_y = library.val_y, library.test_y
    values, right = score(test_p, test_y, "test"), test_p.argmax(1) == test_y
    values |= {"test_gain": float(right.mean() - plain.mean()), "test_mcnemar_p": mcnemar(right, plain)}
    if library.validated:
        temperature = fit_temperature(-surprise(val_p), val_y)
        scaled = scale(test_p, temperature)
        values |= score(val_p, val_y, "val") | {"temperature": temperature}
        values["test_scaled_loss"] = cross_entropy(scaled, test_y)
        values["test_scaled_ece"] = calibration_error(scaled, test_y)
    return {key: value for key, value in values.items() if not key.endswith(("precision", "recall"))}
