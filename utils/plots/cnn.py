"""Figures of a classifier: confusion matrix, mistakes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.errors import printable
from utils.plots import style
from utils.plots.style import VALIDATION, Images, plot_images

MISTAKES = "Most confidently wrong test images: true → predicted class, index, confidence"


def plot_confusion(counts: np.ndarray, path: Path | str, title: str, classes: Sequence[str]) -> None:
    """Plot the counts of a confusion matrix; the colour shows the errors only, on their own scale.

    counts: (classes, classes), true classes in rows.
    """
    import seaborn as sns  # here, because it loads pandas, which --help needn't

    fig, ax = style.figure(size=(6.8, 5.9))
    classes = style.labels(classes)
    diagonal, few = np.eye(len(counts), dtype=bool), len(counts) <= 20
    texts = {"annot": np.where(counts, counts, "") if few else None, "fmt": ""}
    colors = {"cmap": "Oranges", "vmin": 0, "vmax": max(1, counts[~diagonal].max())}
    bar = {"label": "wrong predictions", "shrink": 0.8}
    sns.heatmap(counts, mask=diagonal, ax=ax, square=True, linewidths=0.5, cbar_kws=bar, **colors, **texts)
    for i, count in enumerate(np.diag(counts) if few else ()):
        ax.text(i + 0.5, i + 0.5, count, ha="center", va="center", color=VALIDATION, weight="bold", size=9)
    step = -(-len(classes) // 30)  # more names than that would collide
    places, long = np.arange(0, len(classes), step) + 0.5, max(map(len, classes)) > 3
    ax.set_xticks(places, classes[::step], rotation=45 if long else 0, ha="right" if long else "center")
    ax.set_yticks(places, classes[::step], rotation=0)
    ax.set(xlabel="predicted", ylabel="true", title=printable(title))
    ax.grid(False)
    style.save(fig, path)


def plot_mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    path: Path | str,
    classes: Sequence[str],
    among: np.ndarray | bool = True,
    title: str = MISTAKES,
) -> None:
    """Plot the 24 images that are wrong with the greatest confidence.

    images: (N, 1, H, W) or (N, H, W) uint8. labels: (N,). probabilities: (N, classes). among: (N,) bool, the
    images that may be shown.
    """
    classes = style.labels(classes)
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero((predicted != labels) & among)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:24]
    arrow = " → " if max(map(len, classes)) <= 4 else "\n→ "  # long names on two lines
    names = [arrow.join((classes[labels[i]], classes[predicted[i]])) for i in wrong]
    texts = [f"{name}\n#{i}  {confidence[i]:.0%}" for name, i in zip(names, wrong, strict=True)]
    tiles = images[wrong].reshape(-1, *images.shape[-2:])
    plot_images(Images(tiles, texts), 8, path, title if texts else "no mistakes")
