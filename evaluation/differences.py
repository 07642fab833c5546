"""Tests of differences: of two runs, from a published number, of two classifiers on the same images."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple


class Difference(NamedTuple):
    """A difference of means, its 95 % interval (low, high) and the p-value of its test."""

    mean: float
    low: float
    high: float
    p: float


def difference(a: Sequence[float], b: Sequence[float], paired: bool) -> Difference:
    """Return mean(a) - mean(b), of at least two values each; ValueError for pairs of unequal number.

    paired: a paired t-test of a[i] and b[i], else Welch's test.
    """
    from scipy import stats

    test = stats.ttest_rel(a, b) if paired else stats.ttest_ind(a, b, equal_var=False)
    low, high = test.confidence_interval(0.95)
    return Difference(fmean(a) - fmean(b), float(low), float(high), float(test.pvalue))


def differs(values: Sequence[float], mean: float, std: float | None = None, count: int | None = None) -> bool:
    """Return whether the mean of values differs from another by a t-test, at 5 %.

    std, count: of the other's values, for Welch's test; without them its mean is taken to have no noise.
    """
    from scipy import stats

    if std is None or count is None:
        return bool(stats.ttest_1samp(values, mean).pvalue < 0.05)
    own = fmean(values), stdev(values), len(values)
    return bool(stats.ttest_ind_from_stats(*own, mean, std, count, equal_var=False).pvalue < 0.05)


def mcnemar_margin(net: int, p: float, count: int) -> float | None:
    """Return half of the 95 % interval of a gain of `net` of `count` images, a share of them.

    The interval needs the number of images on which two classifiers differ: the only one that has this gain
    and this p-value of McNemar's exact test. With a gain of at most one image many have: then None.
    """
    from scipy.stats import binomtest

    for differing in range(abs(net), count, 2) if abs(net) > 1 else ():
        if abs(binomtest((differing + net) // 2, differing).pvalue / p - 1) < 1e-6:
            return 1.96 * (differing - net**2 / count) ** 0.5 / count
    return None
