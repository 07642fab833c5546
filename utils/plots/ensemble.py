"""The figures of an ensemble: its members, its selection, what combining them gives."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from utils.metrics.selection import average, member_metrics
from utils.plots.style import PALETTE, figure, save

LABELS = {
    "best_single": "best single (by validation)",
    "average": "plain average",
    "log_average": "average of logits",
    "vote": "majority vote",
    "greedy_loss": "greedy by loss",
    "greedy_accuracy": "greedy by accuracy",
    "bagged": "bagged greedy by loss",
}
VAL, TEST = PALETTE[0], PALETTE[1]


def combinations(records, names, path):
    """Test error with its 95 % interval, loss and calibration error of every combination; a dot per library.

    records: of one library each, as in metrics.json. names: of utils.metrics.selection.COMBINATIONS.
    """
    fig, axes = figure(1, 3, size=(11, 0.42 * len(names) + 1.6), sharey=True, width_ratios=(2, 1, 1))
    fig.get_layout_engine().set(w_pad=0.12)
    rows = np.arange(len(names))

    def means(key):
        return np.array([[record[f"{name}_test_{key}"] for name in names] for record in records])

    low, high = 100 - 100 * means("accuracy_high").mean(0), 100 - 100 * means("accuracy_low").mean(0)
    axes[0].hlines(rows, low, high, color=TEST, linewidth=1.5, alpha=0.6)
    for ax, values, color, label in (
        (axes[0], 100 - 100 * means("accuracy"), TEST, None),
        (axes[1], means("loss"), PALETTE[7], "as they are"),
        (axes[1], means("scaled_loss"), PALETTE[2], "scaled"),
        (axes[2], 100 * means("ece"), PALETTE[7], None),
        (axes[2], 100 * means("scaled_ece"), PALETTE[2], None),
    ):
        if len(values) > 1:
            for row in values:
                ax.plot(row, rows + 0.22, "o", color=color, alpha=0.5, ms=3.5, mew=0)
        ax.plot(values.mean(0), rows, "o", color=color, ms=7, label=label)
    bounds = (
        ("mean_single_test_accuracy", "mean single", PALETTE[7]),
        ("oracle_test_accuracy", "no member right", PALETTE[6]),
    )
    for key, label, color in bounds:
        value = 100 - 100 * np.mean([record[key] for record in records])
        label = f"{label}: {value:.2f} %"
        axes[0].axvline(value, color=color, linestyle=":", linewidth=1.5, label=label)
    axes[0].set_yticks(rows, [LABELS[name] for name in names])
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    axes[0].set(xlabel="test error (%), 95 % interval")
    axes[1].set(xlabel="test loss (nats)")
    axes[2].set(xlabel="calibration error (points)")
    for ax in axes:
        ax.set_xlim(0, 1.05 * ax.get_xlim()[1])
        ax.tick_params(axis="y", length=0)
    axes[0].set_xlim(right=1.1 * high.max() + 0.01)  # a mean single far outside is in the legend
    fig.legend(loc="outside upper center", ncols=4)
    save(fig, path)


def members(library, path):
    """Validation and test error and loss of every member as bars, with the plain average as lines."""
    fig, axes = figure(2, 1, size=(8, 6), sharex=True)
    at, width = np.arange(len(library.members)), 0.38
    for part, color, side in (("validation", VAL, -0.5), ("test", TEST, 0.5)):
        p, y = (library.val_p, library.val_y) if part == "validation" else (library.test_p, library.test_y)
        losses, accuracies = member_metrics(p, y)
        (loss,), (accuracy,) = member_metrics(average(p)[None], y)
        pairs = ((100 - 100 * accuracies, 100 - 100 * accuracy), (losses, loss))
        for ax, (bars, line) in zip(axes, pairs, strict=True):
            ax.bar(at + side * width, bars, width, color=color, label=part)
            ax.axhline(line, color=color, linestyle="--", label=f"{part}, plain average")
    axes[0].set(ylabel="error (%)")
    axes[1].set(ylabel="loss (nats)")
    axes[1].set_xticks(at, library.names, rotation=60 if len(at) > 5 else 0)
    for ax in axes:
        ax.grid(False, axis="x")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=10)
    save(fig, path)


def selection_paths(library, selections, path):
    """The selected metric on validation and test images after each step, with both baselines.

    selections: {"loss": Selection, "accuracy": Selection}, made on the validation images.
    """
    fig, axes = figure(1, 2, size=(10, 4.2))
    sides = (
        ("validation", VAL, library.val_p, library.val_y),
        ("test", TEST, library.test_p, library.test_y),
    )
    for ax, (metric, selection) in zip(axes, selections.items(), strict=True):
        which = 0 if metric == "loss" else 1
        best = selection.path[0]
        for name, color, p, y in sides:
            line = _shown(
                which, np.array([member_metrics(m[None], y) for m in _prefixes(p, selection.path)])[..., 0]
            )
            ax.plot(np.arange(1, len(line) + 1), line, color=color, label=f"{name}, selection")
            for style, label, single in (
                ("--", "plain average", average(p)),
                (":", "best single by validation", p[best]),
            ):
                value = _shown(which, np.array(member_metrics(single[None], y)).T)[0]
                ax.axhline(value, color=color, linestyle=style, linewidth=1.2, label=f"{name}, {label}")
        ax.axvspan(0.5, selection.initial, color="#EEEEEE", zorder=0, label="sorted initialisation")
        ax.axvline(selection.size, color="black", linewidth=1, label="chosen size")
        ax.set(xlabel="members in the average", title=f"greedy by {metric}")
        ax.set_ylabel("loss (nats)" if metric == "loss" else "error (%)")
        ax.set_xlim(0.5, len(selection.path) + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    save(fig, path)


def _prefixes(p, path):
    total = np.zeros(p.shape[1:])
    for count, member in enumerate(path, 1):
        total += p[member]
        yield total / count


def _shown(which, found):
    """The column of losses, or that of accuracies as errors in per cent."""
    return found[:, 0] if which == 0 else 100 - 100 * found[:, 1]


def selection_weights(names, selections, path):
    """Every member's weight after each step as stacked bars; members that are never chosen are left out."""
    fig, axes = figure(1, 2, size=(10, 4.2), sharey=True)
    used = sorted({member for selection in selections.values() for member in selection.path})
    colors = _colors(len(used))
    for ax, (metric, selection) in zip(axes, selections.items(), strict=True):
        steps = np.arange(1, len(selection.path) + 1)
        chosen = np.array(selection.path)[:, None] == used
        weights = chosen.cumsum(0) / steps[:, None]
        bottom = np.zeros(len(steps))
        for column, member, color in zip(weights.T, used, colors, strict=True):
            ax.bar(steps, column, 1.0, bottom, color=color, label=names[member], linewidth=0)
            bottom += column
        ax.axvline(selection.size, color="black", linewidth=1.2)
        ax.set(title=f"greedy by {metric} (line: chosen size)", xlabel="members in the average")
        ax.set(xlim=(0.5, len(steps) + 0.5), ylim=(0, 1))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(False)
    axes[0].set(ylabel="weight")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=9)
    save(fig, path)


