"""Figures of a classifier: learning curves, confusion matrix, mistakes, filters."""

import numpy as np

from utils.plots.style import PALETTE, figure, plain_numbers, save


def learning_curves(history, path, metric="accuracy"):
    """Loss, error and learning rate per epoch; several runs as thin lines about their mean.

    history: lines of history.jsonl; those of one run share "seed" and "fold". metric: the share whose
    difference from 1 is the error, on validation data and, where it is known, on training data.
    """
    runs = {}
    for line in history:
        runs.setdefault((line.get("seed"), line.get("fold")), []).append(line)
    fig, axes = figure(1, 3, size=(11, 3.6))
    for split, color in (("train", PALETTE[0]), ("val", PALETTE[1])):
        name = {"train": "training", "val": "validation"}[split]
        _curves(axes[0], runs.values(), f"{split}_loss", color, name)
        _curves(axes[1], runs.values(), f"{split}_{metric}", color, name, error=True)
    _curves(axes[2], runs.values(), "lr", PALETTE[2], None)
    error = "error (%, log scale)" if metric == "accuracy" else f"1 - {metric.upper()} (%, log scale)"
    titles = ("loss (nats)", error, "learning rate of the last step")
    for ax, title in zip(axes, titles, strict=True):
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes[1].set_yscale("log", nonpositive="mask")  # an error of zero is a gap
    plain_numbers(axes[1].yaxis)
    axes[0].legend()
    save(fig, path)


def _curves(ax, runs, key, color, name, error=False):
    lines = []
    for run in runs:
        points = [(line["epoch"], line[key]) for line in run if line.get(key) is not None]
        if points:
            x, y = np.array(points, dtype=float).T
            lines.append((x, 100 * (1 - y) if error else y))
    if not lines:
        return
    marker = "o" if max(len(x) for x, _ in lines) < 3 else None
    if len(lines) > 1:
        for x, y in lines:
            ax.plot(x, y, color=color, alpha=0.25, linewidth=1)
        longest = max((x for x, _ in lines), key=len)
        table = np.full((len(lines), len(longest)), np.nan)
        for row, (_, y) in zip(table, lines, strict=True):
            row[: len(y)] = y
        lines = [(longest, np.nanmean(table, 0))]  # an early stop leaves its last epochs empty
        name = name and f"{name} (mean of {len(table)})"
    ax.plot(*lines[0], color=color, label=name, marker=marker)


def confusion_matrix(counts, path, title, classes=None):
    """Counts (true class in rows) as numbers; the colour shows the errors only, on their own scale."""
    import seaborn as sns  # here, because it loads pandas, which --help needn't

    classes = classes or [str(i) for i in range(len(counts))]
    fig, ax = figure(size=(7, 6))
    diagonal = np.eye(len(counts), dtype=bool)
    sns.heatmap(
        counts,
        mask=diagonal,
        annot=np.where(counts, counts, ""),
        fmt="",
        cmap="Oranges",
        vmin=0,
        vmax=max(1, counts[~diagonal].max()),
        square=True,
        linewidths=0.5,
        linecolor="#DDDDDD",
        xticklabels=classes,
        yticklabels=classes,
        cbar_kws={"label": "wrong predictions", "shrink": 0.8},
        ax=ax,
    )
    for i, count in enumerate(np.diag(counts)):
        ax.text(i + 0.5, i + 0.5, count, ha="center", va="center", color=PALETTE[0], weight="bold", size=9)
    ax.set(xlabel="predicted", ylabel="true", title=title)
    ax.grid(False)
    save(fig, path)


MISTAKES = "Most confidently wrong test images: true and predicted class, index, confidence"


def worst_mistakes(images, labels, probabilities, path, count=24, among=True, title=MISTAKES):
    """The digits that are wrong with the greatest confidence.

    images: (N, 28, 28) or (N, 1, 28, 28) uint8. labels: (N,). probabilities: (N, classes). NumPy arrays.
    among: (N,) bool, the images that may be shown.
    """
    chosen, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero((chosen != labels) & among)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    columns = 8
    rows = max(1, -(-len(wrong) // columns))
    fig, axes = figure(rows, columns, size=(9, 1.45 * rows + 0.5), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, i in zip(axes.flat, wrong, strict=False):
        ax.imshow(images[i].reshape(28, 28), cmap="gray_r", vmin=0, vmax=255)
        ax.set_title(f"{labels[i]} read as {chosen[i]}\n#{i}  {confidence[i]:.0%}", fontsize=8.5)
    if len(wrong) == 0:
        axes[0, 0].set_title("no mistakes")
    fig.suptitle(title, size=10.5)
    save(fig, path)


def filters(weights, path, count=64):
    """The first layer's filters, each on its own scale about zero: (out, 1, k, k) or (out, 784)."""
    side = int(weights[0].size ** 0.5)
    count = count if side < 28 else 20  # whole images: more would be small, and a large file
    weights = weights.reshape(len(weights), -1)[:count]
    columns = min(16, len(weights)) if side < 28 else min(10, len(weights))
    rows = -(-len(weights) // columns)
    fig, axes = figure(rows, columns, size=(8, 8 * rows / columns + 0.5), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, weight in zip(axes.flat, weights, strict=False):
        limit = np.abs(weight).max() or 1.0
        ax.imshow(weight.reshape(side, side), cmap="RdBu_r", vmin=-limit, vmax=limit)
    fig.suptitle(f"First layer: {len(weights)} filters (red positive, blue negative)", size=11)
    save(fig, path)
