"""Retrieval and verification metrics: pure functions of NumPy arrays of distances and labels."""

from typing import NamedTuple

import numpy as np

# scikit-learn is imported where it is used: loading it takes seconds that --help needn't.

NORMAL_95 = 1.959964


def ranking_metrics(distances: np.ndarray, relevant: np.ndarray) -> dict[str, np.ndarray]:
    """Score how well distances rank the relevant items of each query; one value per query, (Q,) each.

    distances: (Q, M) from queries to items, a query itself not among them. relevant: (Q, M) bool; a query
    has R relevant items. precision_at_1: whether the nearest item is relevant. r_precision: share of
    relevant items among the R nearest. map_at_r: mean over the ranks 1 to R of the precision at that rank
    where its item is relevant, else 0 (Musgrave et al., 2020). Items at equal distance have no order: each
    metric is its expected value over their random orders, so that a constant embedding scores as chance
    does. A query without a relevant item scores 0.
    """
    order = distances.argsort(1)
    hits = np.take_along_axis(relevant, order, 1)
    total = relevant.sum(1)
    size, first = _tied_groups(np.take_along_axis(distances, order, 1))
    keep = max(1, total.max())  # no rank above R counts, but a tied group may go on beyond it
    size, first, ranks = size[:, :keep], first[:, :keep], np.arange(keep)
    found = np.pad(hits.cumsum(1), ((0, 0), (1, 0)))
    before = np.take_along_axis(found, first, 1)
    inside = np.take_along_axis(found, first + size, 1) - before
    share = inside / size  # the chance that the item at this rank is relevant
    # If it is, the relevant items at lower ranks: those before its group, and some within it.
    lower = before + (ranks - first) * (inside - 1) / np.maximum(size - 1, 1)
    counted = (ranks < total[:, None]) / np.maximum(total, 1)[:, None]
    return {
        "precision_at_1": share[:, 0],
        "r_precision": (share * counted).sum(1),
        "map_at_r": (share * (lower + 1) / (ranks + 1) * counted).sum(1),
    }


def _tied_groups(ordered):
    """Return the size of the group of equal values that each item of sorted rows is in, and its first rank.

    Both are (Q, M).
    """
    changes = ordered[:, 1:] != ordered[:, :-1]
    edge = np.ones((len(ordered), 1), bool)
    ranks = np.arange(ordered.shape[1])
    starts, ends = np.hstack([edge, changes]), np.hstack([changes, edge])
    first = np.maximum.accumulate(np.where(starts, ranks, 0), 1)
    last = np.minimum.accumulate(np.where(ends, ranks, len(ranks))[:, ::-1], 1)[:, ::-1]
    return last - first + 1, first


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of (n,) values and the ends of its 95 % interval, by the normal approximation."""
    mean = float(values.mean())
    half = NORMAL_95 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return mean, mean - half, mean + half


class Roc(NamedTuple):
    """Rates of accepted pairs at every threshold on the distance, in rising order: (T,) each.

    accepts: share of the pairs of one class whose distance is at most the threshold. false_accepts: the same
    of the pairs of two classes.
    """

    thresholds: np.ndarray
    accepts: np.ndarray
    false_accepts: np.ndarray


def verification_roc(distances: np.ndarray, same: np.ndarray) -> Roc:
    """Return the ROC of "are these two of one class?" for pairs: distances (n,) and same (n,) bool."""
    thresholds, first = np.unique(np.sort(distances), return_index=True)
    # Accepted at a threshold: everything up to the last pair at that distance.
    ends = np.append(first[1:], len(distances))
    order = distances.argsort()
    accepted = np.pad(same[order].cumsum(), (1, 0))[ends]
    return Roc(thresholds, accepted / max(same.sum(), 1), (ends - accepted) / max(len(same) - same.sum(), 1))


def equal_error_rate(roc: Roc) -> float:
    """Return the error rate where as many genuine pairs are refused as false ones accepted.

    The ROC is interpolated linearly between its points, from (0, 0) on.
    """
    refused = 1 - np.concatenate([[0], roc.accepts])
    accepted = np.concatenate([[0], roc.false_accepts])
    at = int(np.argmax(accepted >= refused))
    if at == 0:
        return float(accepted[0])
    (r0, r1), (a0, a1) = refused[at - 1 : at + 1], accepted[at - 1 : at + 1]
    step = (r0 - a0) / ((r0 - a0) + (a1 - r1)) if (r0 - a0) + (a1 - r1) > 0 else 0.0
    return float(r0 + step * (r1 - r0))


def best_threshold(roc: Roc) -> float:
    """Return the threshold with the highest accuracy if both kinds of pairs were equally frequent."""
    return float(roc.thresholds[np.argmax(roc.accepts - roc.false_accepts)])


def rates_at(distances: np.ndarray, same: np.ndarray, threshold: float) -> tuple[float, float]:
    """Return (accept rate, false-accept rate) of pairs at a threshold, see Roc."""
    accepted = distances <= threshold
    return float(accepted[same].mean()), float(accepted[~same].mean())
