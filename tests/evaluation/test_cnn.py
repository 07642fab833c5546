"""Classification metrics: every one against a slow, obvious version of it."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from evaluation import cnn, doubt
from models import Classifier, create
from utils.training.forward import SMALLEST, cross_entropy


def one_hot(predicted, confidence=1.0, classes=10):
    """Probabilities with `confidence` at the predicted class and the rest shared by the others."""
    found = np.full((len(predicted), classes), (1 - confidence) / (classes - 1))
    found[np.arange(len(predicted)), predicted] = confidence
    return found


def random_case(count=400, seed=0):
    """Probabilities that are right about half of the time, at all confidences."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(10, 0.2), count)
    guess = rng.integers(0, 10, count)
    labels = np.where(rng.random(count) < 0.5, probabilities.argmax(1), guess)
    return probabilities.astype(np.float32), labels


@pytest.mark.parametrize(("right", "count"), [(0, 10), (7, 10), (10, 10), (9951, 10000)])
def test_accuracy_interval_is_wilsons(right, count):
    labels = np.zeros(count, int)
    found = cnn.score(one_hot(np.where(np.arange(count) < right, 0, 1)), labels, "val")
    z, share = 1.959963984540054, right / count
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    assert found["val_accuracy"] == share
    assert found["val_accuracy_low"] == pytest.approx(centre - half, abs=1e-9)
    assert found["val_accuracy_high"] == pytest.approx(centre + half, abs=1e-9)


def test_loss_is_the_mean_negative_log_likelihood():
    probabilities, labels = random_case()
    surprises = [-math.log(max(p[y], SMALLEST)) for p, y in zip(probabilities, labels, strict=True)]
    assert cnn.score(probabilities, labels, "x")["x_loss"] == pytest.approx(np.mean(surprises), rel=1e-6)
    # In float32, of two networks that are wrong for sure, one is more so than the other.
    p = np.array([[1 - 1e-20, 1e-20], [1 - 1e-30, 1e-30]], np.float32)
    assert cnn.score(p, np.array([1, 1]), "x")["x_loss"] == pytest.approx(25 * math.log(10), rel=1e-6)


def slow_calibration_error(probabilities, labels, bins):
    total = 0.0
    for b in range(bins):
        members = []
        for row, label in zip(probabilities, labels, strict=True):
            confidence = max(float(v) for v in row)
            if b / bins < confidence <= (b + 1) / bins:
                members.append((confidence, int(row.argmax() == label)))
        if members:
            confidence, accuracy = np.mean(members, axis=0)
            total += len(members) / len(labels) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error_equals_the_definition(bins):
    probabilities, labels = random_case(seed=bins)
    expected = slow_calibration_error(probabilities, labels, bins)
    assert expected > 0.01
    assert cnn.calibration_error(probabilities, labels, bins) == pytest.approx(expected, abs=1e-9)
    if bins == 15:
        assert cnn.score(probabilities, labels, "x")["x_ece"] == pytest.approx(expected, abs=1e-9)


# True and predicted classes: of three zeros one is called 1; of two ones one is called 2; two is right.
TRUE, PREDICTED = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])


