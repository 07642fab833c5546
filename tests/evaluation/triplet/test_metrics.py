"""Retrieval and verification metrics against hand-made rankings and slow loops."""

import itertools

import numpy as np
import pytest

from evaluation.triplet.metrics import (
    best_threshold,
    equal_error_rate,
    mean_interval,
    ranking_metrics,
    rates_at,
    verification_roc,
)


def ranked(distances, relevant):
    found = ranking_metrics(np.array([distances], float), np.array([relevant], bool))
    return {name: float(value[0]) for name, value in found.items()}


def test_a_ranking_by_hand():
    # R = 3: hits at the ranks 1 and 3, and one at 5 that does not count.
    found = ranked([0.1, 0.2, 0.3, 0.4, 0.5], [1, 0, 1, 0, 1])
    assert found["precision_at_1"] == 1
    assert found["r_precision"] == pytest.approx(2 / 3)
    assert found["map_at_r"] == pytest.approx((1 + 2 / 3) / 3)


def test_a_perfect_and_a_hopeless_ranking():
    assert set(ranked([1, 2, 3, 4], [1, 1, 0, 0]).values()) == {1.0}
    assert set(ranked([1, 2, 3, 4], [0, 0, 1, 1]).values()) == {0.0}
    assert set(ranked([1, 2, 3, 4], [0, 0, 0, 0]).values()) == {0.0}


def test_ties_are_the_mean_over_all_their_orders():
    rng = np.random.default_rng(0)
    distances, relevant = rng.integers(0, 4, (8, 6)).astype(float), rng.random((8, 6)) < 0.5
    found = ranking_metrics(distances, relevant)
    for query in range(8):
        rows = []
        for order in itertools.permutations(range(6)):
            items = sorted(range(6), key=lambda i: (distances[query, i], order[i]))
            hits = relevant[query, items]
            total = hits.sum()
            precision = hits.cumsum() / np.arange(1, 7) * hits
            rows.append(
                [hits[0], hits[:total].sum() / max(total, 1), precision[:total].sum() / max(total, 1)]
            )
        expected = np.mean(rows, 0)
        names = ("precision_at_1", "r_precision", "map_at_r")
        assert [found[name][query] for name in names] == pytest.approx(expected.tolist())


def test_a_constant_embedding_scores_as_chance():
    found = ranked([0.0] * 10, [1] * 3 + [0] * 7)
    assert found["precision_at_1"] == pytest.approx(0.3)
    assert found["r_precision"] == pytest.approx(0.3)


def test_interval_of_a_mean():
    mean, low, high = mean_interval(np.array([0.4, 0.6, 0.5, 0.5]))
    assert mean == pytest.approx(0.5)
    half = 1.96 * np.std([0.4, 0.6, 0.5, 0.5], ddof=1) / 2
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-4)


def test_roc_with_ties_by_hand():
    distances, same = np.array([1.0, 2, 2, 3, 4]), np.array([True, True, False, False, True])
    roc = verification_roc(distances, same)
    assert roc.thresholds.tolist() == [1, 2, 3, 4]
    assert roc.accepts == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1])
    assert roc.false_accepts == pytest.approx([0, 1 / 2, 1, 1])


def test_roc_is_the_share_of_pairs_within_each_threshold():
    rng = np.random.default_rng(0)
    distances, same = rng.random(40).round(1), rng.random(40) < 0.4
    roc = verification_roc(distances, same)
    for threshold, accepted, falsely in zip(*roc, strict=True):
        assert (accepted, falsely) == pytest.approx(rates_at(distances, same, threshold))


def test_equal_error_rate():
    apart = verification_roc(np.array([1.0, 2, 3, 4]), np.array([True, True, False, False]))
    assert equal_error_rate(apart) == 0
    assert best_threshold(apart) == 2
    mixed = verification_roc(np.array([1.0, 2, 3, 4]), np.array([True, False, True, False]))
    assert equal_error_rate(mixed) == pytest.approx(0.5)
    constant = verification_roc(np.zeros(10), np.arange(10) < 5)
    assert equal_error_rate(constant) == pytest.approx(0.5)  # on the line from (0, 0) to (1, 1)


def test_a_constant_embedding_accepts_everything_falsely():
    """The count behind the original's headline: 100 % accepted, and 100 % of all others as well."""
    distances, same = np.zeros(10), np.arange(10) < 5
    assert rates_at(distances, same, best_threshold(verification_roc(distances, same))) == (1.0, 1.0)
