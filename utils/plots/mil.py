"""Figures of multiple instance learning: bags with the shares of their instances, ROC curves, sweeps."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullLocator

from utils.plots.style import (
    PALETTE,
    REFERENCE,
    WIDTH,
    Line,
    figure,
    lines_and_mean,
    method_color,
    save,
    show_image,
    std_bars,
)

# False-positive rates at which the ROC curves of several repeats are averaged; fine where it is decided.
RATES = np.concatenate([np.arange(0, 0.2, 0.01), np.arange(0.2, 1.001, 0.05)]).round(2)
# False-positive and true-positive rates of the magnified corner: the same on all pages.
CORNER = (0, 0.2), (0.8, 1.002)
TARGET = PALETTE[1]
# What the numbers of `Pooled.attention` are; every other pooling has an attention.
SHARES = {
    "mean": "its share in the bag's logit (all the same)",
    "max": "its share in the features of the bag",
    "instance-mean": "its share in the bag's logit (all the same)",
    "instance-max": "its share in the bag's logit (the greatest instance has all of it)",
}
# The AUCs of networks trained on the builder shortcut: label, marker and colour by metric, in this order.
SHORTCUT_TESTS = {
    "test_auc": ("negative bags, as in training", "o", PALETTE[7]),
    "test_clean_auc": ("no bag", "s", PALETTE[0]),
    "test_both_auc": ("every bag", "^", PALETTE[2]),
    "test_poisoned_auc": ("positive bags only (poisoned)", "D", PALETTE[1]),
}
# The scale of an AUC is a log scale of 1 - AUC, which ends here: better ones are drawn at its end.
LEAST_GAP = 1e-4


def share_name(method: str) -> str:
    """Return what the "attention" of a pooling is called: only the attention poolings have one."""
    return SHARES.get(method, "its attention")


def _bags(lengths: np.ndarray) -> Iterator[range]:
    """Yield the positions of the instances of every bag."""
    ends = np.cumsum(lengths)
    for end, length in zip(ends, lengths, strict=True):
        yield range(end - length, end)


def _frame(ax: Axes, image: np.ndarray, color: str, width: float) -> None:
    show_image(ax, image)
    ax.set_axis_on()
    ax.spines[:].set(visible=True, color=color, linewidth=width)


def _beside_row(ax: Axes, text: str) -> None:
    place = ((0, 0.5), (-6, 0), "axes fraction", "offset points")
    ax.annotate(text, *place, size=8, ha="right", va="center")


def plot_bags(
    images: np.ndarray,
    lengths: np.ndarray,
    keys: np.ndarray,
    shares: np.ndarray,
    probabilities: np.ndarray,
    path: Path | str,
    title: str,
    rows: int = 6,
    columns: int = 12,
) -> None:
    """Draw one bag per row: every instance under its share in the bag, the wider framed the greater it is.

    images: (n, 1, H, W) uint8, bag after bag. lengths: (B,). keys: (n,) bool, the targets, drawn in a colour.
    shares: (n,), see `share_name`. probabilities: (B,), of a positive bag. Shown are the first bags that are
    no longer than `columns`.
    """
    shown = np.flatnonzero(lengths <= columns)[:rows]
    shown = shown if len(shown) else np.arange(min(rows, len(lengths)))
    fig, axes = figure(len(shown), columns, size=(WIDTH, 0.9 * len(shown) + 0.5), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    bags = list(_bags(lengths))
    for row, bag in zip(axes, shown, strict=True):
        members = bags[bag][:columns]
        least = 1 / lengths[bag]
        span = max(shares[members].max() - least, 0.01)  # equal shares get equally thin frames
        for ax, i in zip(row, members, strict=False):
            strength = np.clip((shares[i] - least) / span, 0, 1)
            _frame(ax, images[i], TARGET if keys[i] else "#555555", 0.6 + 2.6 * strength)
            look = {"color": TARGET, "weight": "bold"} if keys[i] else {}
            ax.set_title(f"{shares[i]:.2f}", size=8, pad=2, **look)
        kind = "positive" if keys[bags[bag]].any() else "negative"
        _beside_row(row[0], f"{kind}\nP(pos.) {probabilities[bag]:.2f}")
    fig.suptitle(title, size=10.5)
    save(fig, path)


def plot_plain_bags(
    images: np.ndarray,
    lengths: np.ndarray,
    keys: np.ndarray,
    path: Path | str,
    rows: int = 8,
    columns: int = 20,
) -> None:
    """Draw the first bags, one per row, as far as they fit; a target has a coloured frame.

    images: (n, 1, H, W) uint8, bag after bag. lengths: (B,). keys: (n,) bool.
    """
    columns = min(columns, int(lengths[:rows].max()))
    rows = min(rows, len(lengths))
    fig, axes = figure(rows, columns, size=(WIDTH, 0.3 + rows * WIDTH / (columns + 2)), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for row, members in zip(axes, _bags(lengths), strict=False):
        for ax, i in zip(row, members, strict=False):
            _frame(ax, images[i], *((TARGET, 2.5) if keys[i] else ("#CCCCCC", 0.5)))
        kind = "positive" if keys[members].any() else "negative"
        _beside_row(row[0], f"{kind}, {len(members)}")
    save(fig, path)


def plot_roc(curves: dict[str, list[list[float]]], path: Path | str, title: str) -> None:
    """Draw ROC curves, every repeat thinly about the mean of its method, and their upper left corner again.

    curves: {method: one list of true-positive rates at RATES per repeat}; empty lists are left out.
    """
    fig, axes = figure(1, 2, size=(WIDTH, 4))
    for method, rates in curves.items():
        lines: list[Line] = [(RATES, rate) for rate in rates if rate]
        for ax in axes:
            lines_and_mean(ax, lines, method_color(method), method)
    for ax in axes:
        ax.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=1, linestyle="--")
        ax.set(xlabel="false-positive rate", xlim=(0, 1), ylim=(0, 1.005))
    axes[0].set(ylabel="true-positive rate", title=title)
    axes[1].set(title="the upper left corner", xlim=CORNER[0], ylim=CORNER[1])
    axes[1].xaxis.set_major_locator(MultipleLocator(0.05))
    if axes[0].get_legend_handles_labels()[1]:
        axes[0].legend(loc="lower right")
    save(fig, path)


def plot_sweep_roc(cells: Sequence[dict], path: Path | str) -> None:
    """Draw the ROC curve of every method at the smallest number of training bags: means over the repeats.

    cells: of sweep.json.
    """
    least = min(cell["train_bags"] for cell in cells)
    curves = {
        cell["method"]: [cell["mean_test_roc"]]
        for cell in cells
        if cell["train_bags"] == least and cell.get("mean_test_roc")
    }
    plot_roc(curves, path, f"ROC, {least} training bags, mean")


def plot_auc(cells: Sequence[dict], path: Path | str, references: Sequence[dict] = ()) -> None:
    """Draw the test AUC of every method: against the number of training bags, or as dots if there is but one.

    cells: of sweep.json. references: dicts of "name" and "points" [[bags, AUC], ...].
    """
    cells = [cell for cell in cells if "test_auc" in cell["mean"]]
    counts = sorted({cell["train_bags"] for cell in cells})
    draw = _method_dots if len(counts) == 1 else _method_curves
    draw(cells, counts, path, references)


def plot_shortcut(cells: Sequence[dict], path: Path | str) -> None:
    """Draw the test AUCs of networks trained on the builder shortcut, one line per method, means ± 1 SD.

    cells: of sweep.json. Of several numbers of training bags the largest is drawn.
    """
    most = max(cell["train_bags"] for cell in cells)
    cells = [cell for cell in cells if cell["train_bags"] == most]
    fig, ax = figure(size=(WIDTH, 0.5 * len(cells) + 1.6))
    for i, (metric, (label, marker, color)) in enumerate(SHORTCUT_TESTS.items()):
        for row, cell in enumerate(cells):
            if metric not in cell["mean"]:
                continue
            mean, std = cell["mean"][metric], cell["std"][metric] or 0.0
            at = row + 0.16 * (i - 1.5)
            std_bars(ax, at, max(mean - std, 0), min(mean + std, 1), color, horizontal=True)
            ax.plot(mean, at, marker, color=color, ms=6, label="" if row else label)
    ax.axvline(0.5, color=REFERENCE, linestyle=":", linewidth=1.2)
    ax.text(0.5, -0.62, " chance", size=8, color=REFERENCE, va="bottom")
    ax.set_yticks(range(len(cells)), [cell["method"] for cell in cells])
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(len(cells) - 0.5, -0.6), xlim=(-0.02, 1.02))
    ax.set_xlabel(f"test AUC, {most} training bags, mean ± 1 SD of {_repeats(cells)}")
    ax.grid(False, axis="y")
    fig.legend(title="bags that carry the digit", ncols=2, loc="outside lower center")
    save(fig, path)


def _repeats(cells):
    fewest, most = (f(len(cell["runs"]) for cell in cells) for f in (min, max))
    return f"{most} repeats" if fewest == most else f"{fewest} to {most} repeats"


def _auc_axis(axis):
    """Label a log axis of 1 - AUC by the AUC. Call it when everything is drawn."""
    low, high = sorted(axis.get_view_interval())
    multiples = (1, 2, 3, 5) if high / low < 100 else (1, 2, 5) if high / low < 1000 else (1,)
    ticks = [0.5, *(k * 10.0**power for power in range(-4, 0) for k in multiples)]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_major_formatter(FuncFormatter(_auc_label))
    axis.set_minor_locator(NullLocator())


def _auc_label(gap, _):
    return f"{'≥ ' if gap < 1.01 * LEAST_GAP else ''}{1 - gap:.4g}"


def _gap(auc):
    return np.maximum(1 - np.asarray(auc), LEAST_GAP)


def _gaps(cell):
    """Return 1 - AUC of a cell's mean, and of one standard deviation below and above it."""
    mean, std = cell["mean"]["test_auc"], cell["std"]["test_auc"] or 0.0
    return _gap([mean, mean - std, mean + std])


