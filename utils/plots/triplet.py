"""The figures of metric learning: training, map, distances of pairs, episodes, accuracy against the data."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle

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
    save,
    split_runs,
    std_bars,
    whole_numbers,
)

GROUP_COLORS = {"": PALETTE[2], "seen_": PALETTE[0], "unseen_": PALETTE[1]}
GROUP_NAMES = {"": "all digits", "seen_": "digits trained on", "unseen_": "unseen digits"}


def plot_embedding_curves(history: Sequence[dict], path: Path | str) -> None:
    """Draw loss, active triplets and P@1, distances, and the norm of the embedding over the epochs.

    history: lines of history.jsonl, several runs told apart by "seed"; a number that it lacks is not drawn.
    """
    runs = split_runs(history)
    fig, axes = figure(2, 2, size=(WIDTH, 5.4), sharex=True)
    loss, share, distance, norm = axes.flat

    def draw(ax, key, color, label=None, scale=1):
        curves = (curve_of(run, key) for run in runs)
        lines = [(x, scale * np.array(y)) for x, y in curves if x]
        marker = "o" if lines and len(lines[0][0]) < 15 else None
        lines_and_mean(ax, lines, color, label, marker=marker, ms=3.5)

    draw(loss, "train_loss", TRAINING)
    draw(share, "train_active_triplets", TRAINING, "active triplets, training", 100)
    draw(share, "val_precision_at_1", VALIDATION, "P@1, validation", 100)
    draw(distance, "train_positive_distance", PALETTE[5], "anchor to positive")
    draw(distance, "train_negative_distance", PALETTE[4], "anchor to negative")
    draw(norm, "train_embedding_norm", TRAINING)
    titles = ("training loss", "share (%)", "mean distance in a training batch", "mean norm of an embedding")
    for ax, title in zip(axes.flat, titles, strict=True):
        ax.set(title=title, ylim=(0, None))
        whole_numbers(ax.xaxis)
        if ax.get_legend_handles_labels()[1]:
            ax.legend()
    for ax in axes[1]:
        ax.set_xlabel("epoch")
    save(fig, path)


def plot_embedding_map(
    points: np.ndarray,
    labels: np.ndarray,
    seen: Collection[int],
    classes: Sequence[str],
    path: Path | str,
    title: str,
) -> None:
    """Draw a map (N, 2) of test embeddings: dots for classes that were trained on, crosses for unseen ones.

    labels: (N,) indices into `classes`.
    """
    fig, ax = figure(size=(WIDTH, 7))
    styles = {
        True: {"marker": "o", "s": 9, "linewidths": 0},
        False: {"marker": "x", "s": 11, "linewidths": 0.8},
    }
    for value, color in enumerate(class_colors(len(classes))):
        own, known = points[labels == value], value in seen
        if len(own) == 0:
            continue
        ax.scatter(*own.T, color=color, **styles[known])
        shape = f"{'circle' if known else 'square'},pad=0.2"
        frame = {"boxstyle": shape, "facecolor": "white", "edgecolor": color, "alpha": 0.9}
        centre = np.median(own, 0)
        ax.text(*centre, classes[value], size=12, weight="bold", ha="center", va="center", bbox=frame)
    ax.set(xticks=[], yticks=[], title=title)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    if len(seen) < len(classes):
        for known, name in ((True, "trained on (round frame)"), (False, "unseen (square frame)")):
            ax.scatter([], [], color="black", label=name, **styles[known] | {"s": 25})
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.01), ncols=2)
    save(fig, path)


def plot_distances(
    pairs: dict[str, tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]],
    threshold: float,
    path: Path | str,
) -> None:
    """Draw histograms of the distances of same and different pairs, one panel per group, and ROC curves.

    pairs: {group: (distances (n,), same (n,) bool, (false-accept rates, accept rates))} with the groups "",
    "seen_" and "unseen_". threshold: of the validation pairs.
    """
    shown = [group for group in pairs if group] or [""]
    fig, axes = figure(1, len(shown) + 1, size=(WIDTH, 3.4))
    top = max(np.quantile(distances, 0.999) for distances, _, _ in pairs.values())
    bins = np.linspace(0, top, 50)
    for ax, group in zip(axes, shown, strict=False):
        distances, same, _ = pairs[group]
        for own, color, name in ((same, PALETTE[0], "one class"), (~same, PALETTE[1], "two classes")):
            ax.hist(distances[own], bins, density=True, alpha=0.6, color=color, label=name)
        ax.axvline(threshold, color=REFERENCE, linestyle=":", label="threshold")
        ax.set(title=f"pairs of {GROUP_NAMES[group]}", xlabel="distance")
    axes[0].set_ylabel("density of test pairs")
    highest = max(ax.get_ylim()[1] for ax in axes[:-1])
    for ax in axes[:-1]:
        ax.set_ylim(0, 1.25 * highest)  # room for the legend
    axes[0].legend(loc="upper left")
    for group, (_, _, curve) in pairs.items():
        axes[-1].plot(*curve, color=GROUP_COLORS[group], label=GROUP_NAMES[group])
    axes[-1].set(xscale="log", xlim=(1e-3, 1), ylim=(0, 1.4), title="verification: ROC")  # room, too
    axes[-1].set_yticks(np.linspace(0, 1, 6))
    axes[-1].set(xlabel="false-accept rate (log scale)", ylabel="accept rate")
    axes[-1].legend(loc="upper left")
    save(fig, path)


def plot_support(
    support: np.ndarray,
    nearest: np.ndarray,
    farthest: np.ndarray,
    wrong: np.ndarray,
    unseen: np.ndarray,
    path: Path | str,
) -> None:
    """Draw each class's support image, its nearest test images, and the farthest test images of its class.

    support: (N, H, W). nearest: (N, M, H, W), wrong: (N, M) bool, of another class. farthest: (N, M, H, W).
    unseen: (N,) bool, classes that were not trained on.
    """
    gap, size, count = 4, support.shape[1], nearest.shape[1]
    tiles = np.concatenate([support[:, None], nearest, farthest], 1)
    image, cell = mosaic(tiles, gap), size + gap
    fig, ax = figure(size=(WIDTH, WIDTH * image.shape[0] / image.shape[1] + 0.7))
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=tiles.max(), interpolation="nearest")
    framed = [(row, 0, GROUP_COLORS["unseen_" if unseen[row] else "seen_"]) for row in range(len(support))]
    framed += [(row, 1 + column, "black") for row, column in np.argwhere(wrong)]
    for row, column, color in framed:
        corner = (column * cell + gap - 2, row * cell + gap - 2)
        ax.add_patch(Rectangle(corner, size + 3, size + 3, fill=False, edgecolor=color, linewidth=2))
    heads = (
        (0.5, "support"),
        (1 + count / 2, "nearest test images"),
        (1 + 1.5 * count, "farthest of its class"),
    )
    for centre, text in heads:
        ax.text(centre * cell, -3, text, ha="center", va="bottom")
    for column in (1, 1 + count):
        ax.axvline(column * cell + 1, color="#999999", linewidth=0.8)
    ax.set_axis_off()
    title = "Orange frame: a digit that was never trained on; blue: trained on; black: another digit"
    fig.suptitle(title if unseen.any() else "Black frame: another digit", size=10.5)
    save(fig, path)


def plot_accuracy(panels: Sequence[dict], path: Path | str) -> None:
    """Draw the accuracy of episodes against the training data, mean and standard deviation.

    panels: {"title", "xlabel", "log": bool, "curves"} each. curves: a list of {"label", "points": [[x,
    [accuracy, ...]], ...]}; the accuracies are those of single trainings.
    """
    fig, axes = figure(1, len(panels), size=(WIDTH, 4), sharey=True, squeeze=False)
    for ax, panel in zip(axes[0], panels, strict=True):
        for curve, color, marker in zip(panel["curves"], PALETTE, "os^D", strict=False):
            x = np.array([point for point, _ in curve["points"]])
            mean = np.array([100 * np.mean(values) for _, values in curve["points"]])
            std = np.array([100 * np.std(v, ddof=1) if len(v) > 1 else 0 for _, v in curve["points"]])
            ax.plot(x, mean, color=color, marker=marker, ms=5, label=curve["label"])
            std_bars(ax, x, mean - std, mean + std, color)
        ax.set(xlabel=panel["xlabel"], title=panel["title"])
        if panel["log"]:
            ticks = [point for point, _ in panel["curves"][0]["points"]]
            ax.set_xscale("log")
            ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
            ax.xaxis.minorticks_off()
        else:
            whole_numbers(ax.xaxis)
    axes[0, 0].set_ylabel("test accuracy over episodes (%)")
    axes[0, 0].legend(loc="lower right")
    save(fig, path)
