"""Find the digits in a drawing or photograph and bring each to MNIST's form.

MNIST's digits were scaled to fit a box of 20 x 20 pixels, keeping their aspect ratio, with anti-aliasing, and
placed in 28 x 28 pixels with their centre of mass in the middle (LeCun et al., 1998).
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from data import DataError
from data.page import BOX, find_ink
from data.pictures import SIDE, grey, shrunk

SOLID = 0.25  # share at which a blurred stroke ends
SPECK = 0.1  # of the height of the largest component: smaller ones are dirt
STROKE = 0.5  # of the height of the tallest digit: lower ones are strokes of a neighbour
CLOSE = 0.1  # of their height: digits closer than this may be strokes of one digit
MOST_STROKES = 300  # in a picture; grouping takes the square of their number
WIDEST = 1.6  # times its height; hardly a digit of MNIST is wider
THINNEST = 1.5  # pixels of the 20 x 20 box: thinner strokes would turn grey and are thickened


class Drawing(NamedTuple):
    """The digits of a picture.

    digits: (N, 28, 28) uint8, white ink on black, from left to right. boxes: (N, 4) int, left, top, right,
    bottom of each digit in the picture. notes: what a reader should know, e.g. that digits may touch.
    """

    digits: np.ndarray
    boxes: np.ndarray
    notes: tuple[str, ...]


def read_drawing(picture: Image.Image, single: bool = False) -> Drawing:
    """Find the digits in a picture and bring each to MNIST's form.

    picture: of any size and mode; dark on light or light on dark, as the border shows. single: the picture
    holds one digit, even when its strokes lie apart. Raises DataError for a blank picture.
    """
    width, picture = picture.width, shrunk(picture)
    ink, notes = find_ink(grey(picture))
    boxes, inks, more = separate(ink, single)
    boxes = np.rint(boxes * (width / picture.width)).astype(int)
    return Drawing(np.stack([to_mnist(ink) for ink in inks]), boxes, notes + more)


def to_mnist(ink: np.ndarray) -> np.ndarray:
    """Scale and centre the ink of one digit, (H, W) in [0, 1], as in MNIST: (28, 28) uint8.

    Keeps the aspect ratio. Strokes that would be too thin to see at this size are thickened.
    """
    ink = ink / ink.max()  # of one digit, which may be paler than another in the picture
    # An enlarged digit has a blurred edge, which belongs to it only as far as it is dark.
    solid = ink > (SOLID if max(ink.shape) > 2 * BOX else 0)
    ink = ink[ndimage.find_objects(solid.view(np.uint8))[0]]
    scale = BOX / max(ink.shape)
    size = tuple(max(1, round(scale * length)) for length in ink.shape)
    if scale < 0.5:
        ink = thicken(ink, scale)
    resized = Image.fromarray(np.ascontiguousarray(ink)).resize(size[::-1], Image.Resampling.LANCZOS)
    small = np.asarray(resized).clip(0, 1)
    small = small / max(float(small.max()), 1e-9)
    places = zip(ndimage.center_of_mass(small), size, strict=True)
    top, left = (min(max(round(SIDE // 2 - centre), 0), SIDE - length) for centre, length in places)
    digit = np.zeros((SIDE, SIDE), np.uint8)
    digit[top : top + size[0], left : left + size[1]] = np.rint(255 * small)
    return digit


def thicken(ink: np.ndarray, scale: float) -> np.ndarray:
    """Widen strokes to THINNEST pixels after scaling by `scale`; leave wider ones as they are."""
    strokes = np.pad(ink > 0.5, 1)
    # Across a stroke of width w the mean distance to its edge is w / 4.
    width = 4 * float(ndimage.distance_transform_edt(strokes)[strokes].mean()) * scale
    if width >= THINNEST:
        return ink
    radius = math.ceil((THINNEST - width) / scale / 2)
    return ndimage.maximum_filter(np.pad(ink, radius), 2 * radius + 1)


def separate(ink: np.ndarray, single: bool = False) -> tuple[np.ndarray, list[np.ndarray], tuple[str, ...]]:
    """Split (H, W) ink into N digits, from left to right: boxes (N, 4), the ink of each, and notes.

    single: all ink is one digit.
    """
    labels, _ = ndimage.label(ink > 0, np.ones((3, 3)))
    parts = np.array([(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)])
    sides = (parts[:, 2:] - parts[:, :2]).max(1)
    order = np.argsort(parts[:, 0], kind="stable")
    kept = order[sides[order] >= SPECK * sides.max()].tolist()
    if len(kept) > MOST_STROKES:
        raise DataError(f"more than {MOST_STROKES} separate strokes: too many for digits")
    # MNIST's images are of SIDE pixels, and hold one digit, beside which there may be a trace of a form.
    groups = [kept] if single or ink.shape == (SIDE, SIDE) else group_strokes(parts, kept)
    boxes = np.array([cover(parts[group]) for group in groups])
    widths, heights = (boxes[:, 2:] - boxes[:, :2]).T
    gaps = np.maximum(boxes[1:, 0], boxes[:-1, 0]) - np.minimum(boxes[1:, 2], boxes[:-1, 2])
    close = gaps < CLOSE * np.maximum(heights[1:], heights[:-1])
    notes = {
        "strokes that lie apart were taken for one digit": len(kept) > len(groups) and not single,
        "digits lie so close together that they may be strokes of one": close.any(),
        "wider than a digit: digits may touch": np.any(widths > WIDEST * heights),
    }
    windows = [np.s_[top:bottom, left:right] for left, top, right, bottom in boxes]
    inks = [ink[w] * np.isin(labels[w], np.array(g) + 1) for w, g in zip(windows, groups, strict=True)]
    return boxes, inks, tuple(note for note, holds in notes.items() if holds)


def group_strokes(parts: np.ndarray, kept: list[int]) -> list[list[int]]:
    """Group the boxes `parts` of components into digits; kept: their numbers, from left to right.

    Components that share at least half of the columns of the narrower one lie above one another and are one
    digit. One that is too low for a digit belongs to its nearest neighbour.
    """

    def shared(a, b):
        """Return how many columns two groups share; negative: the columns between them."""
        return min(parts[a, 2].max(), parts[b, 2].max()) - max(parts[a, 0].min(), parts[b, 0].min())

    groups: list[list[int]] = []
    for i in kept:
        group = [i]
        while groups and 2 * shared(group, groups[-1]) >= min(shared(x, x) for x in (group, groups[-1])):
            group = groups.pop() + group
        groups.append(group)
    while len(groups) > 1:
        heights = [bottom - top for _, top, _, bottom in (cover(parts[group]) for group in groups)]
        lowest = int(np.argmin(heights))
        if heights[lowest] >= STROKE * max(heights):
            break
        neighbours = [i for i in (lowest - 1, lowest + 1) if 0 <= i < len(groups)]
        nearest = max(neighbours, key=lambda i: shared(groups[lowest], groups[i]))
        first = min(lowest, nearest)
        groups[first : first + 2] = [groups[first] + groups[first + 1]]
    return groups


def cover(boxes: np.ndarray) -> np.ndarray:
    """Return the box (4,) around boxes (N, 4)."""
    return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
