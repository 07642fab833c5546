"""Figures of the report: our best results beside prior work, and error against training time."""

from collections.abc import Sequence
from pathlib import Path

from utils.plots import style
from utils.plots.style import FRONT, PALETTE, REFERENCE, WIDTH, error_percent, method_color

# What is plotted about a mean, in words; "none" plots nothing.
INTERVAL_LABELS = {
    "std": "thick: ± standard deviation",
    "interval": "caps: 95 % interval of a single run",
    "range": "dashed: range of overlapping libraries",
}


def plot_overview(data: Sequence[dict], path: Path | str, description: str | None = None) -> None:
    """Plot one row per task: error of our best method above the best comparable prior work.

    data: rows {"task", "label", "method", "values", "mean", "low", "high", "kind", "text", "auc", "rivals"}.
    All values are shares, those with "auc" have a panel of their own. kind: of the range from low to high,
    see INTERVAL_LABELS. rivals: {"value", "text", and maybe "low" or "std"}.
    """
    parts = [[row for row in data if row["auc"] is auc] for auc in (False, True)]
    parts = [rows for rows in parts if rows]
    counts = [len(rows) for rows in parts]
    size = WIDTH, 0.32 * sum(counts) + 0.55 * len(parts)
    fig, axes = style.figure(len(parts), 1, size=size, squeeze=False, height_ratios=[n + 0.6 for n in counts])
    for ax, rows in zip(axes[:, 0], parts, strict=True):
        for y, row in enumerate(rows):
            _plot_result(ax, row, y - 0.12 * bool(row["rivals"]), horizontal=True)
            _name(ax, y, 8, row["text"], method_color(row["method"]))
            for rival in row["rivals"]:
                value, std = rival["value"], rival.get("std", 0)
                ends = error_percent([value + std, rival.get("low", value - std)])
                ax.plot(ends, [y + 0.18] * 2, color=REFERENCE, linewidth=1.2)
                ax.plot(error_percent(value), y + 0.18, "D", mfc="white", mec=REFERENCE, mew=1.3, ms=6)
            _name(ax, y, 112, "; ".join(rival["text"] for rival in row["rivals"]), REFERENCE)
        style.name_rows(ax, [f"{row['task']}\n{row['label']}" for row in rows])
        ax.tick_params(axis="y", labelsize=8)
        what = "1 − AUC" if rows[0]["auc"] else "test error"
        ax.set_xlabel(f"{what} (%, log scale), left is better", size=8.5)
        ax.set_xscale("log")
        ax.margins(x=0.05)
        style.plain_numbers(ax.xaxis)
    _name(axes[0, 0], -0.85, 8, "● ours", "black")
    _name(axes[0, 0], -0.85, 112, "◇ best comparable work", REFERENCE)
    fig.supxlabel("; ".join(_interval_notes(data)), size=8, color=REFERENCE)
    style.save(fig, path, description)


def plot_error_against_time(data: Sequence[dict], path: Path | str, description: str | None = None) -> None:
    """Plot test error against the training time of one run, beside the errors of prior work.

    data: rows of `plot_overview`, with "seconds" and the "source" of a rival, whose time is unknown.
    """
    fig, ax = style.figure(size=(WIDTH, 4.4))
    rows = sorted(data, key=lambda row: (row["seconds"], row["mean"]))
    for i, row in enumerate(rows):
        _plot_result(ax, row, row["seconds"], horizontal=False)
        error = float(error_percent(row["mean"]))
        near = [later for later in rows[i + 1 :] if later["seconds"] < 3 * row["seconds"]]
        crowded = any(1 / 1.6 < error_percent(later["mean"]) / error < 1.6 for later in near)
        below = i > 0 and rows[i - 1]["seconds"] == row["seconds"]  # the same weights
        left = crowded or (below and row is not rows[-1])
        look = {"ha": "right" if left else "left", "va": "center", "textcoords": "offset points"}
        place = (-8 if left else 8, -8 if below else 6)
        ax.annotate(row["label"], (row["seconds"], error), place, **look)
    ax.set(xscale="log", yscale="log", ylabel="test error (%, log scale)")
    ax.set_xlabel("training time of one run (at most, s, log scale)")
    ax.set_title("; ".join([*_interval_notes(data), "dotted: prior work"]), size=9, color=REFERENCE)
    ax.margins(x=0.14, y=0.08)
    every = [rival for row in data for rival in row["rivals"]]
    rivals = {(float(error_percent(r["value"])), r["source"] + r["text"].partition("%")[2]) for r in every}
    for error, _ in rivals:
        ax.axhline(error, color=REFERENCE, ls=":", lw=1)
    style.plain_numbers(ax.xaxis)
    style.plain_numbers(ax.yaxis)
    ends = [(error, f"{error:.2g} %, {source}", REFERENCE) for error, source in sorted(rivals)]
    style.name_ends(ax, ends, 8)
    style.save(fig, path, description)


