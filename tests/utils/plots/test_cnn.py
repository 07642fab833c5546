"""Figures of a classifier: what is plotted, for any number of runs and classes."""

import numpy as np
import pytest

from utils.plots import cnn as plots

FASHION = ("T-shirt/top", "Trouser", "Ankle boot")


def test_a_confusion_matrix_has_the_names_of_the_classes(drawn, texts):
    counts = np.array([[90, 3, 0], [0, 80, 5], [1, 0, 70]])
    ax = drawn(plots.plot_confusion, counts, None, "a title", FASHION).axes[0]
    assert texts(ax.get_xticklabels()) == texts(ax.get_yticklabels()) == list(FASHION)
    assert sorted(filter(None, texts(ax.texts))) == sorted(["90", "80", "70", "3", "5", "1"])
    assert ax.collections[0].get_clim() == (0, 5)  # the diagonal has no part in the scale
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("predicted", "true", "a title")
    names = [f"class {i}" for i in range(47)]  # too many for numbers, and for every name
    ax = drawn(plots.plot_confusion, np.eye(47, dtype=int), None, "", names).axes[0]
    assert (any(texts(ax.texts)), texts(ax.get_xticklabels())) == (False, names[::2])


MISTAKES = ["1 → 2\n#2  90%", "0 → 1\n#0  80%", "2 → 0\n#4  60%"]
FEWER = (FASHION, np.arange(5) < 2, ["T-shirt/top\n→ Trouser\n#0  80%"])


@pytest.mark.parametrize(("classes", "among", "found"), [("012", True, MISTAKES), FEWER, ("012", False, [])])
def test_mistakes_are_in_the_order_of_their_confidence(images, classes, among, found):
    pixels, labels = np.arange(5)[:, None, None, None] * np.ones((1, 4, 4)), np.array([0, 0, 1, 1, 2])
    p = np.array([[0.2, 0.8, 0], [1, 0, 0], [0.1, 0, 0.9], [0, 1, 0], [0.6, 0.2, 0.2]])
    (part,), _, title = images(plots.plot_mistakes, pixels, labels, p, None, classes, among)
    assert (part.texts, title) == (found, plots.MISTAKES if found else "no mistakes")
    assert part.tiles[:, 0, 0].tolist() == [int(text.partition("#")[2][0]) for text in found]
