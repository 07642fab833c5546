"""The figure of ensembles: gains and their intervals."""

import numpy as np

from utils.plots import ensemble as plots


def test_gains_are_dots_with_intervals_where_one_is_known(drawn, texts):
    gains = {"greedy_loss": [[0.1, 0.05], [0.0, None]], "bagged": [[-0.1, 0.2]]}
    (axes,) = drawn(plots.plot_gains, [{"name": "ten", "gains": gains}], None).axes
    assert texts(axes.get_yticklabels()) == ["ten"]
    dots = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "o"]
    assert dots == [0.1, 0.0, -0.1]
    ends = [bars.get_segments()[0][:, 0].tolist() for bars in axes.collections]
    assert np.allclose(ends, [[0.05, 0.15], [-0.3, 0.1]])
