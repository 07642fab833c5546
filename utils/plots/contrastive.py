"""Figures of learned representations: training, views, neighbours, maps, accuracy against labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from data import Data
from utils.plots.style import (
    PALETTE,
    REFERENCE,
    TRAINING,
    VALIDATION,
    WIDTH,
    class_colors,
    curve_of,
    figure,
    lines_and_mean,
    mosaic,
    plain_numbers,
    save,
    split_runs,
    whole_numbers,
)
from utils.runs.folder import RunFolder

# A standard deviation can exceed the mean error: on a log scale the band ends at this error, in per cent.
LEAST_BAND = 0.01


def plot_contrastive_curves(history: Sequence[dict], chance: float, path: Path | str) -> None:
    """Draw loss, k-NN error, accuracy of pairs, and alignment and uniformity over the epochs.

    history: lines of history.jsonl, several runs told apart by "seed"; a number that it lacks is not drawn.
    chance: the loss of features that are all equal, nats.
    """
    runs = split_runs(history)
    fig, axes = figure(2, 2, size=(WIDTH, 5.4), sharex=True)
    loss, error, pairs, geometry = axes.flat

    def draw(ax, key, color, label=None, change=lambda y: y):
        curves = (curve_of(run, key) for run in runs)
        lines = [(x, change(np.array(y))) for x, y in curves if x]
        marker = "o" if lines and len(lines[0][0]) < 15 else None
        lines_and_mean(ax, lines, color, label, marker=marker, ms=3.5)

    draw(loss, "train_loss", TRAINING, "training")
    loss.axhline(chance, color=REFERENCE, linestyle=":", label="chance")
    draw(error, "val_knn_accuracy", VALIDATION, None, lambda y: 100 * (1 - y))
    draw(pairs, "train_contrastive_accuracy", TRAINING, "training", lambda y: 100 * y)
    draw(geometry, "train_alignment", PALETTE[5], "alignment")
    draw(geometry, "train_uniformity", PALETTE[4], "uniformity")
    loss.set(title="contrastive loss (nats)")
    error.set(title="k-NN error on validation images (%)")
    pairs.set(title="views that find their partner (%)")
    geometry.set(title="alignment and uniformity: lower is better")
    for ax in axes.flat:
        whole_numbers(ax.xaxis)
        if ax.get_legend_handles_labels()[1]:
            ax.legend()
    for ax in axes[1]:
        ax.set_xlabel("epoch")
    save(fig, path)


def _show_mosaic(tiles: np.ndarray, gap: int, title: str) -> tuple[Figure, Axes]:
    image = mosaic(tiles, gap)
    fig, ax = figure(size=(WIDTH, WIDTH * image.shape[0] / image.shape[1] + 0.4))
    ax.imshow(image, cmap="gray_r", vmin=tiles.min(), vmax=tiles.max(), interpolation="nearest")
    ax.set_axis_off()
    fig.suptitle(title, size=10.5)
    return fig, ax


def plot_views(views: np.ndarray, path: Path | str, columns: int = 12) -> None:
    """Draw two views of each image as the network sees them, above one another: (B, 2, H, W), any scale."""
    rows = len(views) // columns
    pairs = views[: rows * columns].reshape(rows, columns, 2, *views.shape[2:])
    tiles = pairs.swapaxes(1, 2).reshape(2 * rows, columns, *views.shape[2:])
    title = "Pairs of views, one above the other: the network learns that they belong together"
    fig, ax = _show_mosaic(tiles, 3, title)
    for row in range(2, 2 * rows, 2):
        ax.axhline(row * (views.shape[2] + 3) + 1, color="#999999", linewidth=0.8)
    save(fig, path)


def plot_neighbours(
    queries: np.ndarray,
    neighbours: np.ndarray,
    labels: np.ndarray,
    neighbour_labels: np.ndarray,
    path: Path | str,
) -> None:
    """Draw test images (left) and their nearest training images in feature space, other classes framed.

    queries: (Q, H, W). neighbours: (Q, K, H, W). labels: (Q,). neighbour_labels: (Q, K).
    """
    gap, (height, width) = 4, queries.shape[1:]
    tiles = np.concatenate([queries[:, None], neighbours], 1)
    title = "Test images (black frame) and their nearest training images; orange frame: another class"
    fig, ax = _show_mosaic(tiles, gap, title)
    framed = [(row, 0, "black") for row in range(len(queries))]
    framed += [(row, k + 1, PALETTE[1]) for row, k in np.argwhere(neighbour_labels != labels[:, None])]
    for row, column, color in framed:
        corner = (column * (width + gap) + gap - 1.5, row * (height + gap) + gap - 1.5)
        ax.add_patch(Rectangle(corner, width + 2, height + 2, fill=False, edgecolor=color, linewidth=2))
    save(fig, path)


def plot_maps(
    maps: Sequence[dict],
    path: Path | str,
    text: str | None = None,
    classes: Sequence[str] | None = None,
) -> None:
    """Draw two-dimensional maps side by side; every class has a colour, and its name at its median.

    maps: {"title", "points": (N, 2), "labels": (N,) indices into `classes`} each. classes: names, by default
    the indices. text: kept inside the PNG.
    """
    count = 1 + max(int(np.max(found["labels"])) for found in maps)
    classes = classes or [str(i) for i in range(count)]
    colors = np.array(class_colors(len(classes)))
    cell = WIDTH / max(2, len(maps))
    fig, axes = figure(1, len(maps), size=(cell * len(maps), cell + 0.3), squeeze=False)
    for ax, found in zip(axes[0], maps, strict=True):
        points, labels = np.asarray(found["points"]), np.asarray(found["labels"])
        ax.scatter(*points.T, c=colors[labels], s=5, linewidths=0)
        for i in np.unique(labels):
            centre = np.median(points[labels == i], 0)
            ax.text(*centre, classes[i], **(_SHORT if len(classes[i]) < 3 else _LONG))
        ax.set(title=found["title"], xticks=[], yticks=[])
        ax.grid(False)
    save(fig, path, text)


def plot_encoder(
    run: RunFolder, data: Data, arrays: dict[str, np.ndarray], columns: dict[str, np.ndarray], title: str
) -> None:
    """Draw neighbours.png and map.png of a run and write the points of the map, map.csv.

    arrays: of predictions.npz. columns: digit, x and y of the features, and of the pixels, (N,) each.
    """
    train, test = ((part.images.squeeze(1).cpu().numpy(), part.labels.cpu().numpy()) for part in data)
    queries, nearest = arrays["queries"], arrays["nearest"]
    tiles, classes = (test[0][queries], train[0][nearest]), (test[1][queries], train[1][nearest])
    plot_neighbours(*tiles, *classes, run.path("neighbours.png"))
    digit, x, y, pixels_x, pixels_y = columns.values()
    rows = zip(*columns.values(), strict=True)
    text = "".join(f"{d},{a:.1f},{b:.1f},{c:.1f},{e:.1f}\n" for d, a, b, c, e in rows)
    run.write_text("map.csv", ",".join(columns) + "\n" + text)
    maps = [
        {"title": "t-SNE of raw pixels", "points": np.stack([pixels_x, pixels_y], 1), "labels": digit},
        {"title": f"t-SNE of {title}", "points": np.stack([x, y], 1), "labels": digit},
    ]
    plot_maps(maps, run.path("map.png"), classes=data[1].classes)


_NAME = {"weight": "bold", "ha": "center", "va": "center"}
_BOX = {"facecolor": "white", "alpha": 0.85, "linewidth": 0}
_SHORT = {**_NAME, "size": 12, "bbox": {**_BOX, "boxstyle": "circle,pad=0.15"}}
_LONG = {**_NAME, "size": 8.5, "bbox": {**_BOX, "boxstyle": "round,pad=0.15"}}


def plot_error_against_labels(curves: Sequence[dict], path: Path | str, text: str | None = None) -> None:
    """Draw the test error against labels per class on log scales, with a band of one standard deviation.

    curves: a list of {"label", "color": index of PALETTE, "style", "points": [[labels per class,
    [accuracy, ...]], ...]}; the accuracies are those of single draws of labels. text: kept inside the PNG.
    """
    fig, ax = figure(size=(WIDTH, 5))
    for curve in curves:
        x = np.array([count for count, _ in curve["points"]])
        mean = np.array([100 * (1 - np.mean(values)) for _, values in curve["points"]])
        std = np.array([100 * np.std(v, ddof=1) if len(v) > 1 else 0 for _, v in curve["points"]])
        color = PALETTE[curve["color"]]
        ax.fill_between(
            x, np.maximum(mean - std, LEAST_BAND), mean + std, color=color, alpha=0.15, linewidth=0
        )
        ax.plot(x, mean, curve["style"], color=color, label=curve["label"], marker="o", ms=5)
    ax.fill_between([], [], [], color=REFERENCE, alpha=0.15, linewidth=0, label="± 1 SD of the draws")
    ticks = sorted({count for curve in curves for count, _ in curve["points"]})
    ax.set(xscale="log", yscale="log", xlabel="labelled images per class (log scale)")
    ax.set_ylabel("test error (%, log scale)")
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.xaxis.minorticks_off()
    plain_numbers(ax.yaxis)
    ax.legend(ncols=2)
    save(fig, path, text)
