"""Figures of multiple instance learning: bags with the shares of their instances, sweeps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.plots import style
from utils.plots.style import PALETTE, Images, plot_images

TARGET = PALETTE[1]
# The AUCs of networks trained on the builder shortcut: label, marker and colour by metric, in this order.
SHORTCUT_TESTS = {
    "test_auc": ("the negative bags, as in training", "o", PALETTE[7]),
    "test_clean_auc": ("no test bag", "s", PALETTE[0]),
    "test_both_auc": ("every test bag", "^", PALETTE[2]),
    "test_poisoned_auc": ("the positive bags only", "D", PALETTE[1]),
}


def plot_bags(images: np.ndarray, bags: dict[str, np.ndarray], path: Path | str, title: str = "") -> None:
    """Plot the first six bags of up to 12 images, or the beginning of longer ones; targets have a frame.

    images: (n, 1, H, W) uint8, bag after bag. bags: lengths (B,), keys (n,) bool, the targets, and maybe
    attention (n,), the weight that is written above an image, and probabilities (B,) of a positive bag.
    """
    lengths, keys = bags["lengths"], bags["keys"] > 0
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
    plot_images(Images(tiles, texts, frames, rows=names), columns, path, title)


def plot_auc(cells: Sequence[dict], path: Path | str) -> None:
    """Plot 1 - AUC of every method against the number of training bags; cells: of sweep.json."""
    curves: dict[str, dict] = {}
    for cell in cells:
        curve = {"label": cell["method"], "color": style.method_color(cell["method"]), "points": []}
        values = [run["test_auc"] for run in cell["runs"]]
        curves.setdefault(cell["method"], curve)["points"].append((cell["train_bags"], values))
    fig, ax = style.figure(size=(style.WIDTH, 4.4))
    style.error_lines(ax, list(curves.values()), "training bags (log scale); small dots: repeats")
    ax.set_ylabel("1 − test AUC (%, log scale)")
    style.save(fig, path)


def plot_shortcut(cells: Sequence[dict], path: Path | str) -> None:
    """Plot the test AUCs of networks trained on the builder shortcut, one row per method, means ± 1 SD.

    cells: of sweep.json. Of several numbers of training bags the largest is plotted.
    """
    most = max(cell["train_bags"] for cell in cells)
    cells = [cell for cell in cells if cell["train_bags"] == most]
    fig, ax = style.figure(size=(style.FRONT, 0.38 * len(cells) + 1.5))
    for i, (metric, (label, marker, color)) in enumerate(SHORTCUT_TESTS.items()):
        for row, cell in enumerate(cells):
            values, at = [run[metric] for run in cell["runs"] if metric in run], row + 0.18 * (i - 1.5)
            if values:
                mean, std = np.mean(values), np.std(values, ddof=min(1, len(values) - 1))
                ends = max(mean - std, 0), min(mean + std, 1)
                style.range_bars(ax, at, ends, "std", horizontal=True, color=color)
                ax.plot(mean, at, marker, color=color, ms=5.5, label="" if row else label, clip_on=False)
    ax.axvline(0.5, color=style.REFERENCE, linestyle=":", linewidth=1.2)
    ax.text(0.5, -0.62, " chance", size=8.5, color=style.REFERENCE, va="bottom")
    style.name_rows(ax, [cell["method"] for cell in cells])
    fewest, runs = (end(len(cell["runs"]) for cell in cells) for end in (min, max))
    repeats = f"{runs}" if fewest == runs else f"{fewest} to {runs}"
    ax.set(xlim=(0, 1), xlabel=f"test AUC, mean ± 1 SD of {repeats} repeats, {most} training bags")
    fig.legend(title="The cue is in ...", ncols=2, loc="outside lower center")
    style.save(fig, path)
