"""Figures of a classifier: learning curves, confusion matrix, mistakes, filters."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from utils.plots.style import (
    PALETTE,
    TEST,
    TRAINING,
    VALIDATION,
    WIDTH,
    curve_of,
    every_label,
    figure,
    heat_map,
    lines_and_mean,
    method_color,
    plain_numbers,
    save,
    show_image,
    split_runs,
    whole_numbers,
)

# A filter of 3 x 3 pixels shows nothing: smaller ones than this are not worth a figure.
SMALLEST_FILTER = 5


def plot_learning_curves(
    history: Sequence[dict], path: Path | str, metric: str = "accuracy", records: Sequence[dict] = ()
) -> None:
    """Draw loss, error and learning rate over the epochs: every run thinly, and the mean over the runs.

    history: lines of history.jsonl. Those of one run share "seed" and "fold"; with several "model"s, every
    model has its own colour and mean. A training of one or two epochs is drawn by its steps, where they were
    logged. metric: the share whose difference from 1 is the error; the history has it for validation images
    and, maybe, for training images. records: of the runs, as in metrics.json; their test_<metric> is drawn
    where the training ends.
    """
    models: dict[str | None, list[dict]] = {}
    for line in history:
        models.setdefault(line.get("model"), []).append(line)
    several = len(models) > 1
    fig, axes = figure(1, 3, size=(WIDTH, 3.4 if several else 3.2))
    for model, lines in models.items():
        runs = split_runs(lines)
        for split, name, own in (("train", "training", TRAINING), ("val", "validation", VALIDATION)):
            color = method_color(model) if several else own
            style = {"linestyle": "--" if several and split == "train" else "-"}
            _draw_runs(axes[0], runs, f"{split}_loss", color, None if several else name, **style)
            _draw_runs(axes[1], runs, f"{split}_{metric}", color, None, error=True, **style)
        _draw_runs(axes[2], runs, "lr", method_color(model) if several else PALETTE[6], None)
    tested = [record for record in records if record.get(f"test_{metric}") is not None]
    for record in tested:
        color = method_color(record["model"]) if several else TEST
        axes[1].plot(record["epochs"], 100 * (1 - record[f"test_{metric}"]), "x", color=color, ms=6)
    error = "error (%, log scale)" if metric == "accuracy" else f"1 - {metric.upper()} (%, log scale)"
    titles = ("loss (nats)", error, "learning rate")
    for ax, title in zip(axes, titles, strict=True):
        ax.set(title=title, xlabel="epoch")
        whole_numbers(ax.xaxis)
    axes[1].set_yscale("log", nonpositive="mask")  # an error of zero is a gap
    plain_numbers(axes[1].yaxis)
    handles = axes[0].get_legend_handles_labels()[0]
    if several:
        handles = _model_handles(models)
    if tested:
        color = "black" if several else TEST
        handles.append(Line2D([], [], color=color, marker="x", linestyle="", label="test, every run"))
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    save(fig, path)


def _model_handles(models):
    counts = {model: len(split_runs(lines)) for model, lines in models.items()}
    texts = {model: f"{model} (mean of {count})" if count > 1 else model for model, count in counts.items()}
    handles = [Line2D([], [], color=method_color(model), label=text) for model, text in texts.items()]
    handles.append(Line2D([], [], color="black", linestyle="--", label="training"))
    handles.append(Line2D([], [], color="black", label="validation"))
    return handles


def _draw_runs(ax, runs, key, color, label, error=False, **style):
    curves = (curve_of(run, key) for run in runs)
    lines = [(x, 100 * (1 - np.array(y)) if error else y) for x, y in curves if x]
    marker = "o" if lines and max(len(x) for x, _ in lines) < 3 else None
    lines_and_mean(ax, lines, color, label, marker=marker, **style)


def plot_confusion(counts: np.ndarray, path: Path | str, title: str, classes: Sequence[str]) -> None:
    """Draw the counts of a confusion matrix; the colour shows the errors only, on their own scale.

    counts: (classes, classes), true classes in rows.
    """
    fig, ax = figure(size=(6.8, 5.9))
    diagonal, few = np.eye(len(counts), dtype=bool), len(counts) <= 20
    heat_map(
        ax,
        counts,
        "wrong predictions",
        mask=diagonal,
        annot=np.where(counts, counts, "") if few else None,
        fmt="",
        cmap="Oranges",
        vmin=0,
        vmax=max(1, counts[~diagonal].max()),
        square=True,
    )
    for i, count in enumerate(np.diag(counts) if few else ()):
        ax.text(i + 0.5, i + 0.5, count, ha="center", va="center", color=PALETTE[0], weight="bold", size=9)
    shown = every_label(len(classes), 30)
    places = np.arange(len(classes))[shown] + 0.5
    upright = max(map(len, classes)) > 3
    ax.set_xticks(places, classes[shown], rotation=45 if upright else 0, ha="right" if upright else "center")
    ax.set_yticks(places, classes[shown], rotation=0)
    ax.set(xlabel="predicted", ylabel="true", title=title)
    save(fig, path)


MISTAKES = "Most confidently wrong test images: true → predicted class, index, confidence"


def plot_mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    path: Path | str,
    classes: Sequence[str],
    count: int = 24,
    among: np.ndarray | bool = True,
    title: str = MISTAKES,
) -> None:
    """Draw the images that are wrong with the greatest confidence.

    images: (N, 1, H, W) or (N, H, W) uint8. labels: (N,). probabilities: (N, classes). among: (N,) bool, the
    images that may be shown.
    """
    chosen, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero((chosen != labels) & among)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    columns = 8
    rows = max(1, -(-len(wrong) // columns))
    between = " → " if max(map(len, classes)) <= 4 else "\n→ "  # long names on two lines
    height = 1.3 if between == " → " else 1.45
    fig, axes = figure(rows, columns, size=(WIDTH, height * rows + 0.4), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, i in zip(axes.flat, wrong, strict=False):
        show_image(ax, images[i])
        names = between.join((classes[labels[i]], classes[chosen[i]]))
        ax.set_title(f"{names}\n#{i}  {confidence[i]:.0%}", fontsize=8.5)
    if len(wrong) == 0:
        axes[0, 0].set_title("no mistakes")
    fig.suptitle(title, size=10.5)
    save(fig, path)


def plot_filters(
    weights: np.ndarray, path: Path | str, classes: Sequence[str] | None = None, count: int | None = None
) -> None:
    """Draw filters (n, h, w) of the first layer: red where a bright pixel adds to the output, blue where not.

    classes: names of the outputs of a linear model, whose filters are templates: they are labelled and share
    one scale, so that they can be compared. Other filters have a scale each. count: draw the first ones only.
    """
    total, weights = len(weights), weights[:count]
    whole = weights.shape[1] > 15  # images rather than patches
    columns = min(5 if classes else 10 if whole else 12, len(weights))
    rows = -(-len(weights) // columns)
    cell = min(WIDTH / columns, 1.2)
    width = cell * columns + (1 if classes else 0)
    size = (max(width, 5.5), (cell + (0.2 if classes else 0)) * rows + 0.4)
    fig, axes = figure(rows, columns, size=size, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    limits = np.abs(weights).max((1, 2))
    limits = np.full(len(weights), limits.max()) if classes else limits
    for i, (ax, weight) in enumerate(zip(axes.flat, weights, strict=False)):
        limit = limits[i] or 1.0
        image = ax.imshow(weight, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        if classes:
            ax.set_title(classes[i])
    if classes:
        fig.colorbar(image, ax=axes, label="weight", shrink=0.8)
        fig.suptitle("The template of each class: red pixels speak for it, blue ones against it", size=10.5)
    else:
        which = f"{len(weights)} filters" if len(weights) == total else f"{len(weights)} of {total} filters"
        fig.suptitle(f"First layer: {which}, each on its own scale (red positive, blue negative)", size=10.5)
    save(fig, path)