def test_precision_recall_confusion_and_mcnemar_by_hand():
    found = cnn.score(one_hot(PREDICTED, 0.8, classes=4), TRUE, "test")
    assert found["test_precision"] == [1.0, 0.5, 0.5, 0.0]  # nothing is called 3, and no warning is given
    assert found["test_recall"] == [0.66667, 0.5, 1.0, 0.0]
    expected = [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert cnn.confusion(one_hot(PREDICTED, classes=4), TRUE).tolist() == expected
    # McNemar counts only the images on which two classifiers differ.
    a = np.array([True] * 90 + [True] * 8 + [False] * 2)
    b = np.array([True] * 90 + [False] * 8 + [True] * 2)
    both_tails = 2 * sum(math.comb(10, k) for k in range(3)) / 2**10
    assert cnn.mcnemar(a, b) == cnn.mcnemar(b, a) == pytest.approx(both_tails)
    assert cnn.mcnemar(a, a) == 1.0


def test_scaling_divides_logits_and_the_fitted_temperature_is_that_of_a_grid_however_sure():
    logits = np.random.default_rng(0).normal(size=(20, 10))
    p, half = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (logits, logits / 2))
    assert cnn.scale(p, 2.0) == pytest.approx(half, abs=1e-6)
    assert cnn.scale(p, 1.0) == pytest.approx(p, abs=1e-6)
    rng = np.random.default_rng(0)
    true = rng.dirichlet(np.full(10, 0.3), 2000)
    labels = (true.cumsum(1) > rng.random((2000, 1))).argmax(1)
    p = cnn.scale(true, 1 / 3)  # as if the logits were three times too large
    grid = np.exp(np.linspace(-1, 2.5, 141))
    losses = [cross_entropy(cnn.scale(p, t), labels) for t in grid]
    found = cnn.fit_temperature(np.log(p), labels)
    assert found == pytest.approx(grid[np.argmin(losses)], rel=0.03)
    assert found == pytest.approx(3, rel=0.1)
    assert cnn.calibration_error(cnn.scale(p, found), labels) < 0.3 * cnn.calibration_error(p, labels)
    # The temperature of very sure logits is not clipped.
    labels = rng.integers(0, 5, 5000)
    logits = rng.normal(0, 1, (5000, 5)) + 2 * np.eye(5)[labels]
    found = [cnn.fit_temperature(factor * logits, labels) / factor for factor in (0.5, 1, 3)]
    assert found == pytest.approx(found[:1] * 3, rel=1e-3)
    sure = np.zeros((2000, 2), np.float32)
    sure[:, 0] = 200.0  # the probabilities are 1 and 0; one image in ten is wrong
    wrong = (np.arange(2000) % 10 == 0).astype(int)
    assert cnn.fit_temperature(sure / 10, wrong) == pytest.approx(20 / math.log(9), rel=1e-2)


@pytest.mark.parametrize(("count", "least", "most"), [(12, 0.9, 1), (60, 0.6, 0.8), (6000, 0.05, 0.3)])
def test_a_dozen_right_answers_make_no_network_sure(count, least, most):
    labels = np.arange(count) % 3
    logits = 4 * np.eye(3)[labels]  # all right, each with a confidence of 96.5 %
    found = cnn.calibration(logits, logits.max(1), labels)
    temperature = found["temperature"]
    assert least < temperature < most
    doubt = 2 / (math.exp(4 / temperature) + 2)  # the slope of the loss equals that of the penalty
    assert doubt * 4 / temperature == pytest.approx(-((20 / count) ** 2) * math.log(temperature), rel=0.01)
    assert found["least_confidence"] == pytest.approx(min(1 - doubt, 1 - 1 / (count + 2)))
    assert cnn.fit_temperature(logits, (labels + 1) % 3) > 1  # all wrong


def test_calibration_bounds_leave_out_one_in_two_hundred():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 2000)
    logits = rng.normal(0, 1, (2000, 5)) + 4 * np.eye(5)[labels]
    found = cnn.calibration(logits, logits.max(1), labels)
    p = cnn.softmax(logits / found["temperature"])
    assert (p.max(1) < found["least_confidence"]).mean() == pytest.approx(0.005, abs=0.001)
    assert (logits.max(1) < found["least_evidence"]).mean() == pytest.approx(0.005, abs=0.001)
    sharper = cnn.calibration(3 * logits, logits.max(1), labels)
    assert sharper["temperature"] == pytest.approx(3 * found["temperature"], rel=1e-2)


