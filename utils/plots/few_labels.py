"""Figures of the few-label study: error against labels, single draws, and what the worst draw got wrong."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.plots.style import PALETTE, WIDTH, error_percent, figure, mosaic, plain_numbers, save

# The colour says where the features come from, line and marker what was done with them.
SOURCES = ("pixels", "mlp1", "mlp", "cnn", "supcon", "simclr", "moco")
STYLES = {
    "": ("--", "X"),
    "augmented": ("-", "o"),
    "knn": (":", "s"),
    "linear": ("--", "D"),
    "finetuned": ("-", "v"),
    "spread": ("-.", "P"),
    "self_trained": (":", "^"),
    "refined": ("-", "^"),
    "consistent": ("-", "*"),
}
COLORS = dict(zip(SOURCES, (PALETTE[i] for i in (7, 4, 5, 0, 3, 1, 2)), strict=True))
OTHER_COLOR = PALETTE[6]


def look(method: str) -> tuple[str, str, str]:
    """Return colour, line style and marker of a method "<source>-<what>"."""
    source, _, what = method.partition("-")
    return COLORS.get(source, OTHER_COLOR), *STYLES.get(what, ("-", "o"))


def values_of(cell: dict, metric: str) -> np.ndarray:
    """Return the metric of every draw."""
    return np.array([row[metric] for row in cell["runs"]])


def plot_error_against_labels(
    cells: Sequence[dict], path: Path | str, text: str | None = None, metric: str = "test_accuracy"
) -> None:
    """Draw mean error against labels on log scales, with a band from the best to the worst draw.

    cells: of sweep.json, {"method", "labels", "runs": [{metric: accuracy}, ...]}. Methods are listed from
    the worst to the best with the most labels. Cells without labels have no place on a log scale.
    text: kept inside the PNG.
    """
    cells = [cell for cell in cells if cell["labels"]]
    methods: dict[str, list[tuple[int, np.ndarray]]] = {}
    for cell in cells:
        methods.setdefault(cell["method"], []).append((cell["labels"], values_of(cell, metric)))
    order = sorted(methods, key=lambda name: max(methods[name], key=lambda point: point[0])[1].mean())
    fig, ax = figure(size=(WIDTH, 5.5))
    for name in order:
        points = sorted(methods[name], key=lambda point: point[0])
        x = [labels for labels, _ in points]
        mean = np.array([values.mean() for _, values in points])
        worst, best = (np.array([end(values) for _, values in points]) for end in (np.min, np.max))
        color, line, marker = look(name)
        ax.fill_between(x, error_percent(worst), error_percent(best), color=color, alpha=0.12, linewidth=0)
        ax.plot(x, error_percent(mean), line, color=color, marker=marker, ms=6, lw=1.5, label=shown(name))
    ticks = sorted({cell["labels"] for cell in cells})
    ax.set(xscale="log", yscale="log", xlabel="labelled images in all (log scale)")
    ax.set_ylabel("error (%, log scale)")
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.xaxis.minorticks_off()
    plain_numbers(ax.yaxis)
    ax.legend(fontsize=8.5, loc="center left", bbox_to_anchor=(1, 0.5), title="band: all draws")
    save(fig, path, text)


def shown(method: str) -> str:
    """Return a method's name as words: "simclr-self_trained" -> "simclr, self trained"."""
    return method.replace("-", ", ").replace("_", " ")


def plot_draws(
    cells: Sequence[dict], path: Path | str, text: str | None = None, metric: str = "test_accuracy"
) -> None:
    """Draw one row per method, one dot per draw of the labels, a bar at the mean; error on a log scale."""
    cells = sorted(cells, key=lambda cell: cell["mean"][metric])
    fig, ax = figure(size=(WIDTH, 1.4 + 0.28 * len(cells)))
    for row, cell in enumerate(cells):
        error = error_percent(values_of(cell, metric))
        color = look(cell["method"])[0]
        ax.scatter(error, np.full(len(error), row), s=26, color=color, alpha=0.6, linewidths=0)
        ax.plot([error.mean()] * 2, [row - 0.32, row + 0.32], color="black", linewidth=1.5)
    ax.set_yticks(range(len(cells)), [shown(cell["method"]) for cell in cells], size=9)
    labels = {cell["labels"] for cell in cells}
    ax.set(xscale="log", xlabel="error (%, log scale); dots: draws of the labels, bars: their mean")
    ax.set_title(f"{', '.join(f'{n:,}' for n in sorted(labels))} labels")
    plain_numbers(ax.xaxis)
    save(fig, path, text)


def plot_worst_draw(
    given: np.ndarray,
    wrong: np.ndarray,
    labels: np.ndarray,
    answers: np.ndarray,
    title: str,
    path: Path | str,
    columns: int = 10,
) -> None:
    """Draw the labelled digits of a draw beside those that the method got wrong with them.

    given: (L, 28, 28), by class. wrong: (W, 28, 28), with their labels and the answers, (W,) each.
    """
    fig, (left, right) = figure(1, 2, size=(WIDTH, 5))
    for ax, digits, name in ((left, given, "labels it was given"), (right, wrong, "digits it got wrong")):
        rows = max(1, -(-len(digits) // columns))
        tiles = np.zeros((rows * columns, *given.shape[1:]), np.float32)
        tiles[: len(digits)] = digits
        gap = 3 if ax is left else 12
        ax.imshow(mosaic(tiles.reshape(rows, columns, *given.shape[1:]), gap), cmap="gray_r")
        ax.set_axis_off()
        ax.set_title(name, size=10.5)
    size = given.shape[1] + 12
    for i, (label, answer) in enumerate(zip(labels, answers, strict=True)):
        row, column = divmod(i, columns)
        place = (column * size + 12 + given.shape[1] / 2, row * size + 6)
        right.text(*place, f"{label}→{answer}", size=6.5, ha="center", va="center")
    right.set_title(f"digits it got wrong (label→answer): {len(wrong)} shown", size=10.5)
    fig.suptitle(title, size=11)
    save(fig, path)
