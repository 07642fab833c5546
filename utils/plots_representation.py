"""Figures of learned representations: training, views, neighbours, maps, accuracy against labels."""

import numpy as np

from utils.plots import PALETTE, figure, plain_numbers, save

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


def view_pairs(views, path):
    """Two views of each image as the network sees them, above one another: (B, 2, 28, 28), any scale."""
    columns = 12
    rows = -(-len(views) // columns)
    fig, axes = figure(2 * rows, columns, size=(8, 1.45 * rows + 0.4), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for i, pair in enumerate(views):
        for j, view in enumerate(pair):
            axes[2 * (i // columns) + j, i % columns].imshow(view, cmap="gray_r")
    fig.suptitle(
        "Pairs of views, one above the other: the network learns that they belong together", size=10.5
    )
    save(fig, path)


def nearest_neighbours(queries, neighbours, labels, neighbour_labels, path):
    """Test digits (left) and their nearest training digits in feature space; a frame marks another class.

    queries: (Q, 28, 28). neighbours: (Q, K, 28, 28). labels: (Q,). neighbour_labels: (Q, K). NumPy arrays.
    """
    rows, columns = neighbour_labels.shape
    fig, axes = figure(rows, columns + 1, size=(8, 0.75 * rows + 0.5), squeeze=False)
    for i in range(rows):
        for j, ax in enumerate(axes[i]):
            ax.imshow(queries[i] if j == 0 else neighbours[i, j - 1], cmap="gray_r", vmin=0, vmax=255)
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            wrong = j > 0 and neighbour_labels[i, j - 1] != labels[i]
            for spine in ax.spines.values():
                spine.set(visible=j == 0 or wrong, color=PALETTE[1] if wrong else "black", linewidth=2)
        axes[i, 0].set_ylabel(labels[i], rotation=0, labelpad=10, va="center", weight="bold")
    fig.suptitle("Test digit (black) and its nearest training digits; orange frame: another class", size=10.5)
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
