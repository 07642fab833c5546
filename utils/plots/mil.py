"""The figures of multiple instance learning: bags with their attention, ROC curves, AUC against bags."""

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from utils.plots.style import PALETTE, REFERENCE, figure, method_color, save

# False-positive rates at which the ROC curves of several repeats are averaged; fine where it is decided.
RATES = np.concatenate([np.arange(0, 0.2, 0.01), np.arange(0.2, 1.001, 0.05)]).round(2)
TARGET = PALETTE[1]


def bag_rows(images, lengths, keys, attention, probabilities, path, title, rows=6, columns=12):
    """Some bags, one a row: digits framed and captioned by their attention, targets with a coloured frame.

    images: (n, 1, 28, 28) uint8, bag after bag. lengths: (B,). keys: (n,) bool. attention: (n,).
    probabilities: (B,), of a positive bag. Shown are the first bags that are no longer than `columns`.
    """
    starts = np.cumsum(lengths) - lengths
    shown = np.flatnonzero(lengths <= columns)[:rows]
    shown = shown if len(shown) else np.arange(min(rows, len(lengths)))
    fig, axes = figure(len(shown), columns, size=(8, 0.92 * len(shown) + 0.55), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for row, bag in zip(axes, shown, strict=True):
        members = range(starts[bag], starts[bag] + min(lengths[bag], columns))
        least, most = 1 / lengths[bag], attention[members].max()
        for ax, i in zip(row, members, strict=False):
            share = np.clip((attention[i] - least) / max(most - least, 1e-9), 0, 1)
            ax.set_axis_on()
            ax.set(xticks=[], yticks=[])
            ax.imshow(images[i].reshape(28, 28), cmap="gray_r", vmin=0, vmax=255)
            ax.spines[:].set(
                visible=True, linewidth=0.6 + 2.6 * share, color=TARGET if keys[i] else "#555555"
            )
            weight = "bold" if keys[i] else "normal"
            ax.set_title(
                f"{attention[i]:.2f}", size=8, pad=2, color=TARGET if keys[i] else "black", weight=weight
            )
        has = keys[members].any()
        text = f"{'positive' if has else 'negative'}\nread as {probabilities[bag]:.2f}"
        row[0].annotate(
            text, (0, 0.5), (-6, 0), "axes fraction", "offset points", size=8, ha="right", va="center"
        )
    fig.suptitle(title, size=10.5)
    save(fig, path)


def roc_curves(curves, path, title):
    """{method: list of (true-positive rates at RATES), one a repeat}: thin lines about their mean."""
    fig, axes = figure(1, 2, size=(8, 4), width_ratios=(1, 1))
    for method, lines in curves.items():
        color = method_color(method)
        lines = [line for line in lines if line]
        if not lines:
            continue
        mean = np.mean(lines, 0)
        for ax in axes:
            if len(lines) > 1:
                for line in lines:
                    ax.plot(RATES, line, color=color, alpha=0.25, linewidth=0.8)
            ax.plot(RATES, mean, color=color, label=f"{method}")
    for ax in axes:
        ax.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=1, linestyle="--")
        ax.set(xlabel="negative bags taken for positive", xlim=(0, 1), ylim=(0, 1.005))
    lowest = min((line[5] for lines in curves.values() for line in lines if line), default=0.5)
    axes[0].set(ylabel="positive bags found", title=title)
    axes[1].set(xlim=(0, 0.2), ylim=(min(lowest, 0.9), 1.002), title="its upper left corner")
    axes[0].legend(loc="lower right", fontsize=9)
    save(fig, path)


def sweep_roc(cells, path):
    """ROC curves of every method at the smallest number of training bags, mean over the repeats."""
    least = min(cell["train_bags"] for cell in cells)
    curves = {
        cell["method"]: [cell["mean_test_roc"]]
        for cell in cells
        if cell["train_bags"] == least and cell.get("mean_test_roc")
    }
    roc_curves(curves, path, f"ROC on test bags, {least} training bags")


def sweep_curves(cells, path, references=()):
    """AUC against the number of training bags, mean and one standard deviation; a scale of 1 - AUC.

    cells: of sweep.json. references: dicts of "name" and "points" [[bags, AUC], ...], drawn without a line.
    """
    fig, ax = figure(size=(8, 5.4))
    methods = list(dict.fromkeys(cell["method"] for cell in cells))
    for i, method in enumerate(methods):
        mine = [cell for cell in cells if cell["method"] == method and "test_auc" in cell["mean"]]
        if not mine:
            continue
        x = np.array([cell["train_bags"] for cell in mine]) * 1.012 ** (i - len(methods) / 2)
        mean = np.array([cell["mean"]["test_auc"] for cell in mine])
        std = np.array([cell["std"]["test_auc"] or 0.0 for cell in mine])
        ends = [np.minimum(std, 0.9 * (1 - mean)), std]  # a log axis has no room for an AUC of 1
        ax.errorbar(x, 1 - mean, ends, color=method_color(method), marker="o", ms=4, label=method)
    for reference, marker in zip(references, "Ds^v", strict=False):
        x, y = np.array(reference["points"]).T
        ax.plot(x, 1 - y, marker, mfc="white", mec=REFERENCE, mew=1.3, label=reference["name"])
    ax.set(xscale="log", yscale="log", xlabel="training bags", ylabel="test AUC (scale of 1 - AUC)")
    counts = sorted({cell["train_bags"] for cell in cells})
    ax.xaxis.set_major_locator(FixedLocator(counts))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0f}"))
    ax.yaxis.set_major_locator(
        FixedLocator([0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001])
    )
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{1 - y:.3g}"))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())
    ax.invert_yaxis()
    fig.legend(fontsize=9, ncols=3, loc="outside lower center")
    save(fig, path)


def plain_bags(images, lengths, keys, path, rows=8, columns=20):
    """Draw the first bags, one per row, as far as they fit; a key instance has a coloured frame.

    images: (n, 1, 28, 28) uint8, bag after bag. lengths: (B,). keys: (n,) bool.
    """
    ends = np.cumsum(lengths)
    columns = min(columns, int(lengths[:rows].max()))
    rows = min(rows, len(lengths))
    fig, axes = figure(rows, columns, size=(8, 0.3 + rows * 8 / (columns + 2)), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for row, end, length in zip(axes, ends, lengths, strict=False):
        members = range(end - length, end)
        for ax, i in zip(row, members, strict=False):
            ax.imshow(images[i].reshape(28, 28), cmap="gray_r", vmin=0, vmax=255)
            ax.set(xticks=[], yticks=[])
            ax.set_axis_on()
            color, width = (TARGET, 2.5) if keys[i] else ("#CCCCCC", 0.5)
            ax.spines[:].set(visible=True, color=color, linewidth=width)
        text = f"{'positive' if keys[members].any() else 'negative'}, {length}"
        row[0].annotate(
            text, (0, 0.5), (-6, 0), "axes fraction", "offset points", ha="right", va="center", size=8
        )
    save(fig, path)
