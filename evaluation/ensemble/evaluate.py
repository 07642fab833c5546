"""What a library of classifiers is worth: every combination of its members, side by side."""

import numpy as np

from evaluation.cnn import (
    calibration_error,
    cross_entropy,
    fit_temperature,
    mcnemar,
    scale,
    score,
    surprise,
)
from evaluation.ensemble.library import Library
from evaluation.ensemble.selection import COMBINATIONS, FIXED, choose, combine, oracle
from utils.runs.folder import RunFolder


def evaluate_library(library: Library, headline: str, job: dict, part: RunFolder) -> dict:
    """Choose weights on the validation predictions, score the test predictions; return the record.

    headline: one of COMBINATIONS, whose probabilities are saved in `part` and whose metrics get the plain
    names; those of the others start with the name of the combination. Without validation images only those
    of FIXED are scored, and nothing is calibrated.
    """
    weights = choose(library.calibrated(), library.val_y, job["seed"])
    combined = {
        name: (combine(name, library.val_p, weights), combine(name, library.test_p, weights))
        for name in (COMBINATIONS if library.validated else FIXED)
    }
    val_y, test_y = library.val_y, library.test_y
    val_p, test_p = combined[headline]
    saved = {"test_probabilities": test_p, "test_labels": test_y}
    record = {**job, "members": len(library.members), "library": library.names}
    train_images = round(library.mean("train_images"))
    folds = "fold" in library.members[0].record  # of which each image trains and validates
    record |= {"train_images": train_images, "val_images": len(val_y) - train_images * folds}
    record |= score(test_p, test_y, "test")
    if library.validated:
        saved |= {"val_probabilities": val_p, "val_labels": val_y, "val_indices": library.val_indices}
        record |= score(val_p, val_y, "val")
    part.save_predictions(**saved)
    plain = combined["average"][1].argmax(1) == test_y
    for name, predictions in combined.items():
        record |= combination_metrics(name, *predictions, val_y, test_y, plain)
    record |= {f"{name}_weights": [round(float(w), 6) for w in values] for name, values in weights.items()}
    singles = [score(p, test_y, "mean_single_test") for p in library.test_p]
    for key in ("accuracy", "loss", "ece"):
        key = f"mean_single_test_{key}"
        record[key] = float(np.mean([single[key] for single in singles]))
    record["oracle_test_accuracy"] = float(oracle(library.test_p, test_y).mean())
    return {**record, "seconds": round(library.mean("seconds") * len(library.members), 2)}


def combination_metrics(
    name: str,
    val_p: np.ndarray,
    test_p: np.ndarray,
    val_y: np.ndarray,
    test_y: np.ndarray,
    plain: np.ndarray,
) -> dict:
    """Return the metrics of one combination, named `<name>_<metric>`.

    temperature: fitted on validation images; scaled_loss and scaled_ece are those of the test probabilities
    under it. Without validation images they are left out. gain: accuracy above the plain average. plain:
    which test images the plain average gets right. mcnemar_p: p-value of the exact test of the gain.
    """
    kept = ("accuracy", "accuracy_low", "accuracy_high", "loss", "ece")
    scores = score(test_p, test_y, "test") | (score(val_p, val_y, "val") if len(val_y) else {})
    values = {key: v for key, v in scores.items() if key.partition("_")[2] in kept}
    if len(val_y):
        values["temperature"] = temperature = fit_temperature(-surprise(val_p), val_y)
        scaled = scale(test_p, temperature)
        values["test_scaled_loss"] = cross_entropy(scaled, test_y)
        values["test_scaled_ece"] = calibration_error(scaled, test_y)
    right = test_p.argmax(1) == test_y
    values["test_gain"] = float(right.mean() - plain.mean())
    values["test_mcnemar_p"] = mcnemar(right, plain)
    return {f"{name}_{key}": value for key, value in values.items()}
