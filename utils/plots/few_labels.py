"""Figures of the few-label study: error against labels, what strokes are worth."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from data import load, view_batches
from utils.plots import style
from utils.plots.style import FRONT, PALETTE

# The colour, an index of the palette, says where features come from, line and marker what was done with them.
COLORS = {"pixels": 7, "mlp1": 4, "mlp": 5, "cnn": 0, "supcon": 3, "simclr": 1, "moco": 2}
STYLES = {"knn": (":", "s"), "linear": ("--", "D"), "finetuned": ("-", "v"), "self_trained": (":", "^")}
STYLES |= {"best": ("none", "D")}
NAMES = {"knn": "k-NN", "linear": "linear probe", "spread": "labels spread", "pixels": "raw pixels"}
NAMES |= {"simclr": "SimCLR", "moco": "MoCo", "both": "SimCLR + MoCo", "prior-best": "prior work ◆"}
# Sevens among the digits of mnist-5k: one without a bar, and eight with one.
PLAIN_SEVEN, BARRED_SEVENS = 405, (396, 530, 562, 646, 707, 914, 1770, 1807)
VIEW_SEED, STROKES = 13, ("affine", "elastic", "blur", "stroke")


def method_style(method: str) -> dict[str, str]:
    """Return the name in words, colour, line and marker of a method "<source>-<what is done>"."""
    source, _, what = method.partition("-")
    line, marker = STYLES.get(what, ("-", "o"))
    words = [NAMES.get(word, word.replace("_", " ")) for word in (source, what) if word]
    label, color = NAMES.get(method, ", ".join(words)), PALETTE[COLORS.get(source, 6)]
    return {"label": label, "color": color, "style": line, "marker": marker}


def plot_error_against_labels(
    cells: Sequence[dict], path: Path | str, description: str | None = None, metric: str = "test_accuracy"
) -> None:
    """Plot mean error against labels, with a band from the best to the worst draw.

    cells: of sweep.json, {"method", "labels", "runs": [{metric: accuracy}, ...]}; those without labels have
    no place on a log scale. description: kept inside the PNG.
    """
    methods: dict[str, dict] = {}
    for cell in (cell for cell in cells if cell["labels"]):
        curve = methods.setdefault(cell["method"], {**method_style(cell["method"]), "points": []})
        curve["points"].append((cell["labels"], [run[metric] for run in cell["runs"]]))
    fig, ax = style.figure(size=(FRONT, 3.9))
    style.error_lines(ax, list(methods.values()), "labelled images in all (log scale)", band=True)
    ax.set_ylabel("test error (%, log scale)")
    style.save(fig, path, description)


def plot_strokes(data: Sequence[dict], path: Path | str, description: str | None = None) -> None:
    """Plot barred sevens, views with strokes, and the error of every draw without and with strokes.

    data: panels {"title", "rows": [[name, [accuracy of a draw, ...]], ...]}.
    """
    digits = load("mnist-5k", "")[0]
    views = view_batches(digits, torch.full((4,), PLAIN_SEVEN), 4, STROKES, seed=VIEW_SEED)
    seen = next(views.epoch())[0].flatten(0, 2) * digits.std + digits.mean
    pixels = digits.images[[*BARRED_SEVENS, PLAIN_SEVEN], 0].cpu() / 255.0
    seen = torch.cat([pixels[-1:], seen[:7]])
    titles = {"Sevens with a bar were read as 2 where no labelled seven has one": pixels[:-1]}
    titles |= {"Random strokes on its views teach SimCLR that a bar means little": seen}
    fig = style.plt.figure(figsize=(FRONT, 3.6), dpi=200, layout="constrained")
    grid = fig.add_gridspec(3, 2, height_ratios=(4, 4, 5))
    for place, (title, images) in zip((grid[0, :], grid[1, :]), titles.items(), strict=True):
        ax = fig.add_subplot(place)
        ax.imshow(torch.cat(list(images), 1).numpy(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(title, size=9.5)
        ax.set_axis_off()
    for column, panel in enumerate(data):
        ax = fig.add_subplot(grid[2, column])
        for row, (_, shares) in enumerate(panel["rows"]):
            dots, color = [row] * len(shares), (PALETTE[7], PALETTE[1])[row]
            ax.plot(style.error_percent(shares), dots, "o", color=color, alpha=0.6, ms=5.5, mew=0)
            ax.plot(style.error_percent(np.mean(shares)), row, "|", color="black", ms=14, mew=1.5)
        style.name_rows(ax, [name for name, _ in panel["rows"]])
        ax.set_xscale("log")
        style.plain_numbers(ax.xaxis)
        ax.set_title(panel["title"], size=9.5)
        ax.tick_params(labelleft=column == 0)
    fig.supxlabel("test error (%, log scale); dots: draws of the labels, bars: their mean", size=9)
    style.save(fig, path, description)
