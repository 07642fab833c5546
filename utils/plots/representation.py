"""Figures of learned representations: training, views, neighbours, maps, accuracy against labels."""

import numpy as np
from matplotlib.patches import Rectangle

from utils.plots.style import PALETTE, figure, plain_numbers, save

# One colour a digit, in every map of features.
DIGIT_COLORS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"),
    *("#56B4E9", "#000000", "#8B4513", "#999999", "#B2DF00"),
)


def contrastive_curves(history, chance, path):
    """Loss beside its chance level, contrastive and k-NN accuracy, alignment and uniformity per epoch.

    history: lines of history.jsonl, several runs told apart by "seed". chance: the loss of features that
    are all equal, nats.
    """
    runs = {}
    for line in history:
        runs.setdefault(line.get("seed"), []).append(line)
    fig, axes = figure(1, 3, size=(11, 3.6))
    panels = (
        (axes[0], [("train_loss", "training", 0)]),
        (
            axes[1],
            [("val_knn_accuracy", "k-NN, validation digits", 1), ("train_contrastive_accuracy", "pairs", 0)],
        ),
        (axes[2], [("train_alignment", "alignment", 0), ("train_uniformity", "uniformity", 1)]),
    )
    for ax, lines in panels:
        for key, label, color in lines:
            for i, run in enumerate(runs.values()):
                points = [(line["epoch"], line[key]) for line in run if key in line]
                label_once = label if i == 0 else None
                marker = "o" if len(points) < 15 else None
                ax.plot(
                    *zip(*points, strict=True), color=PALETTE[color], label=label_once, marker=marker, ms=4
                )
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        ax.set_xlabel("epoch")
    axes[0].axhline(chance, color="#555555", linestyle=":", label="chance")
    axes[0].set(title="contrastive loss (nats)", ylim=(0, None))
    axes[1].set(title="share right", ylim=(0, 1.02))
    axes[2].set(title="lower is better")
    for ax in axes:
        ax.legend()
    save(fig, path)


def mosaic(tiles, gap):
    """Tiles (rows, columns, h, w) as one image, with `gap` white pixels around each of them.

    One picture is drawn many times faster than an axes for every tile.
    """
    rows, columns, height, width = tiles.shape
    cells = np.full((rows, columns, height + gap, width + gap), np.nan, dtype=np.float32)
    cells[:, :, :height, :width] = tiles
    image = cells.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap))
    return np.pad(image, ((gap, 0), (gap, 0)), constant_values=np.nan)


def _show_mosaic(tiles, gap, title):
    image = mosaic(tiles, gap)
    fig, ax = figure(size=(8, 8 * image.shape[0] / image.shape[1] + 0.4))
    ax.imshow(image, cmap="gray_r", vmin=tiles.min(), vmax=tiles.max())
    ax.set_axis_off()
    fig.suptitle(title, size=10.5)
    return fig, ax


def view_pairs(views, path, columns=12):
    """Two views of each image as the network sees them, above one another: (B, 2, 28, 28), any scale."""
    rows = len(views) // columns
    pairs = views[: rows * columns].reshape(rows, columns, 2, *views.shape[2:])
    tiles = pairs.swapaxes(1, 2).reshape(2 * rows, columns, *views.shape[2:])
    title = "Pairs of views, one above the other: the network learns that they belong together"
    fig, ax = _show_mosaic(tiles, 3, title)
    for row in range(2, 2 * rows, 2):
        ax.axhline(row * (views.shape[2] + 3) + 1, color="#999999", linewidth=0.8)
    save(fig, path)


def nearest_neighbours(queries, neighbours, labels, neighbour_labels, path):
    """Test digits (left) and their nearest training digits in feature space; a frame marks another class.

    queries: (Q, 28, 28). neighbours: (Q, K, 28, 28). labels: (Q,). neighbour_labels: (Q, K). NumPy arrays.
    """
    gap, size = 4, queries.shape[1]
    tiles = np.concatenate([queries[:, None], neighbours], 1)
    title = "Test digits (black frame) and their nearest training digits; orange frame: another class"
    fig, ax = _show_mosaic(tiles, gap, title)
    others = np.argwhere(neighbour_labels != labels[:, None]) + [0, 1]
    for row, column, color in [(i, 0, "black") for i in range(len(queries))] + [
        (*o, PALETTE[1]) for o in others
    ]:
        corner = (column * (size + gap) + gap - 1.5, row * (size + gap) + gap - 1.5)
        ax.add_patch(Rectangle(corner, size + 2, size + 2, fill=False, edgecolor=color, linewidth=2))
    save(fig, path)


def feature_maps(maps, path, text=None):
    """Two-dimensional maps side by side, coloured by digit.

    maps: a list of {"title", "points": (N, 2), "labels": (N,)}.
    """
    fig, axes = figure(1, len(maps), size=(4 * len(maps), 4.3), squeeze=False)
    for ax, found in zip(axes[0], maps, strict=True):
        points, labels = np.asarray(found["points"]), np.asarray(found["labels"])
        ax.scatter(*points.T, c=[DIGIT_COLORS[y] for y in labels], s=5, linewidths=0)
        for digit in range(10):
            if (labels == digit).any():
                centre = np.median(points[labels == digit], 0)
                ax.text(*centre, digit, size=13, weight="bold", ha="center", va="center", bbox=_LABEL)
        ax.set(title=found["title"], xticks=[], yticks=[])
        ax.grid(False)
    save(fig, path, text)


_LABEL = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "alpha": 0.85, "linewidth": 0}


def accuracy_against_labels(curves, path, text=None):
    """Test error against labels per class on log scales, with a band of one standard deviation.

    curves: a list of {"label", "color": index of PALETTE, "style", "points": [[labels per class,
    [accuracy, ...]], ...]}; the accuracies are those of single draws of labels.
    """
    fig, ax = figure(size=(8, 5))
    for curve in curves:
        x = np.array([count for count, _ in curve["points"]])
        mean = np.array([np.mean(values) for _, values in curve["points"]])
        std = np.array([np.std(values, ddof=1) if len(values) > 1 else 0 for _, values in curve["points"]])
        color = PALETTE[curve["color"]]
        low, high = (100 * np.maximum(1 - mean + sign * std, 1e-4) for sign in (-1, 1))
        ax.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        ax.plot(x, 100 * (1 - mean), curve["style"], color=color, label=curve["label"], marker="o", ms=5)
    ticks = sorted({count for curve in curves for count, _ in curve["points"]})
    ax.set(xscale="log", yscale="log", xlabel="labelled images per class (log scale)")
    ax.set_ylabel("test error (%, log scale)")
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.xaxis.minorticks_off()
    plain_numbers(ax.yaxis)
    ax.legend(fontsize=9, ncols=2)
    save(fig, path, text)
