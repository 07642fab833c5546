"""Figures of learned representations: training, views, neighbours, maps, error against labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.plots import style
from utils.plots.style import PALETTE, TRAINING, VALIDATION, Images, Panel, plot_images


def plot_contrastive_curves(history: Sequence[dict], chance: float, path: Path | str) -> None:
    """Plot loss, k-NN error, accuracy of the contrastive task, and alignment and uniformity.

    chance: the loss of features that are all equal, nats. An accuracy against a queue far above that within
    the batch means that queries know their keys by batch statistics, or that keys have drifted.
    """
    task = [("train_contrastive_accuracy", "training", TRAINING)]
    task += [("train_batch_accuracy", "within the batch alone", PALETTE[3])]
    geometry = [("train_alignment", "alignment", PALETTE[5]), ("train_uniformity", "uniformity", PALETTE[4])]
    panels = (
        Panel("contrastive loss (nats)", [("train_loss", "training", TRAINING)], chance=chance),
        Panel("k-NN error (%)", [("val_knn_accuracy", "validation", VALIDATION)], "error"),
        Panel("views that find their partner (%)", task, "share"),
        Panel("alignment and uniformity: lower is better", geometry),
    )
    style.plot_history(history, panels, path)


def plot_views(views: np.ndarray, path: Path | str, columns: int = 12) -> None:
    """Plot two views of each image as the network sees them, above one another: (B, 2, H, W), any scale."""
    gap = np.full_like(views[:, 0, :1], np.nan)
    tiles = np.concatenate([views[:, 0], gap, views[:, 1]], 1)
    title = "Pairs of views, one above the other: the network learns that they belong together"
    plot_images([Images(tiles)], columns, path, title, vmin=views.min(), vmax=views.max())


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
    side = min(7, style.WIDTH / len(maps))
    fig, axes = style.figure(1, len(maps), size=(side * len(maps), side + 0.3), squeeze=False)
    for ax, part in zip(axes[0], maps, strict=True):
        points, labels = np.asarray(part["points"]), np.asarray(part["labels"])
        known = np.isin(labels, part.get("seen", labels))
        cross = {"marker": "x", "s": 11, "lw": 0.8, "label": "unseen"}
        ax.scatter(*points[known].T, color=colors[labels[known]], s=5, lw=0, label="trained on")
        ax.scatter(*points[~known].T, color=colors[labels[~known]], **cross)
        if not known.all():
            fig.legend(loc="outside lower center", ncols=2, markerscale=2)
        for i in np.unique(labels):
            box = {"fc": "white", "ec": colors[i], "alpha": 0.85, "lw": 0.8, "boxstyle": "round,pad=0.2"}
            look = {"weight": "bold", "ha": "center", "va": "center", "bbox": box}
            ax.text(*np.median(points[labels == i], 0), classes[i], **look)
        ax.set(title=part["title"], xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    style.save(fig, path, description)