def _colors(count):
    """Neighbouring members in clearly different colours, as many as are asked for."""
    from matplotlib import colormaps

    wheel = [*colormaps["tab20"].colors[::2], *colormaps["tab20"].colors[1::2]]
    return [wheel[i % len(wheel)] for i in range(count)]


def growth(accuracies, path):
    """Test error against the number of members: mean, and the band of the middle 90 % of random subsets.

    accuracies: (draws, M), of averages of 1, 2, ..., M members.
    """
    errors = 100 - 100 * accuracies
    size = np.arange(1, errors.shape[1] + 1)
    fig, ax = figure(size=(8, 4))
    low, high = np.quantile(errors, [0.05, 0.95], axis=0)
    ax.fill_between(size, low, high, color=PALETTE[0], alpha=0.2, label="middle 90 % of random subsets")
    ax.plot(size, errors.mean(0), "o-", color=PALETTE[0], ms=4, label="mean")
    ax.set(xlabel="members in the plain average", ylabel="test error (%)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    save(fig, path)


def agreement(overlap, names, path):
    """How much the members' errors are the same. overlap: (M, M), of utils.metrics.selection.error_overlap."""
    import seaborn as sns  # here, because it loads pandas, which --help needn't

    side = max(4.5, 0.42 * len(names) + 1.8)
    fig, ax = figure(size=(min(8, side + 1), min(7, side)))
    sns.heatmap(
        100 * overlap,
        mask=np.eye(len(overlap), dtype=bool),
        annot=len(names) <= 20,
        fmt=".0f",
        cmap="Blues",
        vmin=0,
        square=True,
        linewidths=0.5,
        linecolor="#DDDDDD",
        annot_kws={"size": 8},
        xticklabels=names,
        yticklabels=names,
        cbar_kws={"label": "errors in common (% of those of either)", "shrink": 0.8},
        ax=ax,
    )
    ax.set_title("Do the members err on the same test images?")
    ax.grid(False)
    save(fig, path)
