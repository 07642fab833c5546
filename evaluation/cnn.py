"""What a classifier is worth: its predictions, and metrics of probabilities (N, classes) and labels (N,)."""

from typing import Any

import numpy as np
import torch

from data import Data
from data.writers import column
from evaluation.doubt import doubts, logits_and_evidence
from utils.training.forward import cross_entropy, predict, surprise

# scipy and scikit-learn are imported where they are used: loading them takes seconds that --help needn't.

# A prediction is doubtful when its confidence or evidence is below that of all but this share of the
# validation images.
DOUBTFUL = 0.005
# The temperature of so few validation images is nearly 1: whether a dozen are all right says little of it.
FEW = 20


def evaluate_classifier(
    model: Any, data: Data, val_idx: torch.Tensor, shifts: int = 0
) -> tuple[dict, dict[str, np.ndarray], dict[str, float]]:
    """Return a classifier's scores, its predictions, and its calibration, see `calibration`.

    data: training and test images. val_idx: validation images among the training images; without any, only
    the test images are scored, and the calibration is empty. shifts: as in `predict`.
    """
    train_set, test_set = data
    test_p, test_y = predict(model, test_set, shifts=shifts)
    predictions = {"test_probabilities": test_p, "test_labels": test_y}
    scores = score(test_p, test_y, "test") | series_accuracies(test_p, test_set.labels)
    if not len(val_idx):
        return scores, predictions, {}
    val_p, val_y = predict(model, train_set, val_idx, shifts)
    predictions |= {"val_probabilities": val_p, "val_labels": val_y, "val_indices": val_idx.numpy()}
    constants = calibration(*logits_and_evidence(model, train_set, val_idx), val_y)
    scores |= score(val_p, val_y, "val") | doubts((val_p, val_y), test_p, test_y)
    return scores, predictions, constants


def series_accuracies(probabilities: np.ndarray, labels: torch.Tensor) -> dict[str, float]:
    """Return the accuracy on each series of MNIST's test images, see `data.writers`; nothing for others."""
    series, right = column("series", labels), probabilities.argmax(1) == labels.cpu().numpy()
    known = [] if series is None else series.unique().tolist()
    return {f"test_series_{number}_accuracy": float(right[series == number].mean()) for number in known}


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval (low, high) of the share right / count."""
    from scipy.stats import binomtest

    interval = binomtest(right, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def score(probabilities: np.ndarray, labels: np.ndarray, prefix: str) -> dict:
    """Compute every metric of (N, classes) probabilities against (N,) labels, named `<prefix>_<metric>`.

    accuracy: of the argmax, with its 95 % Wilson interval (accuracy_low, accuracy_high). loss: mean
    negative log-likelihood, nats. ece: expected calibration error. precision, recall: lists, one number per
    class.
    """
    from sklearn.metrics import precision_recall_fscore_support

    chosen = probabilities.argmax(1)
    right = int((chosen == labels).sum())
    low, high = wilson_interval(right, len(labels))
    classes = range(probabilities.shape[1])
    precision, recall, *_ = precision_recall_fscore_support(labels, chosen, labels=classes, zero_division=0)
    return {
        f"{prefix}_accuracy": right / len(labels),
        f"{prefix}_accuracy_low": low,
        f"{prefix}_accuracy_high": high,
        f"{prefix}_loss": cross_entropy(probabilities, labels),
        f"{prefix}_ece": calibration_error(probabilities, labels),
        f"{prefix}_precision": precision.round(5).tolist(),
        f"{prefix}_recall": recall.round(5).tolist(),
    }


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error (Guo et al., 2017) over bins of equal width.

    It is the mean of |confidence - accuracy| per bin, weighted by the images in the bin.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == labels
    bin_index = np.ceil(confidence * bins).astype(int).clip(1, bins) - 1
    gaps = np.bincount(bin_index, confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the softmax of the logits divided by `temperature` (> 0), from (N, classes) probabilities."""
    return softmax(-surprise(probabilities) / temperature)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature in [0.05, 20] with the lowest cross-entropy (Guo et al., 2017).

    logits: (N, classes), or the logarithms of probabilities. Fit it on validation data. Above 1, the
    probabilities were too confident. A penalty on its logarithm draws it to 1 where images are few: a normal
    prior of deviation sqrt(N) / FEW, which no longer matters from some hundred images on.
    """
    from scipy.optimize import minimize_scalar

    logits = logits.astype(np.float64)
    lead = logits - logits.max(1, keepdims=True)
    true = lead[np.arange(len(labels)), labels].mean()

    def loss(log_temperature):
        inverse = np.exp(-log_temperature)
        penalty = (FEW / len(labels) * log_temperature) ** 2 / 2
        return np.log(np.exp(inverse * lead).sum(1)).mean() - inverse * true + penalty

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.05, 20]), method="bounded").x))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of (N, classes) logits."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def calibration(logits: np.ndarray, evidence: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Find, on validation data, what makes logits calibrated and tells when they deserve doubt.

    Returns the temperature, see `fit_temperature`, and the bounds below which the confidence (the largest
    calibrated probability) and the evidence (N,), see `Classifier.evidence`, of a share DOUBTFUL of the
    images lie. N images, even if all are right, vouch for no more confidence than (N + 1) / (N + 2), by
    Laplace's rule of succession.
    """
    temperature = fit_temperature(logits, labels)
    confidence = softmax(logits / temperature).max(1)
    most = (len(labels) + 1) / (len(labels) + 2)
    return {
        "temperature": temperature,
        "least_confidence": min(float(np.quantile(confidence, DOUBTFUL)), most),
        "least_evidence": float(np.quantile(evidence, DOUBTFUL)),
    }


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Return the two-sided p-value of McNemar's exact test that two classifiers err equally often.

    right_a, right_b: (N,) bool, whether each is right on the same N images. Only images on which they
    differ count; without any, p is 1.
    """
    from scipy.stats import binomtest

    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def confusion(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count images by true class (row) and predicted class (column): (classes, classes)."""
    classes = probabilities.shape[1]
    pairs = np.bincount(classes * labels + probabilities.argmax(1), minlength=classes**2)
    return pairs.reshape(classes, classes)
