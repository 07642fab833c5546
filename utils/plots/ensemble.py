"""Figures of an ensemble: its members, its selection, what combining them gives."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.ensemble.library import Library
from evaluation.ensemble.selection import Selection, average, member_metrics
from utils.plots.style import (
    PALETTE,
    TEST,
    VALIDATION,
    WIDTH,
    every_label,
    figure,
    heat_map,
    interval_bars,
    plain_numbers,
    save,
    whole_numbers,
)

LABELS = {
    "best_single": "best single (by validation)",
    "average": "plain average",
    "log_average": "average of logits",
    "vote": "majority vote",
    "greedy_loss": "greedy by loss",
    "greedy_accuracy": "greedy by accuracy",
    "bagged": "bagged greedy by loss",
}
UNSCALED, SCALED = PALETTE[7], PALETTE[2]


def plot_combinations(records: Sequence[dict], names: Sequence[str], path: Path | str) -> None:
    """Draw test error, loss and calibration error of every combination: means, and a dot per library.

    The test error has its 95 % interval, the mean of those of the libraries. records: of one library each,
    as in metrics.json. names: of COMBINATIONS. What is temperature-scaled is drawn
    where there were validation images to scale by.
    """
    fig, axes = figure(1, 3, size=(WIDTH, 0.4 * len(names) + 1.5), sharey=True, width_ratios=(2, 1, 1))
    fig.set_layout_engine("constrained", w_pad=0.1)
    rows = np.arange(len(names))

    def values(key):
        return np.array([[record[f"{name}_test_{key}"] for name in names] for record in records])

    low, high = 100 - 100 * values("accuracy_high").mean(0), 100 - 100 * values("accuracy_low").mean(0)
    interval_bars(axes[0], rows, low, high, TEST, horizontal=True, label="95 % interval")
    drawn = [
        (axes[0], 100 - 100 * values("accuracy"), TEST, None),
        (axes[1], values("loss"), UNSCALED, "as they are"),
        (axes[2], 100 * values("ece"), UNSCALED, None),
    ]
    if f"{names[0]}_test_scaled_loss" in records[0]:
        drawn += [
            (axes[1], values("scaled_loss"), SCALED, "temperature-scaled"),
            (axes[2], 100 * values("scaled_ece"), SCALED, None),
        ]
    for ax, found, color, label in drawn:
        if len(found) > 1:
            for row in found:
                ax.plot(row, rows + 0.22, "o", color=color, alpha=0.5, ms=3.5, mew=0)
        ax.plot(found.mean(0), rows, "o", color=color, ms=6.5, label=label)
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
    libraries = f", mean of {len(records)} libraries" if len(records) > 1 else ""
    axes[0].set(xlabel=f"test error (%){libraries}")
    axes[1].set(xlabel="test loss (nats)")
    axes[2].set(xlabel="ECE (points)")
    for ax in axes:
        ax.set_xlim(0, 1.05 * ax.get_xlim()[1])
        ax.tick_params(axis="y", length=0)
    axes[0].set_xlim(right=1.1 * high.max() + 0.01)  # a mean single far outside is in the legend
    fig.legend(loc="outside upper center", ncols=5, columnspacing=1.2, handletextpad=0.4)
    save(fig, path)


def plot_members(library: Library, path: Path | str, whose: str) -> None:
    """Draw error and loss of every member on validation and test images, with the plain average as lines.

    Members that trained on all images have test images alone. whose: the library in words, for the title; so
    in all figures below.
    """
    fig, axes = figure(2, 1, size=(WIDTH, 5.4), sharex=True)
    at = np.arange(len(library.members))
    sides = _sides(library)
    for (name, color, p, y), shift in zip(sides, (-0.12, 0.12)[-len(sides) :], strict=True):
        losses, accuracies = member_metrics(p, y)
        (loss,), (accuracy,) = member_metrics(average(p)[None], y)
        pairs = ((100 - 100 * accuracies, 100 - 100 * accuracy), (losses, loss))
        for ax, (dots, line) in zip(axes, pairs, strict=True):
            ax.plot(at + shift, dots, "o", color=color, ms=5, label=name)
            ax.axhline(line, color=color, linestyle="--", linewidth=1.2, label=f"{name}, plain average")
    axes[0].set(ylabel="error (%, log scale)", title=f"{whose}, one by one")
    axes[1].set(ylabel="loss (nats, log scale)")
    shown = every_label(len(at), 40)
    axes[1].set_xticks(at[shown], library.names[shown], rotation=90 if len(at) > 6 else 0, size=9)
    for ax in axes:
        ax.set_yscale("log")
        ax.margins(y=0.1)
        plain_numbers(ax.yaxis)
        ax.grid(False, axis="x")
    fig.legend(handles=axes[0].get_legend_handles_labels()[0], loc="outside lower center", ncols=4)
    save(fig, path)


def _sides(library):
    validation = [("validation", VALIDATION, library.val_p, library.val_y)] if library.validated else []
    return [*validation, ("test", TEST, library.test_p, library.test_y)]


def plot_selection(
    library: Library, selections: dict[str, Selection], best: int, path: Path | str, whose: str
) -> None:
    """Draw what a greedy selection compares, and below what it gives, as in the tables, after each step.

    library: with the probabilities that the metrics are computed from, so that the test metric at the chosen
    size, named in the title, is that of metrics.json. selections: {"loss": Selection, "accuracy": Selection},
    which hold what they compared. best: the member that validation prefers, drawn as "best single".
    """
    fig, axes = figure(2, 2, size=(WIDTH, 5.8), sharex="col", height_ratios=(1, 2))
    for (above, below), (metric, selection) in zip(axes.T, selections.items(), strict=True):
        size = np.arange(1, len(selection.path) + 1)
        seen = selection.losses if metric == "loss" else 100 - 100 * np.array(selection.accuracies)
        above.plot(size, seen, color=VALIDATION)
        for name, color, p, y in _sides(library):
            line = [_metric(metric, average(p, weights), y) for weights in prefix_weights(selection, len(p))]
            below.plot(size, line, color=color, label=f"{name}, selection")
            lines = (("--", "plain average", average(p)), (":", "best single", p[best]))
            for style, label, single in lines:
                value = _metric(metric, single, y)
                below.axhline(value, color=color, linestyle=style, linewidth=1.2, label=f"{name}, {label}")
        chosen = line[selection.size - 1]  # of the test images, which come last
        below.plot(selection.size, chosen, "o", color=TEST, ms=7)
        for ax in (above, below):
            ax.axvspan(0.5, selection.initial + 0.5, color="#EEEEEE", zorder=0, label="sorted initialisation")
            ax.axvline(selection.size, color="black", linewidth=1, label="chosen size")
            ax.set(xlim=(0.5, len(size) + 0.5))
            whole_numbers(ax.xaxis)
        name, unit = ("loss", "nats") if metric == "loss" else ("error", "%")
        value = f"{chosen:.4f}" if metric == "loss" else f"{chosen:.2f} %"
        above.set(title=f"greedy by {metric}", ylabel=f"compared {name} ({unit})")
        below.set(ylabel=f"{name} ({unit})", xlabel="members in the average, with repeats")
        below.set_title(f"test {name} at the chosen size: {value}", size=10)
    above_is = "above: what the selection compares, from calibrated validation predictions"
    fig.suptitle(f"{whose}\n{above_is}", size=10.5)
    fig.legend(handles=axes[1, 0].get_legend_handles_labels()[0], loc="outside lower center", ncols=4)
    save(fig, path)


def prefix_weights(selection: Selection, members: int) -> list[np.ndarray]:
    """Return the weights (members,) of the average after every step of a selection."""
    return [
        np.bincount(selection.path[:size], minlength=members) / size
        for size in range(1, len(selection.path) + 1)
    ]


def _metric(metric, probabilities, y):
    (loss,), (accuracy,) = member_metrics(probabilities[None], y)
    return loss if metric == "loss" else 100 - 100 * accuracy


def plot_weights(
    names: Sequence[str], selections: dict[str, Selection], path: Path | str, whose: str
) -> None:
    """Draw every member's weight after each step of a selection as colours; the chosen weights as numbers.

    Members that no selection ever takes are left out.
    """
    tables = {key: np.array(prefix_weights(found, len(names))).T for key, found in selections.items()}
    final = {key: table[:, selections[key].size - 1] for key, table in tables.items()}
    used = sorted(
        (i for i in range(len(names)) if any(table[i].any() for table in tables.values())),
        key=lambda i: [-weights[i] for weights in final.values()],
    )
    fig, axes = figure(1, 2, size=(WIDTH, 0.27 * len(used) + 1.6), sharey=True)
    most = max(weights.max() for weights in final.values())  # the first steps have more, and are saturated
    for ax, (metric, selection) in zip(axes, selections.items(), strict=True):
        table, steps = tables[metric][used], len(selection.path)
        extent = (0.5, steps + 0.5, len(used) - 0.5, -0.5)
        image = ax.imshow(table, cmap="Blues", vmin=0, vmax=most, aspect="auto", extent=extent)
        ax.axvline(selection.size, color="black", linewidth=1.2)
        for row, member in enumerate(used):
            if weight := final[metric][member]:
                place = ((1, row), (4, 0), ax.get_yaxis_transform(), "offset points")
                ax.annotate(f"{weight:.2f}", *place, va="center", size=9)
        ax.set(title=f"greedy by {metric}", xlabel="members in the average, with repeats")
        ax.tick_params(axis="y", length=0)
        whole_numbers(ax.xaxis)
        ax.grid(False)
    axes[0].set_yticks(range(len(used)), [names[i] for i in used])
    fig.colorbar(image, ax=axes, label="weight", pad=0.02, extend="max")
    fig.suptitle(f"{whose}; line: the chosen size, numbers: the chosen weights", size=10.5)
    save(fig, path)


def plot_growth(accuracies: np.ndarray, path: Path | str, whose: str) -> None:
    """Draw the test error against the number of members in the average: random subsets, and their mean.

    accuracies: (draws, M), of averages of 1, 2, ..., M members in random orders. The dots of larger subsets
    lie closer together because the subsets share members; all of those with M members are the same.
    """
    errors = 100 - 100 * accuracies
    draws, count = errors.shape
    size = np.arange(1, count + 1)
    fig, ax = figure(size=(WIDTH, 3.8))
    shift = np.linspace(-0.25, 0.25, draws)[:, None]  # so that dots of equal errors can be told apart
    ax.plot((size + shift).T, errors.T, "o", color=PALETTE[5], ms=3, mew=0, alpha=0.6)
    ax.plot([], [], "o", color=PALETTE[5], ms=3, label="single subset")
    ax.plot(size, errors.mean(0), "o-", color=PALETTE[0], ms=4, label=f"mean of {draws} random subsets")
    ax.set(xlabel="members in the plain average", ylabel="test error (%)", xlim=(0.5, count + 0.5))
    ax.set_title(f"{whose}: larger subsets overlap more, and all of size {count} are the same", size=10.5)
    whole_numbers(ax.xaxis)
    ax.legend()
    save(fig, path)


def plot_agreement(overlap: np.ndarray, names: Sequence[str], path: Path | str, whose: str) -> None:
    """Draw the share of errors that two members have in common, on the same scale for every library.

    overlap: (M, M), of evaluation.ensemble.selection.error_overlap. The members of one model stand together.
    """
    order = sorted(range(len(names)), key=lambda i: names[i].rpartition(" ")[0])
    overlap, names = overlap[np.ix_(order, order)], [names[i] for i in order]
    side = float(np.clip(0.36 * len(names) + 1.4, 4, 6.6))
    fig, ax = figure(size=(side + 1.2, side))
    heat_map(
        ax,
        100 * overlap,
        "errors in common (% of the errors of either)",
        mask=np.eye(len(overlap), dtype=bool),
        annot=len(names) <= 20,
        fmt=".0f",
        cmap="Blues",
        vmin=0,
        vmax=100,
        square=True,
        annot_kws={"size": 8},
    )
    shown = every_label(len(names), 32)
    places = np.arange(len(names))[shown] + 0.5
    ax.set_xticks(places, names[shown], rotation=90, size=9)
    ax.set_yticks(places, names[shown], rotation=0, size=9)
    ax.set_title(f"{whose}: do they err on the same test images?", size=10.5)
    save(fig, path)
