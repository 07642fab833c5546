"""Which labels are probably wrong, which images are hard for all models, and which are learned first."""

from collections.abc import Sequence

import numpy as np
import torch

from data import Data
from data.robustness import LABEL_ERRORS
from models import create
from utils.training.cnn import ClassifierConfig, fit_classifier
from utils.training.forward import predict

DEPTHS = (15, 50, 100)  # of the suspects among which the reviewed labels are counted


def out_of_fold(
    config: ClassifierConfig, data: Data, cuts: Sequence[tuple[torch.Tensor, torch.Tensor]], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Train a network on each of the `data.folds`; return probabilities of all images after every epoch.

    Of training images (epochs, N, classes), each by the network that does not train on it; of test images
    (folds, epochs, M, classes).
    """
    (train_set, test_set), epochs, classes = data, config.fit.epochs, len(data[0].classes)
    held = np.zeros((epochs, len(train_set.labels), classes), np.float32)
    test = np.zeros((len(cuts), epochs, len(test_set.labels), classes), np.float32)
    for fold, (train_idx, held_idx) in enumerate(cuts):

        def watch(model, epoch, fold=fold, held_idx=held_idx):
            held[epoch - 1, held_idx] = predict(model, train_set, held_idx)[0]
            test[fold, epoch - 1] = predict(model, test_set)[0]
            return {}

        torch.manual_seed(seed + fold)
        model = create(config.model, classes)
        fit_classifier(model, config, train_set, (train_idx, train_idx[:0]), seed + fold, validate=watch)
    return held, test


def suspects(p: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank labels (N,) by probabilities p (N, classes), the least probable first.

    Returns the positions in this order, and for each position the class to suggest, the likeliest other one,
    and whether it is disputed: more probable than the label.
    """
    rows, others = np.arange(len(labels)), p.copy()
    others[rows, labels] = -1
    return p[rows, labels].argsort(kind="stable"), others.argmax(1), p.argmax(1) != labels


def detection(order: np.ndarray, disputed: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """Score `suspects` against the k labels known to be wrong, (N,) bool.

    precision_at_k, recall_at_2k: of the first in order. disputed_...: of all that are disputed.
    """
    ranked, k = wrong[order], int(wrong.sum())
    metrics = {"precision_at_k": ranked[:k].mean(), "recall_at_2k": ranked[: 2 * k].sum() / k}
    metrics["disputed_precision"] = (wrong & disputed).sum() / max(1, disputed.sum())
    metrics["disputed_recall"] = disputed[wrong].mean()
    return {"wrong_labels": k, **{key: float(value) for key, value in metrics.items()}}


def reviewed_found(order: np.ndarray) -> dict[str, int]:
    """Count the labels of MNIST's test set that reviewers did not confirm among the first suspects."""
    ranked = np.isin(order, list(LABEL_ERRORS))
    return {f"reviewed_in_{depth}": int(ranked[:depth].sum()) for depth in DEPTHS}


def learned_at(right: np.ndarray) -> np.ndarray:
    """Return the epoch, from 1, from which on images (epochs, N) stay right; epochs + 1 for never."""
    return len(right) + 1 - np.logical_and.accumulate(right[::-1]).sum(0)


def overlaps(right: np.ndarray) -> np.ndarray:
    """Return the share of the better model's errors that the other makes, too: (models, models).

    right: (models, N) bool. 1 on the diagonal, and where the better model never errs.
    """
    wrong = (~right).astype(float)
    shared, least = wrong @ wrong.T, np.minimum.outer(wrong.sum(1), wrong.sum(1))
    return np.divide(shared, least, out=np.ones_like(shared), where=least > 0)


def rank_correlations(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return Spearman's correlation of each pair of (N,) values, equal ones of one rank; 0 for a constant."""
    from scipy.stats import rankdata  # here, because it takes seconds that --help needn't

    ranks = np.stack([rankdata(value) for value in values])
    ranks -= ranks.mean(1, keepdims=True)
    return (scaled := ranks / np.maximum(np.linalg.norm(ranks, axis=1, keepdims=True), 1e-9)) @ scaled.T


def right_alone(right: np.ndarray, paradigms: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the positions of the images that models of one paradigm alone get right, by paradigm.

    right: (models, N) bool. paradigms: of each model.
    """
    names = list(dict.fromkeys(paradigms))
    able = np.stack([right[[p == name for p in paradigms]].any(0) for name in names])
    return {name: np.flatnonzero(row & (able.sum(0) == 1)) for name, row in zip(names, able, strict=True)}


def halves(agreement: np.ndarray, loss: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, torch.Tensor]:
    """Return the hardest, the easiest and a random half of every class, as sorted positions.

    Hard is an image that few models get right (agreement), and among equals one of high loss: (N,) each.
    """
    hardest = np.lexsort((-loss, agreement))
    random = np.random.default_rng(seed).permutation(len(labels))
    orders = {"hardest": hardest, "easiest": hardest[::-1], "random": random}
    chosen = {}
    for name, order in orders.items():
        own = [order[labels[order] == value] for value in np.unique(labels)]
        chosen[name] = np.sort(np.concatenate([images[: len(images) // 2] for images in own]))
    return {name: torch.from_numpy(positions) for name, positions in chosen.items()}
