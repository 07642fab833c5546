"""The figure of an ensemble: its errors are those of the metrics."""

import numpy as np
import pytest

from utils.plots import ensemble as plots


@pytest.mark.parametrize("libraries", [1, 2])
def test_combinations_are_rows_between_the_mean_member_and_what_none_gets_right(drawn, texts, libraries):
    names = ["average", "vote"]
    record = {"mean_single_test_accuracy": 0.9, "oracle_test_accuracy": 0.99}
    record |= {f"{name}_test_accuracy": 0.95 for name in names}
    record |= {f"{n}_test_accuracy_{end}": a for n in names for end, a in (("low", 0.94), ("high", 0.96))}
    other = {key: value - 0.01 for key, value in record.items()}
    (axes,) = drawn(plots.plot_combinations, [record, other][:libraries], names, None).axes
    expected = ["mean single", "plain average", "majority vote", "no member right"]
    assert texts(axes.get_yticklabels()) == expected
    dots = [line.get_xdata() for line in axes.get_lines() if line.get_marker() == "o"]
    assert np.allclose(dots[1], [5, 6][:libraries])
    assert len(axes.collections) == (libraries == 1)  # libraries share members: no interval of their mean
    assert all(np.allclose(bars.get_segments()[0], [[4, 1], [6, 1]]) for bars in axes.collections)
