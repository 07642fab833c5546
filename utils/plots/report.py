"""Figures of the report: our best results beside prior work, and error against training time."""

from pathlib import Path

import numpy as np

from utils.plots.style import (
    REFERENCE,
    WIDTH,
    error_percent,
    figure,
    interval_bars,
    method_color,
    plain_numbers,
    save,
    std_bars,
)

HEIGHT = 3.9  # inches: less than 400 pixels on the front page
# What is drawn about a mean, in words; "none" draws nothing.
INTERVAL_LABELS = {
    "std": "thick: ± standard deviation",
    "interval": "caps: 95 % interval of a single run",
    "range": "dashed: range of overlapping libraries",
}


def plot_overview(data: dict, path: Path, text: str | None = None) -> None:
    """Draw one line per task: error of our best method beside the best comparable prior work.

    data: {"rows": [row, ...], "ceiling": None or {"value", "task"}}. row: {"task", "label", "method",
    "values", "mean", "low", "high", "kind", "text", "references": at most one of {"value", "text", and maybe
    "low" or "std"}}. All values are shares. kind: of the range from low to high, see INTERVAL_LABELS.
    """
    rows = data["rows"]
    fig, ax = figure(size=(WIDTH, min(HEIGHT, 0.42 * len(rows) + 0.95)))
    for y, row in enumerate(rows):
        _prior_work(ax, y, row["references"])
        _interval(ax, y, row)
        ax.plot(error_percent(row["mean"]), y, "o", color=method_color(row["method"]), ms=6.5)
        _beside(ax, y, row)
    if data["ceiling"]:
        limit = float(error_percent(data["ceiling"]["value"]))
        ax.axvline(limit, color=REFERENCE, linestyle=":", linewidth=1.5)
        ax.text(limit, -0.75, f" {data['ceiling']['task']}", size=8, color=REFERENCE, va="bottom")
    notes = _interval_notes(rows)
    ax.set(ylim=(len(rows) - 0.4, -0.7), xscale="log")
    ax.set_xlabel("test error, or 1 − AUC (%, log scale)", size=9)
    fig.supxlabel("; ".join([*notes, "◇ best prior work"]), size=8, color=REFERENCE)
    ax.margins(x=0.05)
    ax.set_yticks(range(len(rows)), [f"{row['task']}\n{row['label']}" for row in rows], size=8)
    ax.tick_params(axis="x", labelsize=9)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    plain_numbers(ax.xaxis)
    save(fig, path, text)


def _prior_work(ax, y, references):
    for reference in references:
        value, std = reference["value"], reference.get("std", 0)
        ends = error_percent([value + std, reference.get("low", value - std)])
        ax.plot(ends, [y, y], color=REFERENCE, linewidth=1.2)
        ax.plot(error_percent(value), y, "D", mfc="white", mec=REFERENCE, mew=1.3, ms=6.5)


def _interval(ax, at, row, horizontal=True):
    low, high = error_percent([row["high"], row["low"]])
    color = method_color(row["method"])
    if row["kind"] == "std":
        std_bars(ax, at, low, high, color, horizontal)
    elif row["kind"] == "interval":
        interval_bars(ax, at, low, high, color, horizontal)
    elif row["kind"] == "range":
        draw = ax.hlines if horizontal else ax.vlines
        draw(at, low, high, color=color, linewidth=1.5, linestyle=(0, (3, 1.5)))


def _interval_notes(rows):
    return [text for kind, text in INTERVAL_LABELS.items() if any(row["kind"] == kind for row in rows)]


def _beside(ax, y, row):
    """Write the row's number and the prior work's right of the axes."""
    texts = [(8, row["text"], method_color(row["method"]))]
    texts += [(108, f"◇ {reference['text']}", REFERENCE) for reference in row["references"]]
    for points, words, color in texts:
        anchor = ((1, y), (points, 0), ax.get_yaxis_transform(), "offset points")
        ax.annotate(words, *anchor, va="center", size=9, annotation_clip=False, color=color)


def plot_error_against_time(data: list[dict], path: Path, text: str | None = None) -> None:
    """Draw test error against the training time of one run, on log scales.

    data: rows as in `plot_overview`, with "seconds".
    """
    fig, ax = figure(size=(WIDTH, 4.2))
    for row in data:
        color, error = method_color(row["method"]), float(error_percent(row["mean"]))
        _interval(ax, row["seconds"], row, horizontal=False)
        ax.plot(row["seconds"], error, "o", color=color, ms=8)
    for row, points in zip(data, _label_places(data), strict=True):
        at = (row["seconds"], float(error_percent(row["mean"])))
        ax.annotate(row["label"], at, points, textcoords="offset points", va="center", size=10)
    ax.set(xscale="log", yscale="log", xlabel="training time of one run (at most, s, log scale)")
    ax.set_ylabel("test error (%, log scale)")
    ax.set_title("; ".join(_interval_notes(data)), size=9, color=REFERENCE)
    ax.margins(x=0.14, y=0.08)
    plain_numbers(ax.yaxis)
    plain_numbers(ax.xaxis, (1, 3))
    save(fig, path, text)


def _label_places(data):
    """Return the offset in points of every label; those of close points stand one above the other."""
    places = []
    logs = np.log10([[row["seconds"], float(error_percent(row["mean"]))] for row in data])
    for i, (x, y) in enumerate(logs):
        near = [j for j, (a, b) in enumerate(logs) if j != i and abs(a - x) < 0.6 and abs(b - y) < 0.12]
        above = sum(logs[j][1] > y or (logs[j][1] == y and j < i) for j in near)
        places.append((12, 7 * len(near) - 14 * above))
    return places
