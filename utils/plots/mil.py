"""Figures of multiple instance learning: bags with the shares of their instances, sweeps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.plots import style
from utils.plots.style import PALETTE, Images, plot_images

TARGET = PALETTE[1]
# The AUCs of networks trained on the builder shortcut: label, marker and colour by metric, in this order.
SHORTCUT_TESTS = {
    "test_auc": ("negative bags, as in training", "o", PALETTE[7]),
    "test_clean_auc": ("no bag", "s", PALETTE[0]),
    "test_both_auc": ("every bag", "^", PALETTE[2]),
    "test_poisoned_auc": ("positive bags only (poisoned)", "D", PALETTE[1]),
}


def plot_bags(images: np.ndarray, bags: dict[str, np.ndarray], path: Path | str, title: str = "") -> None:
    """Plot the first six bags of up to 12 images, or the beginning of longer ones; targets have a frame.

    images: (n, 1, H, W) uint8, bag after bag. bags: lengths (B,), keys (n,) bool, the targets, and maybe
    attention (n,), the weight that is written above an image, and probabilities (B,) of a positive bag.
    """
    lengths, keys = bags["lengths"], bags["keys"]
    short = np.flatnonzero(lengths <= 12)[:6]
    chosen = short if len(short) else np.arange(len(lengths))[:6]
    columns = min(12, lengths[chosen].max())
    starts = np.cumsum(lengths) - lengths
    inside = (np.arange(columns) < lengths[chosen, None]).ravel()
    at = np.where(inside, (starts[chosen, None] + np.arange(columns)).ravel(), 0)
    tiles = np.where(inside[:, None, None], images[at].squeeze(1), np.nan)
    names, texts = [], []
    for bag in chosen:
        names.append("positive" if keys[starts[bag] :][: lengths[bag]].any() else "negative")
        if "probabilities" in bags:
            names[-1] += f"\nP(pos.) {bags['probabilities'][bag]:.2f}"
    if "attention" in bags:
        texts = [f"{bags['attention'][i]:.2f}" * bool(ok) for i, ok in zip(at, inside, strict=True)]
    frames = dict.fromkeys(np.flatnonzero(inside & keys[at]).tolist(), TARGET)
    plot_images([Images(tiles, texts, frames, rows=names)], columns, path, title)


def plot_auc(cells: Sequence[dict], path: Path | str, references: Sequence[dict] = ()) -> None:
    """Plot 1 - AUC of every method: against the number of training bags, or in rows if there is but one.

    cells: of sweep.json. references: dicts of "name" and "points" [[bags, AUC], ...].
    """
    curves: dict[str, dict] = {}
    for cell in sorted((c for c in cells if "test_auc" in c["mean"]), key=lambda c: c["train_bags"]):
        method = cell["method"]
        curve = {"label": method, "color": style.method_color(method), "points": []}
        values = [run["test_auc"] for run in cell["runs"]]
        curves.setdefault(method, curve)["points"].append((cell["train_bags"], values))
    for reference, marker in zip(references, "Ds^v", strict=False):
        points = [(bags, [auc]) for bags, auc in reference["points"]]
        curve = {"label": reference["name"], "color": style.REFERENCE, "points": points}
        curves[reference["name"]] = curve | {"style": "none", "marker": marker}
    counts = {cell["train_bags"] for cell in cells}
    if len(counts) > 1:
        fig, ax = style.figure(size=(style.WIDTH, 5.4))
        style.error_lines(ax, curves.values(), "training bags (log scale)")
        ax.set_ylabel("1 − test AUC (%, log scale)")
        fig.legend(ncols=4, loc="outside lower center", title=f"band: ± 1 SD of {_repeats(cells)}")
    else:
        rows = [(c["label"], c["color"], dict(c["points"]).get(min(counts), [])) for c in curves.values()]
        rows = [row for row in rows if row[2]]
        fig, ax = style.figure(size=(style.WIDTH, 0.36 * len(rows) + 1.3))
        style.error_rows(ax, rows)
        ax.set_xlabel("1 − test AUC (%, log scale); dots: repeats, bars: their mean")
        ax.set_title(f"{min(counts)} training bags, {_repeats(cells)}")
    style.save(fig, path)


def plot_shortcut(cells: Sequence[dict], path: Path | str) -> None:
    """Plot the test AUCs of networks trained on the builder shortcut, one row per method, means ± 1 SD.

    cells: of sweep.json. Of several numbers of training bags the largest is plotted.
    """
    most = max(cell["train_bags"] for cell in cells)
    cells = [cell for cell in cells if cell["train_bags"] == most]
    fig, ax = style.figure(size=(style.WIDTH, 0.5 * len(cells) + 1.6))
    for i, (metric, (label, marker, color)) in enumerate(SHORTCUT_TESTS.items()):
        for row, cell in enumerate(cells):
            if metric in cell["mean"]:
                mean, std, at = cell["mean"][metric], cell["std"][metric] or 0.0, row + 0.16 * (i - 1.5)
                ends = max(mean - std, 0), min(mean + std, 1)
                style.range_bars(ax, at, ends, "std", horizontal=True, color=color)
                ax.plot(mean, at, marker, color=color, ms=6, label="" if row else label)
    ax.axvline(0.5, color=style.REFERENCE, linestyle=":", linewidth=1.2, label="chance")
    style.name_rows(ax, [cell["method"] for cell in cells])
    ax.set(xlim=(-0.02, 1.02), xlabel=f"test AUC, {most} training bags, mean ± 1 SD of {_repeats(cells)}")
    fig.legend(title="bags that carry the digit", ncols=3, loc="outside lower center")
    style.save(fig, path)


def _repeats(cells):
    fewest, most = (end(len(cell["runs"]) for cell in cells) for end in (min, max))
    return f"{most} repeats" if fewest == most else f"{fewest} to {most} repeats"
