"""Differences, their intervals and p-values, against sums by hand."""

import numpy as np
import pytest

from evaluation.cnn import mcnemar
from evaluation.differences import difference, mcnemar_margin


def test_pairs_and_independent_values_have_tests_of_their_own():
    # Pairs differ by -0.01 and 0.03: standard error 0.02, t = 0.5; Student's 97.5 % point is 12.706.
    paired = (0.01, 0.01 - 12.7062 * 0.02, 0.01 + 12.7062 * 0.02, 0.70483)
    assert difference([0.9, 0.95], [0.91, 0.92], paired=True) == pytest.approx(paired, rel=1e-4)
    # Welch: variances 1 / 3 and 4 / 3 of the means, 2.94 degrees of freedom, t = -1.549.
    welch = difference([1, 2, 3], [2, 4, 6], paired=False)
    assert (welch.mean, welch.p) == (-2, pytest.approx(0.2212, abs=1e-3))


@pytest.mark.parametrize(("right", "wrong"), [(30, 11), (2, 9), (1, 0), (7, 6)])
def test_the_margin_of_a_gain_follows_from_its_p_value(right, wrong):
    a, b = np.arange(10_000) >= wrong, np.arange(10_000) < 10_000 - right
    known = 1.96 * (a.astype(float) - b).std() / 100 if abs(right - wrong) > 1 else None
    margin = mcnemar_margin(right - wrong, mcnemar(a, b), 10_000)
    assert margin == (known and pytest.approx(known, abs=1e-6))
