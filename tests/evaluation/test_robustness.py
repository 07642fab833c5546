"""Scores of several models under corruption, against recomputed ones; what models say of labels."""

import numpy as np
import pytest

from data.robustness import CORRUPTIONS, LABEL_ERRORS, LEVELS, corrupt
from evaluation import robustness


def by_mean(images):
    """A "classifier" that answers 0 for dark images and 1 for bright ones."""
    bright = images.images.float().mean((1, 2, 3)).numpy() > 60
    return np.eye(10)[bright.astype(int)]


def always(answer):
    return lambda images: np.tile(np.eye(10)[answer], (len(images.labels), 1))


def test_errors_are_those_of_the_corrupted_images(digits):
    subset = np.arange(0, 200, 4)
    models = {"mean": [by_mean], "two": [always(3), always(4)]}
    scored = robustness.score_models(models, digits, subset, 7, True)
    labels = digits.labels.numpy()
    assert scored["mean"].clean.shape == (1, 200, 10)
    assert scored["two"].errors.shape == (2, len(CORRUPTIONS), LEVELS)
    for c, name in enumerate(CORRUPTIONS):
        changed = digits._replace(images=corrupt(digits.images[subset], name, 4, 7))
        wrong = by_mean(changed).argmax(1) != labels[subset]
        assert scored["mean"].errors[0, c, 3] == wrong.mean()
    share = [(labels[subset] != answer).mean() for answer in (3, 4)]
    assert np.allclose(scored["two"].errors, np.reshape(share, (2, 1, 1)))
    assert scored["two"].clean_errors.tolist() == share


def scored(accuracies, level_errors, clean_errors):
    """Scored of models that answer 0 for all images but the wrong ones, which they answer with 1."""
    clean = np.zeros((len(accuracies), 100, 2))
    for p, accuracy in zip(clean, accuracies, strict=True):
        p[:, 0] = np.arange(100) < round(100 * accuracy)
        p[:, 1] = 1 - p[:, 0]
    errors = np.broadcast_to(np.reshape(level_errors, (-1, 1, 1)), (len(accuracies), 9, 5))
    return robustness.Scored(clean, errors, np.array(clean_errors))


def test_a_record_has_means_lists_and_intervals_and_leaves_out_what_is_undefined():
    models = {"a": scored([0.9, 0.8], [0.2, 0.4], [0.1, 0.2]), "b": scored([0.95], [0.15], [0.05])}
    record = robustness.robustness_record(models, np.zeros(100, int), "a")
    assert record["a_accuracies"] == [0.9, 0.8]
    assert record["a_accuracy"] == pytest.approx(0.85)
    assert record["a_corrupted_accuracy"] == pytest.approx(0.7)
    assert record["a_mces"] == pytest.approx([0.2 / 0.3, 0.4 / 0.3], abs=1e-6)
    assert record["a_mce"] == pytest.approx(1)
    assert record["b_mce"] == pytest.approx(0.5)
    assert record["b_relative_mce"] == pytest.approx((0.15 - 0.05) / (0.3 - 0.15))
    assert record["b_errors"] == [0.15] * 45
    assert record["b_accuracy_low"] < 0.95 < record["b_accuracy_high"]
    assert "a_accuracy_low" not in record  # two trainings have a standard deviation
    models = {"a": scored([1.0], [0.0], [0.0]), "b": scored([0.9], [0.2], [0.1])}
    record = robustness.robustness_record(models, np.zeros(100, int), "a")
    assert "b_corrupted_accuracy" in record
    assert not any(key.endswith("mce") for key in record)


def test_only_good_models_have_a_say_on_labels_and_reviewers_are_counted():
    labels = np.zeros(10000, int)  # those of the test set, as far as they are known here
    labels[list(LABEL_ERRORS)] = [review.given for review in LABEL_ERRORS.values()]
    p, poor = np.eye(10)[labels], np.eye(10)[labels]
    poor[7000:7101] = np.eye(10)[1]
    # Reviewers agree; they agree on no label; nobody reviewed it.
    for index, answer, confidence in ((947, 9, 0.6), (2130, 9, 0.9), (5, 1, 0.8)):
        p[index] = confidence * np.eye(10)[answer] + (1 - confidence) / 10
    other = p.copy()
    other[7] = np.eye(10)[1]  # not a mistake of all
    verdicts = robustness.judge_labels({"one": p[None], "two": other[None], "poor": poor[None]}, labels)
    assert verdicts.shared.tolist() == [2130, 5, 947]  # the most confident first
    assert verdicts.answer[[5, 0]].tolist() == [1, 0]
    assert verdicts.confidence[[5, 0]].tolist() == pytest.approx([0.82, 1])
    counts = {"good_models": 2, "shared_mistakes": 3, "shared_reviewed": 2}
    assert robustness.label_record(verdicts, labels) == counts | {"kept_reviewed": 13, "agreed_reviewed": 1}
    assert robustness.judge_labels({"poor": poor[None]}, labels) is None
    assert robustness.judge_labels({"good": p[None, :9999]}, labels[:9999]) is None
    assert robustness.judge_labels({"good": p[None]}, np.zeros(10000, int)) is None


BASE = np.array([[0.1, 0.3], [0.2, 0.2]])


def test_levels_are_summed_before_the_ratio_and_corruptions_averaged_after_it():
    errors = np.array([[0.1, 0.1], [0.3, 0.1]])
    assert robustness.corruption_error(BASE, BASE) == 1
    assert robustness.corruption_error(errors, BASE) == pytest.approx((0.2 / 0.4 + 0.4 / 0.4) / 2)
    # The rises: 0.2 - 2 * 0.02 and 0.4 - 2 * 0.02, over 0.4 - 2 * 0.1.
    relative = robustness.corruption_error(errors - 0.02, BASE - 0.1)
    assert relative == pytest.approx((0.16 / 0.2 + 0.36 / 0.2) / 2)
    assert robustness.corruption_error(BASE, np.zeros((2, 2))) is None  # of a baseline that never errs
    assert robustness.corruption_error(BASE, BASE - 0.2) is None  # or does not rise
