"""Find the ink in a picture: first the page (a sheet on a table, the light on it), then the ink."""

import math

import numpy as np
from scipy import ndimage

from data.errors import DataError
from data.pictures import border, on_light_paper

BOX = 20  # pixels, which a digit of MNIST fills
LEAST_CONTRAST = 0.08  # of ink to paper, as a share of the range from black to white
UNEVEN = 0.08  # a range of the border, without its tenths, that grain does not have: a shadow
WIDE_STROKE = 0.25  # of the shorter side: what is wider is a shadow
EDGE = 0.1  # share of the darkest ink that still is the grey edge of a stroke
SMALLEST_PAGE = 100  # pixels of the shorter side: smaller pictures show no sheet
MARGIN = 0.015  # of the shorter side: the edge of a sheet, and half the width of what may cross it
LEAST_SHEET, MOST_CUT = 0.2, 0.9  # shares of the picture: any sheet; one that runs out of the picture
SQUARE, COVERED = 0.83, 0.25  # share of a sheet in its rectangle (of an ellipse: 0.79); share under ink
TABLE, SHADOW = 0.8, 0.5  # of the paper's brightness: the brightest table, the darkest shadow
LEAST_INK = 0.2  # on a sheet, of the contrast to the table


def find_ink(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return how much ink is on each pixel of (H, W) grey values in [0, 1], and notes on what is unsure.

    The ink is float32, 0 for paper, 1 for ink. The border of the page is paper: when it is brighter than the
    middle of the page's range the ink is darker, else brighter. Away from strokes, what differs little from
    the paper (its grain, a shadow) counts as paper. Raises DataError for a blank picture.
    """
    sheet, notes = find_sheet(values)
    if not sheet.all():  # the table becomes paper
        nearest = ndimage.distance_transform_edt(~sheet, return_distances=False, return_indices=True)
        values = values[tuple(nearest)]
    light, edge = on_light_paper(values), border(values)
    if light and np.ptp(np.quantile(edge, (0.1, 0.9))) > UNEVEN:
        values = without_shadows(values)
        edge = border(values)
    paper = float(np.median(edge))
    ink = paper - values if light else values - paper
    grain = float(np.median(np.abs(edge - paper)))
    if ink.max() < max(LEAST_CONTRAST, 8 * grain):
        raise DataError("a blank picture: nothing stands out from its border")
    ink = (ink / ink.max()).clip(0, 1)
    strokes = ink > otsu(ink)
    # The grey edge of a stroke is as wide as the picture is blurred: about a pixel of the 20 x 20 box.
    box = ndimage.find_objects(strokes.view(np.uint8))[0]
    reach = 2 * max(1, round(max(ink[box].shape) / BOX)) + 1
    near = ndimage.maximum_filter(strokes.view(np.uint8), reach) > 0
    return np.where(near & (ink > EDGE), ink, 0), notes


def find_sheet(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return which pixels (H, W) lie on the sheet, all where no darker table is around it, and notes.

    A sheet is the largest bright part of a picture, when it is about a rectangle with ink on it.
    """
    if min(values.shape) < SMALLEST_PAGE:
        return np.ones(values.shape, bool), ()
    everything, gap = np.ones(values.shape, bool), MARGIN * min(values.shape)
    bright = values > values.min() + np.ptp(values) * otsu(
        (values - values.min()) / max(np.ptp(values), 1e-9)
    )
    # Closed, so that ruled lines do not cut it.
    labels, _ = ndimage.label(ndimage.grey_closing(bright.view(np.uint8), 2 * math.ceil(gap) + 1))
    sheet = ndimage.binary_fill_holes(labels == 1 + np.argmax(np.bincount(labels.ravel(), minlength=2)[1:]))
    inner, area = ndimage.distance_transform_edt(sheet) > max(1, gap), np.count_nonzero(sheet)
    if not LEAST_SHEET < area / sheet.size < 1 - MARGIN or not inner.any():
        return everything, ()
    turns = np.radians(np.arange(90))
    spots = np.argwhere(sheet[::4, ::4]) @ np.stack(
        [[np.cos(turns), -np.sin(turns)], [np.sin(turns), np.cos(turns)]]
    )
    rectangle = 16 * np.prod(np.ptp(spots, axis=1) + 1, axis=0).min()
    paper, table = float(np.median(values[inner])), float(np.median(values[~sheet]))
    ink = paper - float(ndimage.median_filter(values, 3)[inner].min())
    whole = not sheet[[0, 0, -1, -1], [0, -1, 0, -1]].any()  # the table is in every corner of the picture
    if (
        area < SQUARE * rectangle
        or np.count_nonzero(sheet & ~bright) > COVERED * area
        or ink < LEAST_INK * (paper - table)
        or table > (TABLE if whole else SHADOW) * paper
        or (not whole and area > MOST_CUT * sheet.size)
    ):
        return everything, ()
    return inner, () if whole else ("a dark part at the edge was taken for a table",)


def without_shadows(values: np.ndarray) -> np.ndarray:
    """Return values (H, W) of light paper divided by the light on it: 1 for paper in the sun and in a shadow.

    The light is what is left when everything dark that is narrower than WIDE_STROKE is closed.
    """
    light = ndimage.grey_closing(ndimage.median_filter(values, 3), math.ceil(WIDE_STROKE * min(values.shape)))
    return (values / light.clip(0.05)).clip(0, 1)


def otsu(values: np.ndarray) -> float:
    """Return the threshold that splits values in [0, 1] into two groups best (Otsu, 1979)."""
    counts, edges = np.histogram(values, 64, (0, 1))
    centres = (edges[1:] + edges[:-1]) / 2
    below, total = np.cumsum(counts)[:-1], np.cumsum(counts * centres)
    above = counts.sum() - below
    means = total[:-1] / np.maximum(below, 1), (total[-1] - total[:-1]) / np.maximum(above, 1)
    return float(edges[1:-1][np.argmax(below * above * np.square(means[1] - means[0]))])
