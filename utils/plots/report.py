"""Figures of the report: our best results beside prior work, and error against what it costs."""

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
            mean, *span = error_percent([row["mean"], row["high"], row["low"]])
            look = {"color": method_color(row["method"])}
            at = y - 0.12 * bool(row["rivals"])
            style.range_bars(ax, at, span, row["kind"], True, **look)
            ax.plot(mean, at, "o", ms=6.5, **look)
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
    notes = [text for kind, text in INTERVAL_LABELS.items() if any(row["kind"] == kind for row in data)]
    fig.supxlabel("; ".join(notes), size=8, color=REFERENCE)
    style.save(fig, path, description)


def plot_error_against_cost(data: dict, path: Path | str, description: str | None = None) -> None:
    """Plot test error against what a network costs; a line joins ours that none of the cheaper ones equals.

    data: "cost", its name with the unit; "ours", {"label", "cost", "mean", "low", "high", "kind"}; "prior":
    {"name", "cost", "value"}.
    """
    fig, ax = style.figure(size=(FRONT, 3.9))
    front: list[tuple[float, float]] = []
    for row in sorted(data["ours"], key=lambda row: (row["cost"], -row["mean"])):
        at, (error, *ends) = row["cost"], error_percent([row["mean"], row["high"], row["low"]]).tolist()
        style.range_bars(ax, at, ends, row["kind"], color=PALETTE[0])
        ax.plot(at, error, "o", color=PALETTE[0], ms=5)
        leads = not front or error < front[-1][1]
        front += [(at, error)] * leads
        near = [(other["cost"] / at, error_percent(other["mean"]) / error) for other in data["ours"]]
        above = any(0.9 < x < 1.6 and 0.8 < y < 1 for x, y in near)  # the name of a point just below
        runs_into = leads and any(1.5 < x < 3 for x, _ in near)  # the next point
        place, side = ((-6, -9), "right") if runs_into else ((6, 9 if above else 2), "left")
        ax.annotate(row["label"], (at, error), place, textcoords="offset points", ha=side, color=PALETTE[0])
    ax.plot(*zip(*front, strict=True), color=PALETTE[0], lw=1)
    for rival in data["prior"]:
        point = rival["cost"], float(error_percent(rival["value"]))
        ax.plot(*point, "D", mfc="white", mec=REFERENCE, ms=5)
        runs_into = any(1.5 < other["cost"] / rival["cost"] < 3 for other in data["prior"])
        place, side = ((-6, -3), "right") if runs_into else ((6, 2), "left")
        look = {"size": 8, "ha": side, "color": REFERENCE, "bbox": {"fc": "white", "ec": "none", "pad": 0.5}}
        ax.annotate(rival["name"], point, place, textcoords="offset points", **look)
    others = "   ◇ others, † selected on the test set, ¶ unknown how" * bool(data["prior"])
    ax.set_title(f"● ours, last epoch{others}", size=8.5)
    ax.set(
        xscale="log", yscale="log", xlabel=f"{data['cost']}, log scale", ylabel="test error (%, log scale)"
    )
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
