"""Corruption errors and shared mistakes, by hand."""

import numpy as np
import pytest

from evaluation.robustness.metrics import mean_corruption_error, relative_corruption_error, shared_mistakes

BASE = np.array([[0.1, 0.3], [0.2, 0.2]])


def test_the_error_of_the_baseline_is_one():
    assert mean_corruption_error(BASE, BASE) == 1
    assert relative_corruption_error(BASE, 0.05, BASE, 0.05) == 1


def test_levels_are_summed_before_the_ratio_and_corruptions_averaged_after_it():
    errors = np.array([[0.1, 0.1], [0.3, 0.1]])
    assert mean_corruption_error(errors, BASE) == pytest.approx((0.2 / 0.4 + 0.4 / 0.4) / 2)
    # The rises: 0.2 - 2 * 0.02 and 0.4 - 2 * 0.02, over 0.4 - 2 * 0.1.
    found = relative_corruption_error(errors, 0.02, BASE, 0.1)
    assert found == pytest.approx((0.16 / 0.2 + 0.36 / 0.2) / 2)


def test_a_baseline_that_never_errs_defines_nothing():
    assert mean_corruption_error(BASE, np.zeros((2, 2))) is None
    assert relative_corruption_error(BASE, 0.0, BASE, 0.2) is None  # no rise under the first or second


def test_shared_mistakes_are_those_of_all_models_the_most_confident_first():
    labels = np.array([0, 0, 0, 1])
    one = np.array([[0.4, 0.6], [0.1, 0.9], [0.9, 0.1], [0.8, 0.2]])
    two = np.array([[0.3, 0.7], [0.2, 0.8], [0.1, 0.9], [0.4, 0.6]])
    assert shared_mistakes(np.stack([one, two]), labels).tolist() == [1, 0]
    assert shared_mistakes(np.stack([one, 1 - two]), labels).tolist() == [3]
