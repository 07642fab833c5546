"""The figure of metric learning: error against the data."""

import re
from collections.abc import Sequence
from pathlib import Path

from utils.plots import style
from utils.plots.style import PALETTE


def plot_accuracy(cells: Sequence[dict], path: Path | str) -> None:
    """Plot the error of episodes against the number of digits, and of images of three digits.

    cells: of sweep.json, {"digits", "images", "runs": [{"test_10way_1shot_accuracy", ...}, ...]}.
    """
    base = cells[0]["images"]
    names = [name for name in cells[0]["runs"][0] if re.fullmatch(r"test_\d+way_\d+shot_accuracy", name)]
    fig, axes = style.figure(1, 2, size=(style.WIDTH, 3.4), sharey=True)
    for ax, x, fixed, value in zip(axes, ("digits", "images"), ("images", "digits"), (base, 3), strict=True):
        chosen = [cell for cell in cells if cell[fixed] == value]
        curves = []
        for name, color in zip(names, PALETTE, strict=False):
            label = name[5:-9].replace("way_", "-way\n").replace("shot", "-shot")
            points = [(cell[x], [run[name] for run in cell["runs"]]) for cell in chosen]
            curves.append({"label": label, "color": color, "points": points})
        style.error_lines(ax, curves, x, xscale="log" if x == "images" else "linear")
    axes[0].set(xlabel="digits trained on", title=f"{base:,} images of each")
    axes[1].set(xlabel="images of each (log scale)", title="digits 0, 1, 2")
    axes[0].set_ylabel("test error over episodes (%, log scale)")
    style.save(fig, path)