def _method_curves(cells, counts, path, references):
    fig, ax = figure(size=(WIDTH, 5.4))
    ax.set(xscale="log", yscale="log")
    methods = list(dict.fromkeys(cell["method"] for cell in cells))
    for i, method in enumerate(methods):
        mine = [cell for cell in cells if cell["method"] == method]
        x = [cell["train_bags"] * 1.02 ** (i - (len(methods) - 1) / 2) for cell in mine]
        mean, low, high = np.array([_gaps(cell) for cell in mine]).T
        std_bars(ax, x, low, high, method_color(method))
        ax.plot(x, mean, "o-", color=method_color(method), ms=4, label=method)
    for reference, marker in zip(references, "Ds^v", strict=False):
        x, y = np.array(reference["points"]).T
        ax.plot(x, _gap(y), marker, mfc="white", mec=REFERENCE, mew=1.3, label=reference["name"])
    std_bars(ax, [], [], [], REFERENCE, label=f"± 1 SD of {_repeats(cells)}")
    ax.set(xlabel="training bags (log scale)", ylabel="test AUC (log scale of 1 - AUC)")
    ax.xaxis.set_major_locator(FixedLocator(counts))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
    _auc_axis(ax.yaxis)
    ax.invert_yaxis()
    fig.legend(ncols=4, loc="outside lower center")
    save(fig, path)


