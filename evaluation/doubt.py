"""Does a model know when it doesn't know? Sets of answers, answers left to a person, images of no digit."""

import numpy as np

Predictions = tuple[np.ndarray, np.ndarray]  # probabilities (N, classes) and labels (N,)
COVERAGES, RISKS = (0.99, 0.995, 0.999), (1000, 10_000)


def prediction_sets(known: Predictions, p: np.ndarray, coverage: float) -> np.ndarray:
    """Return (N, classes) bool: sets that hold the true class with this probability, by split conformal.

    known: of images like the N. A set has the classes that are at least as probable as the true one of a
    share `coverage` of these (Sadinle et al., 2019). It may be empty.
    """
    true = np.sort(known[0][np.arange(len(known[1])), known[1]])
    rank = int((len(true) + 1) * (1 - coverage) + 1e-9)
    return p >= (true[rank - 1] if rank else 0)


def errors_left(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the share of images that stays wrong when a person answers the k least sure: (N + 1,), by k."""
    wrong = (p.argmax(1) != y)[np.argsort(p.max(1), kind="stable")]
    return np.append(wrong[::-1].cumsum()[::-1], 0) / len(y)


def doubts(known: Predictions, p: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Score the doubts of probabilities p (N, classes) about test images, labels y, calibrated on `known`.

    test_sets_C_accuracy, test_sets_C_size: how many sets of coverage C % hold the label, and their mean size.
    test_asked_R_share: images that a person must answer, the least sure first, for one error in R images.
    """
    metrics = {}
    for coverage in COVERAGES:
        sets, name = prediction_sets(known, p, coverage), f"test_sets_{100 * coverage:g}"
        metrics[f"{name}_accuracy"] = float(sets[np.arange(len(y)), y].mean())
        metrics[f"{name}_size"] = float(sets.sum(1).mean())
    left = errors_left(p, y)
    return metrics | {f"test_asked_{r}_share": float((left > 1 / r).sum() / len(y)) for r in RISKS}
