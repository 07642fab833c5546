"""Combining probabilities: against slow, obvious formulas, exhaustive search and closed forms."""

import numpy as np
import pytest
from helpers import probabilities

from evaluation.cnn import cross_entropy
from evaluation.ensemble import selection


def library(members=5, strength=2.0, seed=0):
    """Probabilities (M, 200, 4) of members of unequal quality, and labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, 200)
    strengths = strength * rng.uniform(0.2, 1, members)
    return np.stack([probabilities(y, s, (seed, m), 4) for m, s in enumerate(strengths)]), y


def slow_greedy(p, y, metric, steps, patience):
    """Caruana et al., word by word: every candidate's whole average, again and again."""

    def value(bag):
        mean = np.mean([p[m].astype(float) for m in bag], 0)
        return ((mean.argmax(1) != y).mean() if metric == "accuracy" else 0, cross_entropy(mean, y))

    order = sorted(range(len(p)), key=lambda m: value([m]))
    path = min((order[: k + 1] for k in range(len(order))), key=value)
    values = [value(path[: k + 1]) for k in range(len(path))]
    for _ in range(steps):
        if len(path) - values.index(min(values)) > patience:
            break
        path = path + [min(range(len(p)), key=lambda m: value([*path, m]))]
        values.append(value(path))
    best = values.index(min(values)) + 1
    return np.bincount(path[:best], minlength=len(p)) / best


@pytest.mark.parametrize("metric", selection.METRICS)
@pytest.mark.parametrize("patience", [1, 10])
@pytest.mark.parametrize("seed", range(4))
def test_greedy_is_the_slow_formula(metric, seed, patience):
    p, y = library(seed=seed)
    weights = slow_greedy(p, y, metric, steps=12, patience=patience)
    assert selection.greedy(p, y, metric, steps=12, patience=patience) == pytest.approx(weights)


def test_a_tie_in_accuracy_goes_to_the_lower_loss_and_then_to_the_first_and_an_oracle_errs_with_all():
    y = np.array([0, 0, 1])
    sure, unsure = ([[[q, 1 - q], [q, 1 - q], [1 - q, q]]] for q in (0.9, 0.6))
    p = np.concatenate([unsure, sure, sure]).astype(np.float32)
    assert selection.best_single(p, y) == 1
    assert selection.greedy(p, y, "accuracy", steps=0).tolist() == [0, 1, 0]
    p, y = library(members=3, strength=1)  # the oracle is right where any member is
    expected = [any(p[m, i].argmax() == y[i] for m in range(3)) for i in range(len(y))]
    assert selection.oracle(p, y).tolist() == expected


def test_agreement_of_pairs_of_members_and_how_many_are_right_by_counting():
    p, y = library(members=3, strength=1)
    chosen = [[int(p[m, i].argmax()) for m in range(3)] for i in range(len(y))]
    agreed = [(a == b) + (b == c) + (a == c) for a, b, c in chosen]
    assert selection.agreement(p) == pytest.approx(sum(agreed) / 3 / len(y))
    right = [row.count(y[i]) for i, row in enumerate(chosen)]
    assert selection.shares_right(p, y).tolist() == pytest.approx([right.count(k) / len(y) for k in range(4)])


def test_bagged_weights_are_the_mean_over_seeded_subsets_and_all_sum_to_one():
    p, y = library(members=6)
    weights = selection.bagged(p, y, bags=5, seed=3)
    assert weights.sum() == pytest.approx(1)
    assert np.array_equal(weights, selection.bagged(p, y, bags=5, seed=3))
    assert not np.array_equal(weights, selection.bagged(p, y, bags=5, seed=4))
    assert np.array_equal(selection.bagged(p, y, bags=2, share=1.0), selection.greedy(p, y))
    # A bag of one member can only take that one: with enough bags every member has its turn.
    singles = selection.bagged(p, y, bags=200, share=1 / 6)
    assert singles == pytest.approx(np.full(6, 1 / 6), abs=0.1)
    # All weights sum to one, and every combination is a distribution.
    p, y = library()
    weights = selection.choose(p, y)
    assert all(w.sum() == pytest.approx(1) and w.min() >= 0 for w in weights.values())
    assert np.array_equal(weights["greedy_loss"], selection.greedy(p, y))
    for name in selection.COMBINATIONS:
        combined = selection.combine(name, p, weights)
        assert combined.shape == p.shape[1:]
        assert combined.sum(1) == pytest.approx(np.ones(len(y)), abs=1e-5)
    assert np.array_equal(selection.combine("best_single", p, weights), p[selection.best_single(p, y)])


def test_averages_and_votes_against_the_formula():
    p, _ = library()
    assert selection.average(p) == pytest.approx(p.mean(0), abs=1e-6)
    weights = np.array([0.5, 0, 0.25, 0.25, 0])
    assert selection.average(p, weights) == pytest.approx((weights[:, None, None] * p).sum(0), abs=1e-6)
    logits = np.log(p.astype(float)).mean(0)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert selection.log_average(p) == pytest.approx(softmax, abs=1e-6)
    # The majority wins, and the mean probability breaks ties.
    first = [[0.6, 0.4, 0.0], [0.6, 0.4, 0.0], [0.0, 1.0, 0.0]]
    p = np.stack([first, [[0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]], 1)
    found = selection.hard_vote(p)
    assert found.argmax(1).tolist() == [0, 1]  # 2 to 1 against the mean; 1 to 1 to 1, by the mean
    assert selection.average(p).argmax(1).tolist() == [1, 1]
    assert found[0] == pytest.approx((np.array([2, 1, 0]) + p[:, 0].mean(0)) / 4)