def _method_dots(cells, counts, path, references):
    points = {
        reference["name"]: dict(map(tuple, reference["points"])).get(counts[0]) for reference in references
    }
    points = {name: auc for name, auc in points.items() if auc is not None}
    names = [*(cell["method"] for cell in cells), *points]
    fig, ax = figure(size=(WIDTH, 0.42 * len(names) + 1.3))
    ax.set_xscale("log")
    for row, cell in enumerate(cells):
        color = method_color(cell["method"])
        mean, low, high = _gaps(cell)
        runs = _gap([run["test_auc"] for run in cell["runs"]])
        std_bars(ax, row, low, high, color, horizontal=True)
        ax.plot(runs, np.full(len(runs), row + 0.22), "o", color=color, alpha=0.5, ms=3.5, mew=0)
        ax.plot(mean, row, "o", color=color, ms=6.5)
        std = cell["std"]["test_auc"]
        text = f"{cell['mean']['test_auc']:.4f}" + ("" if std is None else f" ± {std:.4f}")
        place = ((1, row), (8, 0), ax.get_yaxis_transform(), "offset points")
        ax.annotate(text, *place, va="center", size=9)
    for row, auc in enumerate(points.values(), len(cells)):
        ax.plot(_gap(auc), row, "D", mfc="white", mec=REFERENCE, mew=1.3)
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(len(names) - 0.5, -0.6), xlabel="test AUC (log scale of 1 - AUC)")
    ax.set_title(
        f"{counts[0]} training bags, {_repeats(cells)}: small dots the repeats,\n"
        "large dot and bar their mean ± 1 SD",
        size=10.5,
    )
    _auc_axis(ax.xaxis)
    ax.invert_xaxis()
    ax.grid(False, axis="y")
    save(fig, path)
