"""What a network sees of a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.patches import Rectangle
from PIL import Image

from data.drawing import Drawing, grey
from utils.plots.style import PALETTE, figure, save


def plot_pictures(rows: Sequence[tuple[str, Image.Image, Drawing, Sequence[Any]]], path: Path | str) -> None:
    """Draw each picture, with a frame around each digit, beside the 28 x 28 pixels the network sees.

    rows: a list of (file name, PIL picture, Drawing, answers).
    """
    columns = 1 + min(6, max(len(drawing.digits) for *_, drawing, _ in rows))
    fig, axes = figure(
        len(rows),
        columns,
        size=(1.6 * (columns + 1), 1.75 * len(rows) + 0.3),
        squeeze=False,
        width_ratios=[2] + [1] * (columns - 1),
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for row, (name, picture, drawing, answers) in zip(axes, rows, strict=True):
        width, height = picture.size
        row[0].imshow(grey(picture), cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
        row[0].set_title(Path(name).name, size=9)
        for left, top, right, bottom in drawing.boxes:
            frame = Rectangle((left, top), right - left, bottom - top, fill=False, color=PALETTE[1])
            row[0].add_patch(frame)
        for ax, digit, answer in zip(row[1:], drawing.digits, answers, strict=False):
            ax.imshow(digit, cmap="gray", vmin=0, vmax=255)
            mark = "?" if answer.warning else ""
            ax.set_title(f"{answer.label}{mark}  {answer.probability:.0%}", size=10)
    save(fig, path)
