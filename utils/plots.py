"""Every figure of the repository: one look, and PNG bytes that depend on the input alone."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

# Okabe and Ito's colour-blind-safe palette, dark enough for white paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
STYLE = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#DDDDDD",
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "legend.frameon": False,
}
plt.rcParams.update(STYLE)


def figure(rows=1, columns=1, size=(8, 4.5), **kwargs):
    """A figure and its axes in the repository's style. size: inches; 8 wide fills the README."""
    return plt.subplots(rows, columns, figsize=size, layout="constrained", **kwargs)


def save(fig, path, description=None):
    """Write the PNG without date or version, so that equal figures are equal files.

    description: a text to keep inside the PNG, for the function `description` to read.
    """
    metadata = {"Software": None, **({"Description": description} if description else {})}
    fig.savefig(path, format="png", metadata=metadata)
    plt.close(fig)


def description(path):
    """The description inside a PNG, or None when there is no such file, no PNG or no description."""
    try:
        with Image.open(path) as image:
            return image.text.get("Description")
    except (OSError, AttributeError):
        return None


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


# --- The report: one colour per method, everywhere ---

METHOD_COLORS = {
    "linear": "#999999",
    "mlp": "#E69F00",
    "lenet": "#56B4E9",
    "cnn": "#0072B2",
    "fast": "#D55E00",
    "wide": "#009E73",
    "resnet18": "#CC79A7",
    "resnet50": "#000000",
    "compact": "#8B4513",
    "simclr": "#0072B2",
    "supcon": "#D55E00",
    "mixed": "#9A6324",
    "attention": "#0072B2",
    "gated-attention": "#56B4E9",
    "loss-attention": "#009E73",
    "mean": "#E69F00",
    "max": "#D55E00",
    "instance-mean": "#999999",
    "instance-max": "#CC79A7",
}
OTHER_METHOD = "#555555"
REFERENCE = "#555555"
# A log axis can't show an error of zero: it is drawn as half an image of MNIST's 10,000, in per cent.
LEAST_ERROR = 0.005


def method_color(method):
    return METHOD_COLORS.get(method, OTHER_METHOD)


def error_percent(share):
    """100 % minus a share (accuracy, AUC), a number or several."""
    return np.maximum(100 * (1 - np.asarray(share, dtype=float)), LEAST_ERROR)


def overview(data, path, text):
    """Every headline as a line: mean, interval and runs on a log scale of errors, beside others' figures.

    data: {"groups": [{"title", "metric", "rows": [row, ...]}], "ceiling": None or {"value", "task"}}.
    row: {"label", "method", "values", "mean", "low", "high", "text", "references": [{"value", "text", and
    maybe "low" or "std"}]}. All values are shares.
    """
    count = sum(len(group["rows"]) + 1 for group in data["groups"])
    fig, ax = figure(size=(8, 0.4 * count + 1.1))
    y, ticks = 0, []
    for group in data["groups"]:
        _beside(ax, 0, -8, y, group["title"], weight="bold", ha="right")
        _beside(ax, 1, 12, y, group["metric"], weight="bold")
        _beside(ax, 1, 106, y, "ancestor or reference", color=REFERENCE)
        for row in group["rows"]:
            y += 1
            ticks.append((y, row["label"]))
            _overview_row(ax, y, row)
        y += 1
    if data["ceiling"]:
        limit = float(error_percent(data["ceiling"]["value"]))
        ax.axvline(limit, color=REFERENCE, linestyle=":", linewidth=1.5)
        ax.text(limit, -0.65, data["ceiling"]["task"], size=9, color=REFERENCE, va="bottom")
    ax.set(ylim=(y - 0.3, -0.6), xscale="log", xlabel="test error (%, log scale)")
    ax.set_yticks([tick for tick, _ in ticks], [label for _, label in ticks])
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    plain_numbers(ax.xaxis)
    save(fig, path, text)


def _beside(ax, edge, points, y, text, **kwargs):
    """Text outside the axes: so many points right of its left (0) or right (1) edge, at the data's y."""
    anchor = ((edge, y), (points, 0), ax.get_yaxis_transform(), "offset points")
    ax.annotate(text, *anchor, va="center", size=10, annotation_clip=False, **kwargs)


def _overview_row(ax, y, row):
    color = method_color(row["method"])
    for reference in row["references"]:
        value, std = reference["value"], reference.get("std", 0)
        ends = error_percent([value + std, reference.get("low", value - std)])
        ax.plot(ends, [y, y], color=REFERENCE, linewidth=1.2)
        ax.plot(error_percent(value), y, "D", mfc="white", mec=REFERENCE, mew=1.3, ms=7)
    values = error_percent(row["values"])
    ax.plot(values, np.full(len(values), y + 0.3), "o", color=color, alpha=0.5, ms=3.5, mew=0)
    ends = error_percent([row["high"], row["low"]])
    ax.plot(ends, [y, y], "|-", color=color, linewidth=2, ms=11, mew=2)
    ax.plot(error_percent(row["mean"]), y, "o", color=color, ms=7)
    _beside(ax, 1, 12, y, row["text"])
    if row["references"]:
        _beside(ax, 1, 106, y, row["references"][0]["text"], color=REFERENCE)


def plain_numbers(axis, multiples=(1, 2, 5)):
    """A log axis labelled 0.1, 0.2, 0.5, 1, ... in place of powers of ten."""
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=multiples))
    axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def error_against_time(data, path, text):
    """Validation error while training (lines) and test error at the end (points) against seconds.

    data: a list of {"label", "method", "seconds", "mean", "low", "high", "curve": [[seconds, share], ...]}.
    """
    fig, ax = figure(size=(8, 5))
    for row in data:
        color = method_color(row["method"])
        if row["curve"]:
            seconds, shares = np.array(row["curve"]).T
            ax.plot(seconds, error_percent(shares), color=color, alpha=0.6, linewidth=1.5)
        ends = error_percent([row["low"], row["high"]])
        ax.plot([row["seconds"]] * 2, ends, color=color, linewidth=2.5)
        error = float(error_percent(row["mean"]))
        ax.plot(row["seconds"], error, "o", color=color, mec="black", mew=0.8, ms=9)
        ax.annotate(row["label"], (row["seconds"], error), (9, 0), textcoords="offset points", va="center")
    ax.set(xscale="log", yscale="log", xlabel="training time of one run (s, log scale)")
    ax.set_ylabel("error (%, log scale)")
    ax.margins(x=0.12)
    plain_numbers(ax.yaxis)
    plain_numbers(ax.xaxis, (1, 3))
    save(fig, path, text)
