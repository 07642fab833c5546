"""The figure of ensembles: what a selection of members gains."""

from collections.abc import Sequence
from pathlib import Path

from utils.plots import style
from utils.plots.style import PALETTE

LABELS = {
    "best_single": "best single (by validation)",
    "average": "plain average",
    "log_average": "average of logits",
    "vote": "majority vote",
    "greedy_loss": "greedy by loss",
    "greedy_accuracy": "greedy by accuracy",
    "bagged": "bagged greedy by loss",
}


def plot_gains(libraries: Sequence[dict], path: Path | str, description: str | None = None) -> None:
    """Plot what each selection gains on the plain average of the same members, with 95 % intervals.

    libraries: {"name", "gains": {selection: [[gain, half of the interval or None] of each library, ...]}},
    in points; without an interval the two differ in one digit at most.
    """
    fig, ax = style.figure(size=(style.WIDTH, 0.75 * len(libraries) + 1.2))
    for i, key in enumerate(libraries[0]["gains"]):
        for row, library in enumerate(libraries):
            gains = library["gains"][key]
            for n, (gain, half) in enumerate(gains):
                at = row + 0.24 * (i - 1) + 0.07 * (n - (len(gains) - 1) / 2)
                if half is not None:
                    style.range_bars(ax, at, (gain - half, gain + half), "interval", True, color=PALETTE[i])
                ax.plot(gain, at, "o", color=PALETTE[i], ms=5, label="" if row or n else LABELS[key])
    ax.axvline(0, color=style.REFERENCE, ls=":")
    style.name_rows(ax, [library["name"] for library in libraries])
    ax.set_xlabel("gain on the plain average (points of test accuracy), right is better")
    title = "with 95 % intervals of the paired difference; without one: a difference of at most one digit"
    fig.legend(loc="outside upper center", ncols=3, title=title)
    style.save(fig, path, description)
