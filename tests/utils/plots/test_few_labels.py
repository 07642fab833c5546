"""Figure of the few-label study: error against labels."""

import numpy as np

from utils.plots import few_labels as plots

CELLS = [
    {"method": method, "labels": labels, "runs": [{"test_accuracy": share - 0.1}, {"test_accuracy": share}]}
    for method, share in (("pixels-knn", 0.7), ("simclr-self_trained", 0.9))
    for labels in (100, 0, 10)
]


def test_the_error_against_labels_has_a_named_line_for_each_method(drawn, texts):
    (axes,) = drawn(plots.plot_error_against_labels, CELLS, None).axes
    assert sorted(texts(axes.texts)) == ["SimCLR, self trained", "raw pixels, k-NN"]
    assert np.allclose(axes.get_lines()[0].get_xydata(), [[10, 35], [100, 35]])
    assert axes.collections[0].get_paths()[0].vertices[:, 1].max() == 40  # the worst draw
