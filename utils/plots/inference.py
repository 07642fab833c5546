"""What a network sees of a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.patches import Rectangle

from utils.plots import style


class Picture(NamedTuple):
    """A picture (H, W) in [0, 1] with its digits (N, 28, 28), their boxes (N, 4) and answers (N texts)."""

    name: str
    values: np.ndarray
    digits: np.ndarray
    boxes: np.ndarray
    answers: Sequence[str]


def plot_pictures(pictures: Sequence[Picture], path: Path | str) -> None:
    """Draw each picture, with a frame around each digit, beside the 28 x 28 pixels that the network sees."""
    columns = 1 + min(6, max(len(picture.digits) for picture in pictures))
    size = 1.6 * (columns + 1), 1.75 * len(pictures) + 0.3
    widths = [2] + [1] * (columns - 1)
    fig, axes = style.figure(len(pictures), columns, size, squeeze=False, width_ratios=widths)
    for ax in axes.flat:
        ax.set_axis_off()
    for row, picture in zip(axes, pictures, strict=True):
        height, width = picture.values.shape
        row[0].imshow(picture.values, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
        row[0].set_title(*style.labels([picture.name]), size=9)
        for left, top, right, bottom in picture.boxes:
            frame = Rectangle((left, top), right - left, bottom - top, fill=False, color=style.PALETTE[1])
            row[0].add_patch(frame)
        for ax, digit, answer in zip(row[1:], picture.digits, picture.answers, strict=False):
            ax.imshow(digit, cmap="gray", vmin=0, vmax=255)
            ax.set_title(*style.labels([answer]), size=10)
    style.save(fig, path)
