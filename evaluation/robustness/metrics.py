"""Robustness to corruptions, and answers that all models share: pure functions of NumPy arrays."""

import numpy as np


def mean_corruption_error(errors: np.ndarray, baseline: np.ndarray) -> float | None:
    """Return the mCE of Hendrycks and Dietterich (ICLR 2019): 1 for the baseline itself, less is better.

    errors, baseline: (C, L) error rates of a model and of the baseline at L levels of C corruptions. Levels
    are summed before the ratio is taken, and the ratios are averaged over the corruptions. None when the
    baseline never errs under a corruption.
    """
    return _mean_ratio(errors.sum(1), baseline.sum(1))


def relative_corruption_error(
    errors: np.ndarray, clean: float, baseline: np.ndarray, baseline_clean: float
) -> float | None:
    """Return the relative mCE: as the mCE, but of the rise of the error above that on clean images.

    It compares models of different clean accuracy. clean, baseline_clean: error rates on the same images
    without corruption. None when the baseline's error does not rise under a corruption.
    """
    return _mean_ratio((errors - clean).sum(1), (baseline - baseline_clean).sum(1))


def _mean_ratio(sums, baseline):
    return float((sums / baseline).mean()) if (baseline > 0).all() else None


def shared_mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the images that every model gets wrong, the most confident mistakes first: (K,) int64.

    probabilities: (M, N, classes) of M models. labels: (N,). The order is by the largest probability, over
    the classes, of the mean over the models.
    """
    wrong = np.flatnonzero((probabilities.argmax(2) != labels).all(0))
    return wrong[np.argsort(-probabilities[:, wrong].mean(0).max(1), kind="stable")]
