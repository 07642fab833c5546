"""Suspicious labels, hard images and orders of learning, against counts by hand."""

import numpy as np
import pytest
import torch
from helpers import fit_settings

from data import folds
from data.robustness import LABEL_ERRORS
from evaluation import insights
from utils.training.cnn import ClassifierConfig

# By image, four epochs of one network.
RIGHT = np.array([[1, 0, 0, 1, 0], [1, 1, 0, 0, 0], [1, 1, 0, 1, 0], [1, 1, 1, 0, 0]], bool)


def test_an_image_is_scored_by_networks_that_do_not_train_on_it(digits):
    settings = fit_settings(epochs=2, lr=0.01)
    config = ClassifierConfig("linear", 32, "none", 0, 0.0, 0, "cpu", settings)
    cuts = folds(digits.labels, 2, 0)
    held, test = insights.out_of_fold(config, (digits, digits), cuts, 0)
    assert held.shape == (2, 200, 10)
    assert test.shape == (2, 2, 200, 10)
    for fold, (_, held_idx) in enumerate(cuts):
        np.testing.assert_allclose(held[:, held_idx], test[fold][:, held_idx], atol=1e-5)
    assert not np.allclose(test[0], test[1])
    changed = digits.labels.clone()
    changed[cuts[0][1]] = 3  # the labels of a fold don't change its own answers
    other, _ = insights.out_of_fold(config, (digits._replace(labels=changed), digits), cuts, 0)
    np.testing.assert_array_equal(other[:, cuts[0][1]], held[:, cuts[0][1]])


def test_the_least_probable_labels_come_first_and_detection_counts():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.5, 0.3, 0.2]])
    order, suggested, disputed = insights.suspects(p, np.array([0, 0, 1]))
    assert order.tolist() == [1, 2, 0]
    assert suggested.tolist() == [1, 2, 0]
    assert disputed.tolist() == [False, True, True]
    order, wrong = np.array([5, 4, 3, 2, 1, 0]), np.array([0, 1, 0, 1, 0, 1], bool)
    found = insights.detection(order, np.array([0, 0, 1, 1, 1, 1], bool), wrong)
    assert found.pop("wrong_labels") == 3
    assert found == pytest.approx(
        {"precision_at_k": 2 / 3, "recall_at_2k": 1, "disputed_precision": 0.5, "disputed_recall": 2 / 3}
    )
    errors = list(LABEL_ERRORS)
    order = np.array([*range(11), *errors[:5], *range(11, 100)])
    assert insights.reviewed_found(order) == {"reviewed_in_15": 4, "reviewed_in_50": 5, "reviewed_in_100": 5}


def test_learning_order_overlap_and_rank_correlation():
    assert insights.learned_at(RIGHT).tolist() == [1, 2, 4, 5, 5]
    right = np.array([[1, 0, 0, 1, 1], [0, 0, 1, 0, 1], [1, 1, 1, 1, 1]], bool)
    assert insights.overlaps(right).tolist() == [[1, 0.5, 1], [0.5, 1, 1], [1, 1, 1]]
    values = [np.array([1, 2, 3, 4]), np.array([10, 5, 2, 1]), np.array([1, 1, 2, 2]), np.zeros(4)]
    table = insights.rank_correlations(values)
    assert table[0, 1] == pytest.approx(-1)
    assert table[0, 2] == pytest.approx(4 / np.sqrt(20))  # ranks 1.5, 1.5, 3.5, 3.5
    assert table[3].tolist() == [0, 0, 0, 0]
    alone = insights.right_alone(right[:2], ["cnn", "mil"])
    assert {name: images.tolist() for name, images in alone.items()} == {"cnn": [0, 3], "mil": [2]}
    assert insights.right_alone(right, ["cnn", "cnn", "mil"])["cnn"].tolist() == []


def test_halves_are_by_class_hardest_first_and_the_loss_decides_among_equals():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    agreement = np.array([1, 0.5, 1, 0.5, 1, 1, 1, 0])
    loss = np.array([0.1, 0.1, 0.2, 0.2, 0.1, 0.4, 0.2, 0])
    parts = insights.halves(agreement, loss, labels, 0)
    assert parts["hardest"].tolist() == [1, 3, 5, 7]
    assert parts["easiest"].tolist() == [0, 2, 4, 6]
    assert torch.bincount(torch.from_numpy(labels)[parts["random"]]).tolist() == [2, 2]
