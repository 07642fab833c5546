"""Evaluation of an embedding: rankings and verification against slow loops, episodes and floors by hand."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import noise
from torch import nn

from evaluation import triplet as retrieval
from evaluation.triplet import Embedded, RetrievalOptions, pair_distances, verification_scores
from models import create

OPTIONS = RetrievalOptions(5, (0, 1), episodes=8, queries=4)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    for name, value in {"PAIRS": 200, "CHUNK": 30, "DEFORMED_COPIES": 2}.items():
        monkeypatch.setattr(retrieval, name, value)


def apart(count, classes=5, spread=0.0):
    """Embeddings on the axes, one axis per class."""
    labels = torch.arange(count) % classes
    return Embedded(torch.eye(classes)[labels] + spread * noise(count, classes), labels)


def test_distances_are_right_where_rows_are_close_and_zero_where_they_are_equal():
    rows = nn.functional.normalize(noise(40, 64), dim=1)
    close = rows + 1e-3 * nn.functional.normalize(noise(40, 64, seed=1), dim=1)
    found = retrieval.distances(rows.unsqueeze(0), close)[0]
    expected = (rows.double().unsqueeze(1) - close.double()).norm(dim=2)
    assert torch.allclose(found.double(), expected, rtol=1e-6, atol=0)
    assert not retrieval.distances(rows, rows).diagonal().any()


# --- Rankings ---


def ranked(distances, relevant):
    metrics = retrieval.ranking_metrics(np.array([distances], float), np.array([relevant], bool))
    return [float(metrics[name][0]) for name in ("precision_at_1", "r_precision", "map_at_r")]


def test_rankings_by_hand():
    # R = 3: hits at the ranks 1 and 3, and one at 5 that does not count.
    by_hand = [1, 2 / 3, (1 + 2 / 3) / 3]
    assert ranked([0.1, 0.2, 0.3, 0.4, 0.5], [1, 0, 1, 0, 1]) == pytest.approx(by_hand)
    assert ranked([1, 2, 3, 4], [1, 1, 0, 0]) == [1, 1, 1]
    assert ranked([1, 2, 3, 4], [0, 0, 1, 1]) == ranked([1, 2, 3, 4], [0, 0, 0, 0]) == [0, 0, 0]
    assert ranked([0.0] * 10, [1] * 3 + [0] * 7)[:2] == pytest.approx([0.3, 0.3])  # chance


def test_ties_are_the_mean_over_all_their_orders():
    rng = np.random.default_rng(0)
    distances, relevant = rng.integers(0, 4, (8, 6)).astype(float), rng.random((8, 6)) < 0.5
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
        assert ranked(distances[query], relevant[query]) == pytest.approx(np.mean(rows, 0).tolist())


def test_rankings_leave_the_query_out_and_average_by_its_group():
    rows = apart(40, spread=0.6)
    record = retrieval.ranking_scores(rows, OPTIONS)
    distances = torch.cdist(rows.rows, rows.rows).numpy()
    labels, values = rows.labels.numpy(), []
    for query in range(40):
        others = np.arange(40) != query
        values.append(ranked(distances[query, others], labels[others] == labels[query])[2])
    values = np.array(values)
    assert record["test_map_at_r"] == pytest.approx(values.mean(), abs=1e-6)
    assert record["test_seen_map_at_r"] == pytest.approx(values[labels < 2].mean(), abs=1e-6)
    assert record["test_unseen_map_at_r"] == pytest.approx(values[labels >= 2].mean(), abs=1e-6)
    single = Embedded(torch.cat([rows.rows, rows.rows[:1] + 9]), torch.cat([rows.labels, torch.tensor([4])]))
    more = retrieval.ranking_scores(single, RetrievalOptions(classes=5, seen=[0, 1]))
    assert more["test_map_at_r"] == pytest.approx(record["test_map_at_r"], abs=0.01)  # no query


def test_watched_precision_leaves_the_image_itself_out(data):
    model = nn.Module()
    model.encoder = nn.Flatten()
    validate = retrieval.watch_precision(data[0], torch.arange(50), every=2, epochs=3, precision="fp32")
    assert validate(model, 1) == {}
    watched = validate(model, 2)["val_precision_at_1"]
    assert validate(model, 3)["val_precision_at_1"] == watched
    rows = nn.functional.normalize(data[0].normalise(data[0].images[:50].float() / 255).flatten(1), dim=1)
    expected = retrieval.ranking_scores(Embedded(rows, data[0].labels[:50]), RetrievalOptions(10, range(10)))
    assert watched == pytest.approx(expected["test_precision_at_1"])


# --- Verification ---


def test_the_best_threshold_and_the_equal_error_rate_by_hand():
    # Accepted up to 1, 2, 3, 4: 1/3, 2/3, 2/3, 1 of the pairs of one class, 0, 1/2, 1, 1 of the others.
    distances, same = np.array([1.0, 2, 2, 3, 4]), np.array([True, True, False, False, True])
    assert retrieval.best_threshold(distances, same) == 1
    assert retrieval.equal_error_rate(distances, same) == pytest.approx(0.4)
    for kinds, error, threshold in (([1, 1, 0, 0], 0, 2), ([1, 0, 1, 0], 0.5, 1)):
        pairs = np.array([1.0, 2, 3, 4]), np.array(kinds, bool)
        assert retrieval.equal_error_rate(*pairs) == pytest.approx(error)
        assert retrieval.best_threshold(*pairs) == threshold


def test_pairs_are_what_they_say_and_half_are_of_one_class():
    rows = Embedded(torch.arange(50.0).unsqueeze(1), torch.arange(50) // 10)
    distances, same = pair_distances(rows, [1, 2, 4], seed=0)
    assert same.sum() == len(same) / 2 == 200
    assert distances.min() > 0  # never an image and itself
    assert distances[same].max() < 10
    single = Embedded(torch.arange(12.0).unsqueeze(1), torch.tensor([0] * 10 + [1, 2]))
    distances, same = pair_distances(single, [0, 1, 2], seed=0)
    assert distances.min() > 0


def test_verification_of_separated_and_of_constant_embeddings():
    record = verification_scores(apart(50), apart(50), OPTIONS)
    for group in ("", "seen_", "unseen_"):
        assert record[f"test_{group}equal_error_rate"] == record[f"test_{group}false_accept_rate"] == 0
        assert record[f"test_{group}verification_accuracy"] == 1
    constant = Embedded(torch.ones(50, 2), torch.arange(50) % 5)
    record = verification_scores(constant, constant, OPTIONS)
    assert record["test_equal_error_rate"] == pytest.approx(0.5)
    assert record["test_verification_accuracy"] == 0.5
    assert record["test_false_accept_rate"] == 1


# --- Episodes ---


def test_an_episode_by_hand():
    support = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.0, 1.0]])
    queries = torch.tensor([[2.0, 0.1], [0.0, 3.0], [1.0, 0.9], [0.3, 0.1]])
    # Class 0 has the support images 0 and 2, class 1 the images 1 and 3.
    episode = torch.tensor([[[0, 2], [1, 3]]])
    assert retrieval.episode_accuracies(support, queries, (episode, episode), unit=True).tolist() == [0.75]
    # To the L1 distance a query is nearer to class 0, by 2.6 against 2.7; it is not to the Euclidean one.
    support, queries = torch.tensor([[0.0, 0.0], [1.5, 1.6]]), torch.tensor([[2.6, 0.0], [1.5, 1.6]])
    episode = torch.tensor([[[0], [1]]])
    for order, share in ((1, 1.0), (2, 0.5)):
        found = retrieval.episode_accuracies(support, queries, (episode, episode), order == 1, order)
        assert found.tolist() == [share]


def test_learnt_weights_make_a_weighted_l1_distance(data):
    weights = torch.linspace(0, 2, 784)
    options = replace(OPTIONS, weights=weights, order=1)
    rows, labels = retrieval.embed(nn.Flatten(), data[0], torch.arange(20), options)
    plain, _ = retrieval.embed(nn.Flatten(), data[0], torch.arange(20), OPTIONS)
    apart = (weights * (plain[0] - plain[1]).abs()).sum()
    torch.testing.assert_close(retrieval.distances(rows, rows, 1)[0, 1], apart)
    pairs = Embedded(torch.tensor([[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]]), torch.tensor([0, 0, 1]))
    distances, same = pair_distances(pairs, [0, 1], 0, order=1)
    assert set(distances[same]) == {7.0}


def test_episodes_are_scored_by_their_mean_and_its_interval():
    record = retrieval.episode_scores(apart(100), apart(100), OPTIONS)
    names = {f"test_{ways}_{k}shot_accuracy" for ways in ("5way", "unseen_3way") for k in (1, 5)}
    assert record.keys() == {name + end for name in names for end in ("", "_low", "_high")}
    assert set(record.values()) == {1.0}
    values = np.array([0.4, 0.6, 0.5, 0.5])
    record = retrieval.episode_scores(apart(100), apart(100), OPTIONS, lambda support, test, episodes: values)
    half = 1.96 * np.std(values, ddof=1) / 2
    ends = record["test_5way_1shot_accuracy_low"], record["test_5way_1shot_accuracy_high"]
    assert ends == pytest.approx((0.5 - half, 0.5 + half), abs=1e-4)


# --- The whole evaluation ---


def test_an_evaluation_has_every_metric_and_shuffled_test_labels_score_as_chance(data):
    options = RetrievalOptions(10, (0, 1, 2), episodes=20, queries=5)
    record, arrays = retrieval.evaluate_retrieval(nn.Flatten(), data, torch.arange(60), options)
    averaged = retrieval.embed(nn.Flatten(), data[0], torch.arange(5), replace(options, copies=2)).rows
    assert averaged.norm(dim=1).tolist() == pytest.approx([1.0] * 5)
    assert not torch.allclose(averaged, retrieval.embed(nn.Flatten(), data[0], torch.arange(5), options).rows)
    kinds = ("precision_at_1", "r_precision", "map_at_r", "equal_error_rate", "false_accept_rate")
    names = {f"test_{group}{name}" for name in kinds for group in ("", "seen_", "unseen_")}
    names |= {f"test_{kind}_{k}shot_accuracy" for kind in ("10way", "unseen_7way") for k in (1, 5)}
    assert all(0 <= record[name] <= 1 for name in names)
    assert arrays["embeddings"].shape == (100, 784)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    shuffled = data[1]._replace(labels=data[1].labels[order])
    chance, _ = retrieval.evaluate_retrieval(nn.Flatten(), (data[0], shuffled), torch.arange(60), options)
    assert chance["test_10way_5shot_accuracy"] < 0.2
    assert chance["val_threshold"] == record["val_threshold"]  # it comes from validation pairs alone
    assert chance["test_equal_error_rate"] != record["test_equal_error_rate"]


def test_floors_are_scored_on_the_same_episodes(data):
    options = RetrievalOptions(10, (0, 1, 2), episodes=4, queries=5)
    encoders = {"pixels": nn.Flatten(), "other": create("linear", 0)}
    record = retrieval.evaluate_floors(encoders, True, data, options)
    names = ("10way_1shot", "10way_5shot", "unseen_7way_1shot")
    for floor in ("pixels", "deformed", "other"):
        assert all(0 <= record[f"test_{floor}_{name}_accuracy"] <= 1 for name in names)
    assert record["test_other_10way_1shot_accuracy"] == record["test_pixels_10way_1shot_accuracy"]
    assert record["test_pixels_precision_at_1"] > 0.2
    assert "test_deformed_precision_at_1" not in record
