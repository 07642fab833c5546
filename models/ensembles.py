"""Combining classifiers: pure NumPy functions of their probabilities.

Shapes: p (M, N, C), the probabilities of M members for N images and C classes, float32; y (N,), the true
classes; weights (M,), none negative, sum 1. Functions that choose (best, greedy, bagged) choose on the p and
y that they are given: give them validation data.
"""

from typing import NamedTuple

import numpy as np

# A probability that underflowed to 0 counts as this much: one image must not make a mean loss infinite.
LEAST = 1e-12
# Members whose candidates are scored at once: their sums stay in the processor's cache.
CHUNK = 16

# Every way to combine that `combine` knows, in the order of the tables.
COMBINATIONS = ("best_single", "average", "log_average", "vote", "greedy_loss", "greedy_accuracy", "bagged")
METRICS = ("loss", "accuracy")


class Selection(NamedTuple):
    """What `greedy` chose: `path` holds the members in the order in which they were added.

    The first `initial` of them are the sorted initialisation; the best prefix, of length `size`, gives the
    weights. losses, accuracies: of every prefix of the path, on the data that the selection saw.
    """

    weights: np.ndarray
    path: list
    initial: int
    size: int
    losses: list
    accuracies: list


# --- Combining ------------------------------------------------------------------------------------------


def average(p, weights=None):
    """Weighted mean of the probabilities (N, C): soft voting. By default all members weigh the same."""
    weights = np.full(len(p), 1 / len(p)) if weights is None else np.asarray(weights)
    if weights.shape != (len(p),) or weights.min() < 0 or not np.isclose(weights.sum(), 1):
        raise ValueError(f"expected {len(p)} weights of sum 1, none negative, not {weights}")
    return np.tensordot(weights.astype(p.dtype), p, 1)


def log_average(p):
    """Softmax of the mean logits (N, C): the normalised geometric mean of the probabilities."""
    logs = sum(np.log(member.clip(np.finfo(np.float32).tiny)) for member in p) / len(p)
    powers = np.exp(logs - logs.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def hard_vote(p):
    """Shares of the votes (N, C), a member's vote being its most probable class.

    One vote more is shared out by the mean probability. It breaks ties and, being less than a whole vote
    for any class that has none, changes nothing else.
    """
    votes = average(p)
    for member in p:
        votes[np.arange(len(votes)), member.argmax(1)] += 1
    return votes / (len(p) + 1)


def combine(name, p, weights):
    """The combination `name`, one of COMBINATIONS; weights: what `choose` gave."""
    if name == "vote":
        return hard_vote(p)
    if name == "log_average":
        return log_average(p)
    return average(p, weights[name])


def oracle(p, y):
    """Whether any member is right, (N,): no combination by selection can do better."""
    return np.any([member.argmax(1) == y for member in p], 0)


# --- Choosing -------------------------------------------------------------------------------------------


def choose(p, y, seed=0):
    """{name: weights} for all of COMBINATIONS that have weights: all that is learned from data."""
    return {
        "best_single": np.eye(len(p))[best_single(p, y)],
        "average": np.full(len(p), 1 / len(p)),
        **{f"greedy_{metric}": greedy(p, y, metric).weights for metric in METRICS},
        "bagged": bagged(p, y, seed=seed),
    }


def best_single(p, y):
    """Index of the most accurate member; ties go to the lower loss, then to the first."""
    return int(_order(*single_figures(p, y), "accuracy")[0])


def single_figures(p, y):
    """Losses (M,), nats, and accuracies (M,) of the members."""
    _check(p, y)
    each = np.array([_figures(member, y) for member in p])
    return each[:, 0], each[:, 1]


def greedy(p, y, metric="loss", steps=50, patience=10, members=None):
    """Ensemble selection by forward steps with replacement (Caruana et al., ICML 2004, sections 2.1 and 2.2).

    Starts with the k best members, for the k whose plain average is best, then adds up to `steps` times the
    member that makes the average best, any member as often as it helps. Ends early after `patience` steps
    without a better average. The weights are those of the best average on the whole path, the shortest one
    at equal figures.

    metric: "loss" (mean negative log-likelihood) or "accuracy", whose ties go to the lower loss; a last tie
    goes to the first member. members: indices to choose from, default all; the others get no weight.

    A step is O(M N): the loss of a candidate needs the true class's probabilities only, and its accuracy
    only those images at which one more member can turn the decision.
    """
    _check(p, y)
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}: choose from {', '.join(METRICS)}")
    members = np.arange(len(p)) if members is None else np.asarray(members)
    true = p[members[:, None], np.arange(len(y)), y]
    own = np.array([_figures(p[m], y) for m in members])
    order = members[_order(own[:, 0], own[:, 1], metric)]

    total, path, found = np.zeros(p.shape[1:]), [], []
    for member in order:
        path.append(int(member))
        total += p[member]
        found.append(_figures(total / len(path), y))
    initial = _best(found, metric) + 1
    path, found = path[:initial], found[:initial]
    total = np.zeros(p.shape[1:])
    for member in path:
        total += p[member]

    while len(path) < initial + steps and len(path) - _best(found, metric) <= patience:
        path.append(int(members[_next_member(p, y, members, true, total, len(path) + 1, metric)]))
        total += p[path[-1]]
        found.append(_figures(total / len(path), y))
    size = _best(found, metric) + 1
    weights = np.bincount(path[:size], minlength=len(p)) / size
    return Selection(weights, path, initial, size, *map(list, zip(*found, strict=True)))


