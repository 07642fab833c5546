"""Combining classifiers: pure NumPy functions of their probabilities.

Shapes: p (M, N, C), float32, the probabilities of M members for N images and C classes; y (N,), the true
classes; weights (M,), not negative, with sum 1. Functions that choose (best_single, greedy, bagged) must be
given validation data.
"""

import numpy as np

from evaluation.cnn import softmax
from utils.training.forward import SMALLEST, surprise

# The combinations that `combine` knows, in the order of the tables.
COMBINATIONS = ("best_single", "average", "log_average", "vote", "greedy_loss", "greedy_accuracy", "bagged")
# The fixed ones: they learn nothing and so need no validation images.
FIXED = ("average", "log_average", "vote")
METRICS = ("loss", "accuracy")


def average(p: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the weighted mean of the probabilities (N, C), soft voting; by default with equal weights."""
    weights = np.full(len(p), 1 / len(p)) if weights is None else np.asarray(weights)
    return np.tensordot(weights.astype(p.dtype), p, 1)


def log_average(p: np.ndarray) -> np.ndarray:
    """Return the softmax of the mean logits (N, C): the normalised geometric mean of the probabilities."""
    return softmax(sum(np.log(member.clip(SMALLEST)) for member in p) / len(p))


def hard_vote(p: np.ndarray) -> np.ndarray:
    """Return the shares of the votes (N, C); every member votes for its most probable class.

    The mean probability is one more vote: it breaks ties, and no more, since it gives no class a whole vote.
    """
    votes = average(p)
    for member in p:
        votes[np.arange(len(votes)), member.argmax(1)] += 1
    return votes / (len(p) + 1)


def combine(name: str, p: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Return the probabilities (N, C) of one of COMBINATIONS, with the weights of `choose`."""
    if name == "vote":
        return hard_vote(p)
    if name == "log_average":
        return log_average(p)
    return average(p, weights[name])


def oracle(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return whether any member is right, (N,) bool: an upper bound for choosing a member per image."""
    return (p.argmax(2) == y).any(0)


def shares_right(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the shares of images that k from 0 to M members get right (M + 1,), as Hacohen et al. (2020)."""
    return np.bincount((p.argmax(2) == y).sum(0), minlength=len(p) + 1) / len(y)


def agreement(p: np.ndarray) -> float:
    """Return how often two members predict the same class: the mean over images and pairs of members."""
    chosen = p.argmax(2)
    return float(np.mean([np.mean(a == b) for i, a in enumerate(chosen) for b in chosen[:i]]))


def choose(p: np.ndarray, y: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Return {name: weights} for the COMBINATIONS that have weights: everything that is learned from data.

    Without images (N = 0) only the average has weights.
    """
    weights = {"average": np.full(len(p), 1 / len(p))}
    if len(y):
        weights["best_single"] = np.eye(len(p))[best_single(p, y)]
        weights |= {f"greedy_{metric}": greedy(p, y, metric) for metric in METRICS}
        weights["bagged"] = bagged(p, y, seed=seed)
    return weights


def best_single(p: np.ndarray, y: np.ndarray) -> int:
    """Return the index of the most accurate member; ties go to the lower loss, then to the first."""
    return int(_order([_loss_and_accuracy(member, y) for member in p], "accuracy")[0])


def greedy(
    p: np.ndarray, y: np.ndarray, metric: str = "loss", steps: int = 50, patience: int = 10
) -> np.ndarray:
    """Select by greedy forward steps with replacement (Caruana et al., ICML 2004, sections 2.1 and 2.2).

    Starts with the k best members, for the k whose plain average is best. Then adds the member that makes
    the average best, up to `steps` times, until `patience` steps brought no better average. Returns the
    weights (M,) of the best average on the whole path; of equally good ones, the shortest.

    metric: "loss" (mean negative log-likelihood) or "accuracy", whose ties go to the lower loss. A last tie
    goes to the first member.
    """
    path = _order([_loss_and_accuracy(member, y) for member in p], metric).tolist()
    totals = p[path].cumsum(0, np.float64)
    scores = [_loss_and_accuracy(total / size, y) for size, total in enumerate(totals, 1)]
    initial = int(_order(scores, metric)[0]) + 1
    path, scores, total = path[:initial], scores[:initial], totals[initial - 1]

    while len(path) < initial + steps and len(path) - _order(scores, metric)[0] <= patience:
        path.append(_next_member(p, y, total, len(path) + 1, metric))
        total += p[path[-1]]
        scores.append(_loss_and_accuracy(total / len(path), y))
    size = int(_order(scores, metric)[0]) + 1
    return np.bincount(path[:size], minlength=len(p)) / size


def bagged(p: np.ndarray, y: np.ndarray, bags: int = 20, share: float = 0.5, seed: int = 0) -> np.ndarray:
    """Average the weights of selections by loss from random subsets, against overfitting (section 2.3).

    bags: number of selections. share: the share of the members that each may choose from, in (0, 1].
    """
    rng, count = np.random.default_rng(seed), max(1, round(share * len(p)))
    weights = np.zeros((bags, len(p)))
    for row in weights:
        subset = np.sort(rng.choice(len(p), count, replace=False))
        row[subset] = greedy(p[subset], y)
    return weights.mean(0)


def _loss_and_accuracy(probabilities: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    loss = surprise(probabilities[np.arange(len(y)), y]).mean()
    return float(loss), float((probabilities.argmax(1) == y).mean())


def _order(scores: list[tuple[float, float]], metric: str) -> np.ndarray:
    """Return the indices of (loss, accuracy) pairs from the best to the worst; ties keep their order."""
    losses, accuracies = np.array(scores).T
    return np.lexsort((losses, -accuracies)) if metric == "accuracy" else np.argsort(losses, kind="stable")


def _next_member(p, y, total, size, metric):
    """Return the index of the member whose addition to `total` gives the best average of `size`."""
    candidates, sums = np.arange(len(p)), total.astype(p.dtype)
    if metric == "accuracy":
        right = np.array([((member + sums).argmax(1) == y).sum() for member in p])
        candidates = np.flatnonzero(right == right.max())
    rows = np.arange(len(y))
    of_true = (p[candidates[:, None], rows, y] + sums[rows, y]).clip(SMALLEST * size)
    return int(candidates[np.log(of_true).mean(1, dtype=np.float64).argmax()])
