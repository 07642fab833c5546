"""Evaluation: probabilities once, every metric from them."""

import contextlib
import itertools

import numpy as np
import torch
import torch.nn.functional as F

from data import BatchLoader

# scipy and scikit-learn are imported where they are used: loading them takes seconds that --help needn't.

BATCH = 1000


def predict(model, images, indices=None, shifts=0):
    """Class probabilities (N, classes) and labels (N,) as NumPy arrays, in order, always in float32.

    images: an ImageSet. shifts: test-time augmentation, the mean of the probabilities over all shifts of the
    image by up to so many pixels. The model is put into eval mode for it and then back.
    """
    if indices is not None:
        indices = indices.to(images.images.device)
        images = images._replace(images=images.images[indices], labels=images.labels[indices])
    found = [outputs(model, in_order(part)) for part in shifted(images, shifts)]
    probabilities = torch.stack([F.softmax(logits, 1) for logits, _ in found]).mean(0)
    return probabilities.cpu().numpy(), found[0][1].cpu().numpy()


def shifted(images, most):
    """The ImageSet under each of its (2 * most + 1)^2 whole-pixel shifts, black moving in."""
    height, width = images.images.shape[-2:]
    padded = F.pad(images.images, [most] * 4)
    for top, left in itertools.product(range(2 * most + 1), repeat=2):
        yield images._replace(images=padded[..., top : top + height, left : left + width])


def in_order(images, indices=None, augment=None, seed=0):
    """A BatchLoader over an ImageSet, or its images at `indices`, that keeps their order."""
    if indices is None:
        indices = torch.arange(len(images.labels))
    return BatchLoader(images, indices, BATCH, seed=seed, augment=augment, shuffle=False)


@contextlib.contextmanager
def evaluating(model):
    """The model in eval mode, and then every module back in its own: a frozen part was there already."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    yield
    for module, training in modes:
        module.training = training


@torch.no_grad()
def outputs(model, batches, precision="fp32"):
    """What the model gives for one epoch of batches, (N, D) float32, and their labels (N,), on the device.

    The model is put into eval mode for it and then back.
    """
    device = batches.set.images.device
    with evaluating(model), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        found = [(model(images).float(), labels) for images, labels in batches.epoch()]
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def score(probabilities, labels, prefix):
    """Metrics of (N, classes) probabilities against (N,) labels, named `<prefix>_<metric>`.

    accuracy: of the argmax, with its 95 % Wilson interval (accuracy_low, accuracy_high). loss: mean
    negative log-likelihood, nats. ece: expected calibration error. precision, recall: one number a class.
    """
    from scipy.stats import binomtest
    from sklearn.metrics import precision_recall_fscore_support

    chosen = probabilities.argmax(1)
    right = int((chosen == labels).sum())
    interval = binomtest(right, len(labels)).proportion_ci(0.95, method="wilson")
    precision, recall, _, _ = precision_recall_fscore_support(
        labels, chosen, labels=range(probabilities.shape[1]), zero_division=0
    )
    values = {
        "accuracy": right / len(labels),
        "accuracy_low": float(interval.low),
        "accuracy_high": float(interval.high),
        "loss": cross_entropy(probabilities, labels),
        "ece": calibration_error(probabilities, labels),
        "precision": precision.round(5).tolist(),
        "recall": recall.round(5).tolist(),
    }
    return {f"{prefix}_{name}": value for name, value in values.items()}


def cross_entropy(probabilities, labels, label_smoothing=0.0):
    """Mean cross-entropy of (N, classes) probabilities, nats; smoothed labels as in Szegedy et al. (2016).

    A probability that underflowed to 0 counts as 1e-12: one digit must not make the mean infinite.
    """
    surprise = -np.log(probabilities.astype(np.float64).clip(1e-12))
    hard = surprise[np.arange(len(labels)), labels].mean()
    return float((1 - label_smoothing) * hard + label_smoothing * surprise.mean())


def calibration_error(probabilities, labels, bins=15):
    """Expected calibration error (Guo et al., 2017): |confidence - accuracy|, weighted over equal bins."""
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == labels
    which = np.ceil(confidence * bins).astype(int).clip(1, bins) - 1
    gaps = np.bincount(which, confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def scale(probabilities, temperature):
    """Softmax of the logits divided by `temperature` (> 0), from (N, classes) probabilities."""
    logs = np.log(probabilities.astype(np.float64).clip(1e-12)) / temperature
    powers = np.exp(logs - logs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def fit_temperature(probabilities, labels):
    """The temperature in [0.05, 20] with the least cross-entropy (Guo et al., 2017). Fit on validation data.

    Above 1: the probabilities were too confident.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature):
        return cross_entropy(scale(probabilities, np.exp(log_temperature)), labels)

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.05, 20]), method="bounded").x))


def mcnemar(right_a, right_b):
    """Two-sided p-value of McNemar's exact test that two classifiers err equally often.

    right_a, right_b: (N,) bool, whether each is right on the same N images. Only images on which they
    differ count; 1.0 without any.
    """
    from scipy.stats import binomtest

    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def confusion(probabilities, labels):
    """(classes, classes) counts: row the true class, column the predicted one."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, probabilities.argmax(1), labels=range(probabilities.shape[1]))
