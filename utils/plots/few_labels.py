"""Figures of the few-label study: error against labels, single draws, and what the worst draw got wrong."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy import ndarray

from utils.plots import style
from utils.plots.style import Images, plot_images

# The colour, an index of the palette, says where features come from, line and marker what was done with them.
COLORS = {"pixels": 7, "mlp1": 4, "mlp": 5, "cnn": 0, "supcon": 3, "simclr": 1, "moco": 2}
STYLES = {
    "": ("--", "X"),
    "knn": (":", "s"),
    "linear": ("--", "D"),
    "finetuned": ("-", "v"),
    "spread": ("-.", "P"),
    "self_trained": (":", "^"),
    "refined": ("-", "^"),
    "consistent": ("-", "*"),
}


def method_style(method: str) -> dict[str, str]:
    """Return the name in words, colour, line and marker of a method "<source>-<what is done>"."""
    source, _, what = method.partition("-")
    line, marker = STYLES.get(what, ("-", "o"))
    name, color = method.replace("-", ", ").replace("_", " "), style.PALETTE[COLORS.get(source, 6)]
    return {"label": name, "color": color, "style": line, "marker": marker}


def plot_error_against_labels(
    cells: Sequence[dict], path: Path | str, description: str | None = None, metric: str = "test_accuracy"
) -> None:
    """Plot mean error against labels, with a band from the best to the worst draw; the best method is last.

    cells: of sweep.json, {"method", "labels", "runs": [{metric: accuracy}, ...]}; those without labels have
    no place on a log scale. description: kept inside the PNG.
    """
    methods: dict[str, list] = {}
    for cell in sorted((cell for cell in cells if cell["labels"]), key=lambda cell: cell["labels"]):
        points = methods.setdefault(cell["method"], [])
        points.append((cell["labels"], [run[metric] for run in cell["runs"]]))
    order = sorted(methods, key=lambda name: np.mean(methods[name][-1][1]))
    fig, ax = style.figure(size=(style.WIDTH, 5.5))
    curves = [method_style(name) | {"points": methods[name]} for name in order]
    style.error_lines(ax, curves, "labelled images in all (log scale)", band="range")
    ax.set_ylabel("error (%, log scale)")
    fig.legend(fontsize=8.5, loc="outside right center", title="band: all draws")
    style.save(fig, path, description)


def plot_draws(
    cells: Sequence[dict], path: Path | str, description: str | None = None, metric: str = "test_accuracy"
) -> None:
    """Plot one row per method, the best last: one dot per draw of the labels, a bar at the mean."""
    values = {cell["method"]: [run[metric] for run in cell["runs"]] for cell in cells}
    looks = {name: method_style(name) for name in sorted(values, key=lambda name: np.mean(values[name]))}
    fig, ax = style.figure(size=(style.WIDTH, 1.4 + 0.28 * len(values)))
    style.error_rows(ax, [(look["label"], look["color"], values[name]) for name, look in looks.items()])
    ax.set_xlabel("error (%, log scale); dots: draws of the labels, bars: their mean")
    ax.set_title(f"{cells[0]['labels']:,} labels")
    style.save(fig, path, description)


def plot_worst_draw(
    given: ndarray, wrong: ndarray, labels: ndarray, answers: ndarray, title: str, path: Path | str
) -> None:
    """Plot the labelled digits (L, H, W) of a draw above wrong ones (W, H, W): labels and answers (W,)."""
    texts = [f"{label}→{answer}" for label, answer in zip(labels, answers, strict=True)]
    parts = [Images(given, title="labels it was given")]
    parts += [Images(wrong, texts, title=f"digits it got wrong (label→answer): {len(wrong)} shown")]
    plot_images(parts, 20, path, title)
