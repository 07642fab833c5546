"""Evaluation of an embedding: episodes, rankings, verification, floors, on embeddings made by hand."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from torch import nn

from data import load
from data.triplet.episodes import Episodes
from evaluation.triplet import retrieval
from evaluation.triplet.metrics import ranking_metrics
from evaluation.triplet.retrieval import (
    Embedded,
    RetrievalOptions,
    class_groups,
    class_rates,
    embed,
    episode_accuracies,
    evaluate_retrieval,
    floor_scores,
    pair_distances,
    ranking_scores,
    verification_scores,
    watch_precision,
)
from models import create, save_model


@pytest.fixture(autouse=True)
def few(monkeypatch):
    for name, value in {"PAIRS": 200, "REFERENCES": 5, "CHUNK": 30, "DEFORMED_COPIES": 2}.items():
        monkeypatch.setattr(retrieval, name, value)


@pytest.fixture
def data(tiny_dir):
    return load("mnist", tiny_dir)


def apart(count, classes=5, spread=0.0):
    """Embeddings on the axes, one axis per class."""
    labels = torch.arange(count) % classes
    noise = torch.randn(count, classes, generator=torch.Generator().manual_seed(0))
    return Embedded(torch.eye(classes)[labels] + spread * noise, labels)


def test_groups_are_named_only_when_there_are_unseen_classes():
    assert class_groups(4, [0, 1, 2, 3]) == {"": [0, 1, 2, 3]}
    assert class_groups(4, [0, 2]) == {"": [0, 1, 2, 3], "seen_": [0, 2], "unseen_": [1, 3]}


def test_an_episode_by_hand():
    support = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.0, 1.0]])
    queries = torch.tensor([[2.0, 0.1], [0.0, 3.0], [1.0, 0.9], [0.3, 0.1]])
    # Class 0 has the support images 0 and 2, class 1 the images 1 and 3.
    episodes = Episodes(
        torch.tensor([[0, 1]]), torch.tensor([[[0, 2], [1, 3]]]), torch.tensor([[[0, 2], [1, 3]]])
    )
    assert episode_accuracies(support, queries, episodes, unit=True).tolist() == [0.75]


def test_episodes_of_separated_classes_are_all_right():
    rows = apart(100)
    options = RetrievalOptions((0, 1), episodes=8, queries=4)
    groups = class_groups(5, options.seen)
    record = retrieval.episode_scores(rows, rows, groups, options, seed=0)
    names = {f"test_{ways}_{k}shot_accuracy" for ways in ("5way", "unseen_3way") for k in (1, 5)}
    assert {key for key in record if key.endswith("accuracy")} == names
    assert {record[name] for name in names} == {1.0}
    assert {record[f"{name}_low"] for name in names} == {1.0}


def test_rankings_leave_the_query_out_and_average_by_its_group():
    rows = apart(40, spread=0.6)
    record = ranking_scores(rows, class_groups(5, [0, 1]))
    distances = torch.cdist(rows.rows, rows.rows).numpy()
    labels, values = rows.labels.numpy(), []
    for query in range(40):
        others = np.arange(40) != query
        found = ranking_metrics(distances[[query]][:, others], (labels == labels[query])[None, others])
        values.append(float(found["map_at_r"][0]))
    values = np.array(values)
    assert record["test_map_at_r"] == pytest.approx(values.mean(), abs=1e-6)
    assert record["test_seen_map_at_r"] == pytest.approx(values[labels < 2].mean(), abs=1e-6)
    assert record["test_unseen_map_at_r"] == pytest.approx(values[labels >= 2].mean(), abs=1e-6)


def test_pairs_are_what_they_say_and_half_are_of_one_class():
    rows = Embedded(torch.arange(50.0).unsqueeze(1), torch.arange(50) // 10)
    distances, same = pair_distances(rows, [1, 2, 4], seed=0)
    assert same.sum() == len(same) / 2 == 200
    assert distances.min() > 0  # never an image and itself
    assert distances[same].max() < 10


def test_verification_of_separated_and_of_constant_embeddings():
    record, arrays = verification_scores(apart(50), apart(50), class_groups(5, [0, 1]), seed=0)
    for group in ("", "seen_", "unseen_"):
        assert record[f"test_{group}equal_error_rate"] == 0
        assert record[f"test_{group}verification_accuracy"] == 1
        assert record[f"test_{group}false_accept_rate"] == 0
        assert len(arrays[f"{group}pair_distances"]) == 400
    constant = Embedded(torch.ones(50, 2), torch.arange(50) % 5)
    record, _ = verification_scores(constant, constant, class_groups(5, [0, 1]), seed=0)
    assert record["test_equal_error_rate"] == pytest.approx(0.5)
    assert record["test_verification_accuracy"] == 0.5
    assert record["test_false_accept_rate"] == 1


def test_the_threshold_comes_from_the_validation_pairs_alone():
    val, test = apart(50), apart(50, spread=1.0)
    thresholds = {
        verification_scores(val, Embedded(test.rows, labels), class_groups(5, [0, 1]), seed=0)[0][
            "val_threshold"
        ]
        for labels in (test.labels, test.labels.roll(1))
    }
    assert len(thresholds) == 1


def test_class_rates_have_the_false_accept_rate_that_tells_a_collapse():
    good = class_rates(apart(50), apart(50), 0.5, 5, seed=0)
    assert good["test_class_accept_rates"] == [1.0] * 5
    assert good["test_class_false_accept_rates"] == [0.0] * 5
    constant = Embedded(torch.ones(50, 2), torch.arange(50) % 5)
    collapsed = class_rates(constant, constant, 0.5, 5, seed=0)
    assert collapsed["test_class_accept_rates"] == [1.0] * 5
    assert collapsed["test_class_false_accept_rates"] == [1.0] * 5


def test_copies_are_averaged_and_leave_a_direction(data):
    options = RetrievalOptions((0, 1), copies=2)
    plain = embed(nn.Flatten(), data[0], torch.arange(5), RetrievalOptions((0, 1)))
    averaged = embed(nn.Flatten(), data[0], torch.arange(5), options)
    assert averaged.rows.norm(dim=1).tolist() == pytest.approx([1.0] * 5)
    assert not torch.allclose(plain.rows, averaged.rows)
    again = embed(nn.Flatten(), data[0], torch.arange(5), options)
    assert torch.equal(averaged.rows, again.rows)


def test_an_evaluation_has_every_metric_and_shuffled_test_labels_score_as_chance(data):
    options = RetrievalOptions((0, 1, 2), episodes=20, queries=5)
    scores = evaluate_retrieval(nn.Flatten(), data, torch.arange(60), options)
    for name in ("precision_at_1", "r_precision", "map_at_r", "equal_error_rate", "false_accept_rate"):
        for group in ("", "seen_", "unseen_"):
            assert 0 <= scores.record[f"test_{group}{name}"] <= 1
    for name in ("10way_1shot", "10way_5shot", "unseen_7way_1shot", "unseen_7way_5shot"):
        assert 0 <= scores.record[f"test_{name}_accuracy"] <= 1
    assert len(scores.record["test_class_accept_rates"]) == 10
    assert scores.arrays["embeddings"].shape == (100, 784)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    shuffled = data[1]._replace(labels=data[1].labels[order])
    chance = evaluate_retrieval(nn.Flatten(), (data[0], shuffled), torch.arange(60), options)
    assert chance.record["test_10way_5shot_accuracy"] < 0.2
    assert chance.record["val_threshold"] == scores.record["val_threshold"]


def test_floors_are_scored_on_the_same_episodes(data, tmp_path):
    options = RetrievalOptions((0, 1, 2), episodes=4, queries=5)
    save_model(tmp_path / "encoder.pt", create("linear", 0), "linear", {}, num_classes=0)
    args = Namespace(floors=True, compare=str(tmp_path / "encoder.pt"), encoder="fast")
    record = floor_scores(args, data, options, seed=0)
    for floor in ("pixels", "untrained", "deformed", "other"):
        for name in ("10way_1shot", "10way_5shot", "unseen_7way_1shot"):
            assert 0 <= record[f"test_{floor}_{name}_accuracy"] <= 1
    assert record["test_other_10way_1shot_accuracy"] == record["test_pixels_10way_1shot_accuracy"]
    assert record["test_pixels_precision_at_1"] > 0.2
    assert "test_deformed_precision_at_1" not in record


def test_watched_precision_leaves_the_image_itself_out(data):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Flatten()

    indices = torch.arange(50)
    validate = watch_precision(data[0], indices, every=2, epochs=3, precision="fp32")
    assert validate(Model(), 1) == {}
    found = validate(Model(), 2)["val_precision_at_1"]
    assert validate(Model(), 3)["val_precision_at_1"] == found
    rows = nn.functional.normalize(data[0].normalise(data[0].images[:50].float() / 255).flatten(1), dim=1)
    cosine = (rows @ rows.T).fill_diagonal_(-2)
    labels = data[0].labels[:50]
    assert found == pytest.approx((labels[cosine.argmax(1)] == labels).float().mean().item())