def bagged(p, y, metric="loss", bags=20, share=0.5, seed=0, **options):
    """Mean weights of greedy selections from random subsets, against overfitting (section 2.3).

    bags: selections. share: of the members that each may choose from, in (0, 1]. options: of `greedy`.
    """
    if bags < 1 or not 0 < share <= 1:
        raise ValueError(f"expected at least 1 bag and a share in (0, 1], not {bags} and {share}")
    rng = np.random.default_rng(seed)
    count = max(1, round(share * len(p)))
    subsets = (np.sort(rng.choice(len(p), count, replace=False)) for _ in range(bags))
    return np.mean([greedy(p, y, metric, members=subset, **options).weights for subset in subsets], 0)


def _check(p, y):
    if p.ndim != 3 or len(p) == 0 or p.shape[1] != len(y) or len(y) == 0:
        raise ValueError(f"expected probabilities (M, N, C) and N labels, not {p.shape} and {y.shape}")


def _figures(probabilities, y):
    """Loss and accuracy of (N, C) probabilities."""
    true = probabilities[np.arange(len(y)), y]
    loss = -np.log(true.astype(np.float64).clip(LEAST)).mean()
    return float(loss), float((probabilities.argmax(1) == y).mean())


def _order(losses, accuracies, metric):
    """Indices from the best to the worst; equal ones in their order."""
    return np.lexsort((losses, -accuracies)) if metric == "accuracy" else np.argsort(losses, kind="stable")


def _best(found, metric):
    """Index of the best (loss, accuracy), the first one at equal figures."""
    losses, accuracies = np.array(found).T
    return int(_order(losses, accuracies, metric)[0])


def _next_member(p, y, members, true, total, size, metric):
    """Position in `members` of the one whose addition to `total` gives the best average of `size`."""
    candidates = np.arange(len(members))
    if metric == "accuracy":
        right = _right_after(p, y, members, total)
        candidates = np.flatnonzero(right == right.max())
    start = total[np.arange(len(y)), y].astype(p.dtype)
    losses = np.empty(len(candidates))
    for at in range(0, len(candidates), CHUNK):
        sums = true[candidates[at : at + CHUNK]] + start
        np.maximum(sums, LEAST * size, out=sums)
        losses[at : at + CHUNK] = -np.log(sums, out=sums).mean(1, dtype=np.float64)
    return candidates[losses.argmin()]


def _right_after(p, y, members, total):
    """For every member how many of the undecided images are right with it added to `total`.

    A probability moves the lead of the true class by 1 at most: where the lead is larger than that, either
    way, all members give the same.
    """
    rows = np.arange(len(y))
    others = total.copy()
    others[rows, y] = -np.inf
    lead = total[rows, y] - others.max(1)
    open_rows = np.flatnonzero(np.abs(lead) <= 1.001)  # a little more, for float32
    start, labels = total[open_rows].astype(p.dtype), y[open_rows]
    right = np.empty(len(members), np.int64)
    for i, member in enumerate(members):
        right[i] = np.count_nonzero((p[member, open_rows] + start).argmax(1) == labels)
    return right


# --- Looking --------------------------------------------------------------------------------------------


def growth(p, y, draws=50, seed=0):
    """Accuracies (draws, M) of plain averages of 1, 2, ..., M members, in random orders."""
    rng = np.random.default_rng(seed)
    found = np.empty((draws, len(p)))
    for row in found:
        total = np.zeros(p.shape[1:], p.dtype)
        for k, member in enumerate(rng.permutation(len(p))):
            total += p[member]
            row[k] = (total.argmax(1) == y).mean()
    return found


def error_overlap(p, y):
    """(M, M): images that two members both get wrong, as a share of those that either does (Jaccard).

    1 on the diagonal, and for two members without any mistake.
    """
    wrong = np.array([member.argmax(1) != y for member in p], dtype=np.float64)
    both = wrong @ wrong.T
    either = wrong.sum(1)[:, None] + wrong.sum(1) - both
    return np.divide(both, either, out=np.ones_like(both), where=either > 0)
