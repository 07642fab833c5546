"""Figures of learned representations: views, maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.plots import style
from utils.plots.style import Images, plot_images


def plot_views(views: np.ndarray, path: Path | str, columns: int = 12) -> None:
    """Plot two views of each image as the network sees them, above one another: (B, 2, H, W), any scale."""
    gap = np.full_like(views[:, 0, :1], np.nan)
    tiles = np.concatenate([views[:, 0], gap, views[:, 1]], 1)
    title = "Pairs of views, one above the other: the network learns that they belong together"
    plot_images(Images(tiles), columns, path, title, vmin=views.min(), vmax=views.max())


def plot_maps(
    maps: Sequence[dict], path: Path | str, description: str | None = None, classes: Sequence[str] = ()
) -> None:
    """Plot two-dimensional maps side by side: a colour for each class, and its name at its median.

    maps: {"title", "points": (N, 2), "labels": (N,) indices into `classes`, maybe "seen": the classes without
    crosses}. classes: names, by default the indices. description: kept inside the PNG.
    """
    count = 1 + max(max(part["labels"]) for part in maps)
    classes = style.labels(classes or map(str, range(count)))
    colors = style.class_colors(len(classes))
    side = min(style.FRONT, style.WIDTH / len(maps))
    fig, axes = style.figure(1, len(maps), size=(side * len(maps), side + 0.3), squeeze=False)
    for ax, part in zip(axes[0], maps, strict=True):
        points, labels = np.asarray(part["points"]), np.asarray(part["labels"])
        known = np.isin(labels, part.get("seen", labels))
        ax.scatter(*points[known].T, color=colors[labels[known]], s=5, lw=0, label="trained on")
        ax.scatter(*points[~known].T, color=colors[labels[~known]], marker="x", s=11, lw=0.8, label="unseen")
        if not known.all():
            fig.legend(loc="outside lower center", ncols=2, markerscale=2)
        for i in np.unique(labels):
            box = {"fc": "white", "ec": colors[i], "alpha": 0.85, "lw": 0.8, "boxstyle": "round,pad=0.2"}
            look = {"weight": "bold", "ha": "center", "va": "center", "bbox": box}
            ax.text(*np.median(points[labels == i], 0), classes[i], **look)
        ax.set(title=part["title"], xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    style.save(fig, path, description)
