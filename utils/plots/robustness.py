"""Figures of robustness: error under every corruption, what corruptions look like, disputed labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.robustness import CORRUPTIONS, LEVELS
from utils.plots.style import PALETTE, WIDTH, figure, heat_map, mosaic, save, show_image

SHARED = PALETTE[1]  # the frame of a digit in both rows
# Error rates below this share are drawn as this share: a log scale has no zero.
LEAST = 0.002


def plot_errors(errors: dict[str, np.ndarray], path: Path | str) -> None:
    """Draw error rates as colours: a map per corruption, models by levels.

    errors: {name: (C, LEVELS) shares}, corruptions in the order of CORRUPTIONS.
    """
    from matplotlib.colors import LogNorm

    table = np.stack(list(errors.values()), 1)
    fig, axes = figure(3, 3, size=(WIDTH, 1.5 + 0.62 * len(errors)), sharey=True)
    norm = LogNorm(LEAST, 1)
    for ax, (name, corruption), values in zip(axes.flat, CORRUPTIONS.items(), table, strict=True):
        texts = np.vectorize(lambda share: f"{100 * share:.{1 if share < 0.0995 else 0}f}")(values)
        look = {"annot": texts, "fmt": "", "annot_kws": {"size": 7.5}, "cbar": False}
        heat_map(ax, values.clip(LEAST, 1), "", cmap="Blues", norm=norm, **look)
        ax.set_title(f"{name} ({corruption.unit})", size=9.5)
        ax.set_xticks(np.arange(LEVELS) + 0.5, [f"{s:g}" for s in corruption.strengths], size=8, rotation=0)
        ax.set_yticks(np.arange(len(errors)) + 0.5, list(errors), size=8, rotation=0)
        ax.tick_params(length=0)
    fig.suptitle("Error (%) under corruption; dark is bad, log scale of colour", size=10.5)
    save(fig, path)


def plot_examples(images: np.ndarray, path: Path | str) -> None:
    """Draw one digit under every corruption at every level.

    images: (C, LEVELS + 1, S, S) uint8, the first of each row without corruption.
    """
    names = [f"{name}\n({c.unit})" for name, c in CORRUPTIONS.items()]
    half = len(names) // 2 + len(names) % 2
    fig, axes = figure(1, 2, size=(WIDTH, 0.62 * half + 0.5))
    side = images.shape[-1] + 2
    for ax, rows in zip(axes, (slice(0, half), slice(half, None)), strict=True):
        show_image(ax, np.nan_to_num(mosaic(images[rows], 2)))
        ax.spines[:].set_visible(False)
        ax.set_anchor("N")
        ax.set_yticks(side * (np.arange(len(names[rows])) + 0.5), names[rows], size=8)
        ax.set_xticks(side * (np.arange(LEVELS + 1) + 0.5), ["clean", *range(1, LEVELS + 1)], size=8)
        ax.xaxis.tick_top()
        ax.tick_params(length=0)
    save(fig, path)


Tile = tuple[np.ndarray, str, bool]  # image (S, S), text above it, whether it is in both parts


def plot_disputed_labels(
    parts: Sequence[tuple[str, Sequence[Tile]]], path: Path | str, columns: int = 8
) -> None:
    """Draw digits with a text above each, part after part under its title; those in both have a frame."""
    counts = [-(-len(tiles) // columns) for _, tiles in parts]
    heights = [count + 0.35 for count in counts]
    fig, _ = figure(size=(WIDTH, 1.32 * sum(counts) + 0.45 * len(parts)))
    fig.clear()
    subfigures = fig.subfigures(len(parts), 1, height_ratios=heights, squeeze=False).flat
    for sub, count, (title, tiles) in zip(subfigures, counts, parts, strict=True):
        sub.suptitle(title, size=10)
        axes = sub.subplots(count, columns, squeeze=False)
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, (image, text, shared) in zip(axes.flat, tiles, strict=False):
            show_image(ax, image)
            ax.set_axis_on()
            ax.spines[:].set(visible=True, color=SHARED if shared else "#BBBBBB", lw=2.5 if shared else 0.6)
            ax.set_title(text, size=8, pad=3)
    save(fig, path)