def test_sets_hold_the_label_as_often_as_promised_and_a_person_answers_the_least_sure():
    true = np.arange(1, 101) / 100  # the probability of the true class, the second of two, of 100 images
    known = np.stack([1 - true, true], 1), np.ones(100, int)
    sets = doubt.prediction_sets(known, np.array([[0.9, 0.1], [0.91, 0.09]]), 0.9)  # rank 10 of 100
    assert sets.tolist() == [[True, True], [True, False]]
    assert doubt.prediction_sets(known, known[0], 0.999).all()
    p, y = np.tile([0.9, 0.1], (2000, 1)), np.zeros(2000, int)
    p[:5], y[:3] = [0.6, 0.4], 1  # of the five least sure the first three are wrong
    assert (doubt.errors_left(p, y)[:6] * 2000).tolist() == [3, 2, 1, 0, 0, 0]
    found = doubt.doubts((p, y), p, y)
    assert (found["test_asked_1000_share"], found["test_asked_10000_share"]) == (0.0005, 0.0015)
    assert (found["test_sets_99_accuracy"], found["test_sets_99_size"]) == (0.9975, 0.9975)
    assert (found["test_sets_99.9_accuracy"], found["test_sets_99.9_size"]) == (1, 1.0025)


def test_images_of_no_digit_are_told_by_their_scores():
    scores = {"digits": {"x": torch.arange(100.0)}, "noise": {"x": torch.tensor([94.0, 95, 200, 300])}}
    found = doubt.separations(scores)  # 95 % of the digits have at most 94.05
    assert found == {"noise_x_auc": pytest.approx(0.975), "noise_x_passed_share": 0.25}
    logits, features = torch.tensor([[3.0, 3.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    scores = doubt.unlikeness(logits, features, torch.tensor([[5.0, 0.0], [1.0, 1.0]]))
    expected = {"logit": [-3, 0], "energy": [-3 - math.log(2), -math.log(2)], "distance": [-1, -(0.5**0.5)]}
    expected["entropy"] = [math.log(2)] * 2
    assert {key: value.tolist() for key, value in scores.items()} == {
        key: pytest.approx(value) for key, value in expected.items()
    }


def test_what_lies_off_the_main_directions_of_the_training_images_is_little_evidence(digits):
    model = Classifier(nn.Identity(), 4, 2, directions=1)
    with torch.no_grad():
        model.head.weight.zero_()[0, 0], model.head.bias[:] = 2, 5  # logits: 2 x + 5, 5
        model.centre[0], model.directions[0, 0] = 1, 1
        assert model.evidence(torch.tensor([[3.0, 3, 0, 4]])).tolist() == pytest.approx([(11 - 8) / 5])
    known = doubt.acquaint(create("linear"), digits, torch.arange(100))
    pixels = digits.normalise(digits.images[:100].flatten(1) / 255)
    away = pixels - known.centre
    away -= away @ known.directions.T @ known.directions
    unexplained = torch.linalg.svdvals(pixels - pixels.mean(0))[len(known.directions) :]
    assert away.square().sum() == pytest.approx(float(unexplained.square().sum()), rel=1e-3)
    logits, evidence = doubt.logits_and_evidence(known, digits, torch.arange(100))
    lead = logits.max(1) - logits.mean(1)
    np.testing.assert_allclose(evidence, lead / away.norm(dim=1).numpy(), rtol=1e-3)


def test_a_classifier_is_scored_with_and_without_validation_images(digits):
    torch.manual_seed(0)
    model, val_idx = create("linear"), torch.arange(100, 120)
    test_set = digits._replace(images=digits.images[:30], labels=digits.labels[:30])
    scores, saved, constants = cnn.evaluate_classifier(model, (digits, test_set), val_idx)
    right = saved["test_probabilities"].argmax(1) == saved["test_labels"]
    assert scores["test_accuracy"] == right.mean()
    assert saved["val_indices"].tolist() == val_idx.tolist()
    assert np.array_equal(saved["val_labels"], digits.labels[val_idx].numpy())
    logits = np.log(saved["val_probabilities"])
    expected = cnn.fit_temperature(logits, saved["val_labels"])
    assert constants["temperature"] == pytest.approx(expected, rel=1e-3)
    alone, predictions, constants = cnn.evaluate_classifier(model, (digits, test_set), val_idx[:0])
    doubts = {key for key in scores if "_sets_" in key or "_asked_" in key}  # which need validation images
    assert alone == {key: scores[key] for key in scores.keys() - doubts if key.startswith("test_")}
    assert predictions.keys() == {"test_probabilities", "test_labels"}
    assert constants == {}
