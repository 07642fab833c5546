"""Figures of robustness: error under every corruption, what corruptions look like, disputed labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from data.robustness import CORRUPTIONS, LEVELS
from utils.plots import style
from utils.plots.style import Images, plot_images

FRAMED = style.PALETTE[1]
# Error rates below this share are plotted as this share: a log scale has no zero.
LEAST = 0.002
CHANCE = 0.9  # the error of a guess among ten digits

Tile = tuple[np.ndarray, str, bool]  # image (S, S), text above it, whether it has a frame


def plot_errors(errors: dict[str, Sequence], path: Path | str) -> None:
    """Plot error rates {model: C * LEVELS shares} as colours: a map per corruption, models by levels."""
    table = np.stack([np.reshape(values, (len(CORRUPTIONS), LEVELS)) for values in errors.values()], 1)
    fig, axes = style.figure(3, 3, size=(style.WIDTH, 1.5 + 0.62 * len(errors)), sharey=True)
    for ax, (name, corruption), values in zip(axes.flat, CORRUPTIONS.items(), table, strict=True):
        texts = np.vectorize(lambda share: f"{100 * share:.{1 if share < 0.0995 else 0}f}")(values)
        look = {"annot": texts, "fmt": "", "norm": LogNorm(LEAST, CHANCE)}
        plot_map(ax, values.clip(LEAST, CHANCE), f"{name} ({corruption.unit})", **look)
        ax.set_xticks(np.arange(LEVELS) + 0.5, [f"{s:g}" for s in corruption.strengths], size=8, rotation=0)
        ax.set_yticks(np.arange(len(errors)) + 0.5, list(errors), size=8, rotation=0)
    fig.suptitle("Error (%) under corruption, on a log scale of colour: white is 0.2 %, dark is chance, 90 %")
    style.save(fig, path)


def plot_map(ax: Axes, table: np.ndarray, title: str, **look: Any) -> None:
    """Plot a table as colours with a number in each cell. look: more arguments of `seaborn.heatmap`."""
    import seaborn as sns  # here, because it loads pandas, which --help needn't

    sns.heatmap(table, ax=ax, cmap="Blues", annot_kws={"size": 7.5}, cbar=False, linewidths=0.5, **look)
    ax.set_title(title, size=9.5)
    ax.tick_params(length=0)
    ax.grid(False)


def plot_maps(maps: Mapping[str, tuple[Sequence[str], Sequence[float]]], path: Path | str) -> None:
    """Plot square tables {title: (names, values from 0 to 1, row by row)} as colours, side by side."""
    fig, axes = style.figure(1, len(maps), size=(style.WIDTH, 4.3), squeeze=False)
    for ax, (title, (names, values)) in zip(axes.flat, maps.items(), strict=True):
        table, names = np.reshape(values, (len(names), -1)), [name.replace("_", " ") for name in names]
        plot_map(ax, table, title, annot=True, fmt=".2f", vmin=0, vmax=1, square=True)
        ax.set_xticks(np.arange(len(names)) + 0.5, names, size=8, rotation=90)
        ax.set_yticks(np.arange(len(names)) + 0.5, names, size=8, rotation=0)
    style.save(fig, path)


def plot_examples(images: np.ndarray, path: Path | str) -> None:
    """Plot one digit under every corruption at every level (C, LEVELS + 1, S, S), the clean one first."""
    heads = [f"{name}\n({corruption.unit})" for name, corruption in CORRUPTIONS.items()]
    tiles = images.swapaxes(0, 1).reshape(-1, *images.shape[2:])
    rows = ["clean", *(f"level {level}" for level in range(1, LEVELS + 1))]
    plot_images(Images(tiles, rows=rows, heads=heads), len(heads), path)


def plot_labels(tiles: Sequence[Tile], path: Path | str, title: str, wide: float = style.WIDTH) -> None:
    """Plot digits, eight in a row, with a text above each."""
    images, texts, framed = zip(*tiles, strict=True)
    frames = dict.fromkeys(np.flatnonzero(framed).tolist(), FRAMED)
    plot_images(Images(np.stack(images), texts, frames), 8, path, title, wide=wide)