def plot_error_against_parameters(data: dict, path: Path | str, description: str | None = None) -> None:
    """Plot test error against parameters; a line joins our networks that none with fewer equals.

    data: "ours", {"label", "parameters", "mean", "low", "high", "kind"}; "prior": {"name", ..., "value"}.
    """
    fig, ax = style.figure(size=(FRONT, 3.9))
    front: list[tuple[int, float]] = []

    def is_crowded(part, at):  # a name would run into the next point
        return any(1.5 * at < other["parameters"] < 3 * at for other in data[part])

    for row in sorted(data["ours"], key=lambda row: (row["parameters"], -row["mean"])):
        at, (error, *ends) = row["parameters"], error_percent([row["mean"], row["high"], row["low"]]).tolist()
        style.range_bars(ax, at, ends, row["kind"], color=PALETTE[0])
        ax.plot(at, error, "o", color=PALETTE[0], ms=5)
        leads = not front or error < front[-1][1]
        front += [(at, error)] * leads
        place, side = ((-6, -9), "right") if leads and is_crowded("ours", at) else ((6, 2), "left")
        ax.annotate(row["label"], (at, error), place, textcoords="offset points", ha=side, color=PALETTE[0])
    ax.plot(*zip(*front, strict=True), color=PALETTE[0], lw=1)
    for rival in data["prior"]:
        point = rival["parameters"], float(error_percent(rival["value"]))
        ax.plot(*point, "D", mfc="white", mec=REFERENCE, ms=5)
        place, side = ((-6, -3), "right") if is_crowded("prior", point[0]) else ((6, -3), "left")
        look = {"size": 8, "ha": side, "color": REFERENCE}
        ax.annotate(rival["name"], point, place, textcoords="offset points", **look)
    ax.set(xscale="log", yscale="log", xlabel="parameters (log scale)", ylabel="test error (%, log scale)")
    ax.set_title("● ours, last epoch   ◇ others, † selected on the test set, ¶ unknown how", size=8.5)
    ax.margins(x=0.25, y=0.08)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    style.plain_numbers(ax.yaxis)
    style.save(fig, path, description)


def plot_curves(data: Sequence[dict], path: Path | str, description: str | None = None) -> None:
    """Plot error curves, panel by panel.

    data: panels {"title", "xlabel", "curves"}, with curves as in `style.error_lines` without colour.
    """
    fig, axes = style.figure(1, len(data), size=(WIDTH, 3.4), squeeze=False)
    for ax, panel in zip(axes[0], data, strict=True):
        curves = [curve | {"color": color} for curve, color in zip(panel["curves"], PALETTE, strict=False)]
        style.error_lines(ax, curves, f"{panel['xlabel']} (log scale)")
        ax.set_title(panel["title"], size=9.5)
    axes[0, 0].set_ylabel("error (%, log scale); dots: single trainings")
    style.save(fig, path, description)


def _name(ax, y, points, words, color):
    """Write words right of the axes, beside row y."""
    place = ((1, y), (points, 0), ax.get_yaxis_transform(), "offset points")
    ax.annotate(words, *place, va="center", size=9, annotation_clip=False, color=color)


def _plot_result(ax, row, at, horizontal):
    mean, low, high = error_percent([row["mean"], row["high"], row["low"]])
    color = method_color(row["method"])
    style.range_bars(ax, at, (low, high), row["kind"], horizontal, color=color)
    ax.plot(*((mean, at) if horizontal else (at, mean)), "o", color=color, ms=6.5)


def _interval_notes(rows):
    return [text for kind, text in INTERVAL_LABELS.items() if any(row["kind"] == kind for row in rows)]
