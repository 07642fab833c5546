"""Evaluation of bags: predictions and metrics, by hand and against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from data.mil import Bags, build
from evaluation import mil
from models.mil import create_mil


def test_predictions_do_not_depend_on_how_the_bags_are_batched(digits, monkeypatch):
    some = build(digits.labels, torch.arange(200), 30, mean_length=5)
    model = create_mil("fast", "attention")
    model.train()
    found = mil.predict_bags(model, digits, some)
    assert model.training
    monkeypatch.setattr("evaluation.mil.INSTANCES", 7)
    again = mil.predict_bags(model, digits, some)
    for name in ("probabilities", "attention", "instances"):
        np.testing.assert_allclose(found[name], again[name], rtol=1e-3, atol=1e-4)
    assert found["probabilities"].shape == (30,)
    assert found["attention"].shape == (len(some.indices),)
    ends = some.lengths.cumsum(0)[:-1]
    sums = [part.sum() for part in np.split(found["attention"], ends)]
    np.testing.assert_allclose(sums, 1, atol=1e-5)


def test_loss_and_auc_of_a_few_bags():
    p, y = np.array([0.9, 0.2, 0.6, 0.5]), np.array([True, False, False, True])
    assert mil.bag_loss(np.log(p / (1 - p)), y) == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.5]).mean())
    assert mil.auc(p, y) == 0.75
    # Exact where the probability rounds to one.
    sure = np.array([40.0, -200.0], np.float32)
    assert mil.bag_loss(sure, np.array([False, True])) == pytest.approx(120)
    assert mil.bag_loss(sure, np.array([True, False])) == pytest.approx(math.exp(-40) / 2)


def test_key_instances_are_ranked_inside_their_own_bag_and_no_threshold_beats_the_best():
    #   bag 0: ranked right; bag 1: negative; bag 2: keys only; bag 3: one pair of two, and a tie
    keys = torch.tensor([1, 0, 0, 0, 0, 1, 1, 0, 0, 1], dtype=torch.bool)
    some = Bags(torch.zeros(10, dtype=torch.int64), torch.tensor([3, 2, 2, 3]), keys)
    scores = np.array([0.1, 0.05, 0.02, 9.0, 8.0, 1.0, 2.0, 0.5, 0.1, 0.5])
    third = roc_auc_score([0, 0, 1], scores[7:])
    assert third == 0.75
    assert mil.key_auc(scores, some) == pytest.approx((1 + third) / 2)
    nothing = Bags(some.indices, some.lengths, torch.zeros(10, dtype=torch.bool))
    assert mil.key_auc(scores, nothing) is None
    # No threshold gets more bags right than the best one.
    y = np.array([False, False, True, True])
    assert mil.best_threshold(np.array([0.1, 0.3, 0.35, 0.9]), y) == pytest.approx(0.325)
    assert mil.best_threshold(np.array([0.1, 0.2, 0.8, 0.9]), y) == pytest.approx(0.5)
    rng = np.random.default_rng(0)
    for _ in range(400):
        p = rng.choice([0, 0.1, 0.2, 0.6, 0.7, 0.999, 1], rng.integers(1, 6)).astype(np.float32)
        y = rng.random(len(p)) < 0.5
        every = [((p >= cut) == y).sum() for cut in (*np.unique(p), 2)]
        assert ((p.astype(np.float64) >= mil.best_threshold(p, y)) == y).sum() == max(every)


def test_scores_of_bags_follow_from_the_predictions():
    keys = torch.tensor([1, 0, 0, 0, 0, 1], dtype=torch.bool)
    some = Bags(torch.zeros(6, dtype=torch.int64), torch.tensor([2, 2, 2]), keys)
    found = {
        "logits": np.array([0.8, -0.4, -0.8]),
        "probabilities": np.array([0.7, 0.4, 0.3]),
        "attention": np.array([0.9, 0.1, 0.5, 0.5, 0.8, 0.2]),
        "instances": np.array([2.0, -1.0, 0.0, 0.0, -3.0, 1.0]),
    }
    scores = mil.bag_scores(found, some, "test", threshold=0.5)
    names = [f"test_{name}" for name in ("accuracy", "auc", "key_auc", "instance_auc", "loss")]
    loss = mil.bag_loss(found["logits"], np.array([True, False, True]))
    assert [scores[name] for name in names] == pytest.approx([2 / 3, 0.5, 0.5, 1.0, loss])
    assert scores["test_accuracy_low"] < 2 / 3 < scores["test_accuracy_high"]
    # The threshold is not rounded to float32.
    low, high = np.float32(0.3), np.nextafter(np.float32(0.3), np.float32(1))
    threshold = (float(low) + float(high)) / 2  # it would round to one of the two
    keys = torch.tensor([0, 1], dtype=torch.bool)
    two = Bags(torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64), keys)
    found = {name: np.array([low, high]) for name in ("logits", "probabilities", "attention", "instances")}
    assert mil.bag_scores(found, two, "test", threshold)["test_accuracy"] == 1


def test_the_threshold_comes_from_validation_bags_and_is_a_half_without(digits):
    torch.manual_seed(0)
    val, test = (build(digits.labels, torch.arange(200), 20, mean_length=4, seed=(i,)) for i in (0, 1))
    model, data, labels = create_mil("linear", "attention"), (digits, digits), val.labels.numpy()
    found = {part: mil.predict_bags(model, data[0], bags) for part, bags in (("val", val), ("test", test))}
    metrics, saved = mil.evaluate_bags(model, data, {"val": val, "test": test, "test_clean": val}, "fp32")
    assert metrics["threshold"] == mil.best_threshold(found["val"]["probabilities"], labels)
    assert mil.bag_scores(found["test"], test, "test", metrics["threshold"]).items() <= metrics.items()
    assert mil.bag_scores(found["val"], val, "val", metrics["threshold"]).items() <= metrics.items()
    assert metrics["test_clean_auc"] == mil.auc(found["val"]["probabilities"], labels)
    plain, _ = mil.evaluate_bags(model, data, {"test": test}, "fp32")
    assert plain == {"threshold": 0.5, **mil.bag_scores(found["test"], test, "test", 0.5)}
    assert np.array_equal(saved["test_probabilities"], found["test"]["probabilities"])
    assert np.array_equal(saved["val_indices"], val.indices.numpy())
    assert np.array_equal(saved["test_labels"], test.labels.numpy())

    # The criterion of an epoch is the error of the AUC.
    epoch = mil.validate_bags(digits, val, "fp32")(model, 1)
    assert epoch["val_auc"] == metrics["val_auc"] == pytest.approx(1 - epoch["val_error"])
    assert epoch["val_loss"] == mil.bag_loss(found["val"]["logits"], labels)
