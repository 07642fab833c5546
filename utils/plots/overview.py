"""Figures of the report: all paradigms beside prior work, and error against training time."""

import numpy as np

from utils.plots.style import REFERENCE, error_percent, figure, method_color, plain_numbers, save


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
