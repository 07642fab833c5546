"""Figures of the report: our best results beside prior work, and error against training time."""

from collections.abc import Sequence
from pathlib import Path

from utils.plots import style
from utils.plots.style import REFERENCE, WIDTH, error_percent, method_color

HEIGHT = 3.9  # inches: less than 400 pixels on the front page
# What is plotted about a mean, in words; "none" plots nothing.
INTERVAL_LABELS = {
    "std": "thick: ± standard deviation",
    "interval": "caps: 95 % interval of a single run",
    "range": "dashed: range of overlapping libraries",
}


def plot_overview(data: dict, path: Path | str, description: str | None = None) -> None:
    """Plot one row per task: error of our best method beside the best comparable prior work.

    data: {"rows": [row, ...], "ceiling": None or {"value", "task"}}. row: {"task", "label", "method",
    "values", "mean", "low", "high", "kind", "text", "references": at most one of {"value", "text", and maybe
    "low" or "std"}}. All values are shares. kind: of the range from low to high, see INTERVAL_LABELS.
    """
    rows = data["rows"]
    fig, ax = style.figure(size=(WIDTH, min(HEIGHT, 0.42 * len(rows) + 0.95)))
    for y, row in enumerate(rows):
        texts = [(8, row["text"], method_color(row["method"]))]
        for reference in row["references"]:
            value, std = reference["value"], reference.get("std", 0)
            ends = error_percent([value + std, reference.get("low", value - std)])
            ax.plot(ends, [y, y], color=REFERENCE, linewidth=1.2)
            ax.plot(error_percent(value), y, "D", mfc="white", mec=REFERENCE, mew=1.3, ms=6.5)
            texts.append((108, f"◇ {reference['text']}", REFERENCE))
        _plot_result(ax, row, y, horizontal=True)
        for points, words, color in texts:  # right of the axes
            place = ((1, y), (points, 0), ax.get_yaxis_transform(), "offset points")
            ax.annotate(words, *place, va="center", size=9, annotation_clip=False, color=color)
    if data["ceiling"]:
        limit = float(error_percent(data["ceiling"]["value"]))
        ax.axvline(limit, color=REFERENCE, linestyle=":", linewidth=1.5)
        ax.text(limit, -0.75, f" {data['ceiling']['task']}", size=8, color=REFERENCE, va="bottom")
    style.name_rows(ax, [f"{row['task']}\n{row['label']}" for row in rows])
    ax.tick_params(axis="y", labelsize=8)
    ax.set_xlabel("test error, or 1 − AUC (%, log scale)", size=9)
    fig.supxlabel("; ".join([*_interval_notes(rows), "◇ best prior work"]), size=8, color=REFERENCE)
    ax.set_xscale("log")
    ax.margins(x=0.05)
    style.plain_numbers(ax.xaxis)
    style.save(fig, path, description)


def plot_error_against_time(data: Sequence[dict], path: Path | str, description: str | None = None) -> None:
    """Plot test error against the training time of one run; data: rows of `plot_overview`, with "seconds"."""
    fig, ax = style.figure(size=(WIDTH, 4.2))
    rows = sorted(data, key=lambda row: row["seconds"])
    for row, later in zip(rows, [*rows[1:], rows[-1]], strict=True):
        _plot_result(ax, row, row["seconds"], horizontal=False)
        place = (row["seconds"], float(error_percent(row["mean"])))
        side = (10, 7 if row["mean"] < later["mean"] else -7)  # away from the next point
        ax.annotate(row["label"], place, side, textcoords="offset points", va="center")
    ax.set(xscale="log", yscale="log", ylabel="test error (%, log scale)")
    ax.set_xlabel("training time of one run (at most, s, log scale)")
    ax.set_title("; ".join(_interval_notes(data)), size=9, color=REFERENCE)
    ax.margins(x=0.14, y=0.08)
    for axis in (ax.xaxis, ax.yaxis):
        style.plain_numbers(axis)
    style.save(fig, path, description)


def _plot_result(ax, row, at, horizontal):
    mean, low, high = error_percent([row["mean"], row["high"], row["low"]])
    color = method_color(row["method"])
    style.range_bars(ax, at, (low, high), row["kind"], horizontal, color=color)
    ax.plot(*((mean, at) if horizontal else (at, mean)), "o", color=color, ms=6.5)


def _interval_notes(rows):
    return [text for kind, text in INTERVAL_LABELS.items() if any(row["kind"] == kind for row in rows)]
