"""The figures of the few-label study and of MoCo are PNG files, the same for the same input."""

import numpy as np
import pytest
from PIL import Image

from utils.plots import few_labels as plots
from utils.plots.moco import plot_moco_curves

METRIC = "test_accuracy"


def cells():
    rng = np.random.default_rng(0)
    found = []
    for method, share in (("pixels-knn", 0.7), ("simclr-self_trained", 0.99), ("other-consistent", 1.0)):
        for labels in (0, 10, 100):
            values = np.minimum(share + 0.01 * rng.standard_normal(4), 1).tolist()
            runs = [{METRIC: value} for value in values]
            mean = {METRIC: float(np.mean(values))}
            found.append({"method": method, "labels": labels, "runs": runs, "mean": mean})
    return found


def history():
    lines = [{"epoch": e, "train_loss": 8 - e, "train_contrastive_accuracy": 0.1} for e in (1, 2)]
    return [{**line, "train_batch_accuracy": 0.2} for line in lines] + [{"epoch": 3, "train_loss": 4.0}]


DIGITS = np.zeros((20, 28, 28), np.uint8)
FIGURES = {
    "error against labels": lambda path: plots.plot_error_against_labels(cells(), path),
    "single draws": lambda path: plots.plot_draws(cells(), path),
    "worst draw": lambda path: plots.plot_worst_draw(
        DIGITS, DIGITS[:13], np.arange(13) % 10, np.arange(13) % 3, "the worst", path
    ),
    "nothing wrong": lambda path: plots.plot_worst_draw(
        DIGITS, DIGITS[:0], np.zeros(0, int), np.zeros(0, int), "all right", path
    ),
    "moco": lambda path: plot_moco_curves(history(), 8.3, path),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_the_same_input_gives_the_same_png(tmp_path, draw):
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    draw(one)
    draw(two)
    assert one.read_bytes() == two.read_bytes()
    with Image.open(one) as image:
        assert image.width == 830


def test_a_method_s_name_as_words():
    assert plots.shown("simclr-self_trained") == "simclr, self trained"
    assert plots.look("simclr-knn")[0] != plots.look("moco-knn")[0]
    assert plots.look("simclr-knn")[1:] != plots.look("simclr-spread")[1:]
