"""What a network sees of a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle

from utils.plots import style

# Its path, its pixels (H, W) in [0, 1], its digits (N, 28, 28), their boxes (N, 4) and answers (N texts).
Picture = tuple[str, np.ndarray, np.ndarray, np.ndarray, Sequence[str]]


def plot_pictures(pictures: Sequence[Picture], path: Path | str) -> None:
    """Draw each picture, with a frame around each digit, beside the 28 x 28 pixels that the network sees."""
    columns = 1 + min(10, max(len(digits) for _, _, digits, *_ in pictures))
    size = 1.6 * (columns + 1), 1.75 * len(pictures) + 0.3
    widths = [2] + [1] * (columns - 1)
    fig, axes = style.figure(len(pictures), columns, size, squeeze=False, width_ratios=widths)
    for ax in axes.flat:
        ax.set_axis_off()
    for row, (source, values, digits, boxes, answers) in zip(axes, pictures, strict=True):
        height, width = values.shape
        row[0].imshow(values, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
        row[0].set_title(*style.labels([Path(source).name]), size=9)
        for left, top, right, bottom in boxes:
            frame = Rectangle((left, top), right - left, bottom - top, fill=False, color=style.PALETTE[1])
            row[0].add_patch(frame)
        for ax, digit, answer in zip(row[1:], digits, answers, strict=False):
            ax.imshow(digit, cmap="gray", vmin=0, vmax=255)
            ax.set_title(*style.labels([answer]), size=10)
    style.save(fig, path)
