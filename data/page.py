"""Find the ink in a picture: first the page (a sheet on a table, its light, its lines), then the ink."""

import math
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from data.errors import DataError
from data.pictures import border, on_light_paper

BOX = 20  # pixels, which a digit of MNIST fills
LEAST_CONTRAST = 0.08  # of ink to paper, as a share of the range from black to white
UNEVEN = 0.08  # a range of the border, without its tenths, that grain does not have: a shadow
WIDE_STROKE = 0.25  # of the shorter side: what is wider is a shadow
EDGE = 0.1  # share of the darkest ink that still is the grey edge of a stroke
SMALLEST_PAGE = 100  # pixels of the shorter side: smaller pictures show no sheet and no lines
MARGIN = 0.015  # of the shorter side: the edge of a sheet, and half the width of what may cross it
LEAST_SHEET, MOST_CUT = 0.2, 0.9  # shares of the picture: any sheet; one that runs out of the picture
ONE_SIDE = 0.1  # share of sheet on the side of the picture that is the table
SQUARE, COVERED = 0.83, 0.25  # share of a sheet in its rectangle (of an ellipse: 0.79); share under ink
TABLE, SHADOW = 0.8, 0.5  # of the paper's brightness: the brightest table, the darkest shadow
LEAST_INK = 0.2  # on a sheet, of the contrast to the table
COARSE, STEEPEST = 400, 0.15  # the longer side on which lines are looked for; their slope
SHORTEST, THIN = 0.08, 10  # a line to the longer side, to its thickness
WHOLE, LONG = 0.85, 1.5  # the side of a frame to the frame, a ruled line to the longest stroke


class Line(NamedTuple):
    """A straight run of marks: its box, its pixels, those that nothing crosses, thickness, axis, length."""

    box: tuple[slice, slice]
    run: np.ndarray
    thin: np.ndarray
    thick: float
    axis: int
    length: int


def find_ink(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return how much ink is on each pixel of (H, W) grey values in [0, 1], and notes on what is unsure.

    The ink is float32, 0 for paper, 1 for ink. The border of the page is paper: when it is brighter than the
    middle of the page's range the ink is darker, else brighter. Raises DataError for a blank picture.
    """
    large = min(values.shape) >= SMALLEST_PAGE
    sheet, notes = find_sheet(values) if large else (np.ones(values.shape, bool), ())
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
    ink, crossed = without_lines(ink, sheet) if large else (ink, ())
    strokes = ink > otsu(ink)
    # The grey edge of a stroke is as wide as the picture is blurred: about a pixel of the 20 x 20 box.
    box = ndimage.find_objects(strokes.view(np.uint8))[0]
    reach = 2 * max(1, round(max(ink[box].shape) / BOX)) + 1
    return np.where(grown(strokes, reach) & (ink > EDGE), ink, 0), notes + crossed


def find_sheet(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return which pixels (H, W) lie on the sheet, a bright rectangle with ink on it, or all, and notes."""
    everything, gap = np.ones(values.shape, bool), MARGIN * min(values.shape)
    spread = (values - values.min()) / max(np.ptp(values), 1e-9)
    bright = spread > otsu(spread)
    # Closed, so that ruled lines do not cut it.
    labels, _ = ndimage.label(ndimage.grey_closing(bright.view(np.uint8), 2 * math.ceil(gap) + 1))
    sheet = ndimage.binary_fill_holes(labels == 1 + np.argmax(np.bincount(labels.ravel(), minlength=2)[1:]))
    inner, area = ndimage.distance_transform_edt(sheet) > max(1, gap), np.count_nonzero(sheet)
    if not LEAST_SHEET < area / sheet.size < 1 - MARGIN or not inner.any():
        return everything, ()
    spots = (np.argwhere(sheet[::4, ::4]) @ [1, 1j])[:, None] * np.exp(1j * np.radians(np.arange(90)))
    rectangle = 16 * ((np.ptp(spots.real, 0) + 1) * (np.ptp(spots.imag, 0) + 1)).min()
    paper, table = float(np.median(values[inner])), float(np.median(values[~sheet]))
    ink = paper - float(ndimage.median_filter(values, 3)[inner].min())
    whole = not sheet[[0, 0, -1, -1], [0, -1, 0, -1]].any()  # the table is in every corner of the picture
    sides = min(side.mean() for side in (sheet[0], sheet[-1], sheet[:, 0], sheet[:, -1]))
    if (
        area < SQUARE * rectangle
        or np.count_nonzero(sheet & ~bright) > COVERED * area
        or ink < LEAST_INK * (paper - table)
        or table > (TABLE if whole else SHADOW) * paper
        or (not whole and (area > MOST_CUT * sheet.size or sides > ONE_SIDE))
    ):
        return everything, ()
    return inner, () if whole else ("a dark part at the edge was taken for a table",)


def without_shadows(values: np.ndarray) -> np.ndarray:
    """Divide values (H, W) of light paper by its light: what is left when narrow dark parts are closed."""
    light = ndimage.grey_closing(ndimage.median_filter(values, 3), math.ceil(WIDE_STROKE * min(values.shape)))
    return (values / light.clip(0.05)).clip(0, 1)


def without_lines(ink: np.ndarray, sheet: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return ink (H, W) without the lines of the page, which are ruled or frames, and notes.

    Ruled lines end at the edge of the sheet, and at least one goes on, at both ends, where no stroke is.
    Where the ink is thicker than a line a stroke crosses it, and stays.
    """
    marks, gap = ink > otsu(ink) / 2, MARGIN * min(ink.shape)
    edge = ~ndimage.binary_erosion(sheet, iterations=math.ceil(gap / 2))
    lines = find_lines(marks, 1) + find_lines(marks.T, 0)
    frames, ruled = in_frames(lines, marks), [line for line in lines if (edge[line.box] & line.thin).any()]
    strokes, side = find_strokes(marks, frames + ruled, edge)
    for box in ndimage.find_objects(strokes.view(np.uint8)):
        ends = [(line.box[line.axis], box[line.axis]) for line in ruled if line.length > LONG * side]
        if not any(min(inner.start - own.start, own.stop - inner.stop) > 2 * gap for own, inner in ends):
            ruled = []
    strokes, side = find_strokes(marks, frames + ruled, edge)
    if not frames + ruled or side < SHORTEST * max(ink.shape):  # the lines are all there is
        return ink, ()
    gone, near = grown(marks & ~strokes) & ~strokes, grown(strokes)
    width = 4 * float(ndimage.distance_transform_edt(strokes)[strokes].mean())
    unsure = any(2 * line.thick > width and near[line.box][line.thin].any() for line in frames + ruled)
    ink = np.where(gone, 0, ink)
    return ink / ink.max(), ("lines of the page were removed from strokes",) * unsure


def find_lines(marks: np.ndarray, axis: int) -> list[Line]:
    """Return the straight, thin, nearly horizontal runs of marks (H, W); for axis 0 marks are transposed."""
    bands = np.where(marks, ndimage.label(straight(marks), np.ones((3, 3)))[0], 0)
    columns, _ = ndimage.label(marks, [[0, 1, 0]] * 3)
    heights = np.bincount(columns.ravel())[columns]  # of the vertical run of each pixel
    tops, lines = np.where(marks & ~np.roll(marks, 1, 0), bands, 0), []
    for i, box in enumerate(ndimage.find_objects(bands), 1):
        if box and (tops[box] == i).any():
            run, length = bands[box] == i, box[1].stop - box[1].start
            thick = float(np.quantile(heights[box][tops[box] == i], 0.4))  # others are crossing strokes
            thin = run & (heights[box] <= 1.5 * thick + 1)
            if THIN * thick < length:
                turned = (box, run, thin) if axis else (box[::-1], run.T, thin.T)
                lines.append(Line(*turned, thick, axis, length))
    return lines


def straight(marks: np.ndarray) -> np.ndarray:
    """Return the pixels (H, W) near nearly horizontal runs of marks that are not shorter than SHORTEST."""
    step = math.ceil(max(marks.shape) / COARSE)
    grid = ndimage.maximum_filter(marks.view(np.uint8), (3 * step, step))[::step, ::step]
    run, lead = round(SHORTEST * max(grid.shape)), math.ceil(STEEPEST * grid.shape[1] / 2) + 1
    wide = np.pad(grid, ((lead, lead), (0, 0)))
    found, (rows, columns) = np.zeros_like(wide), np.ogrid[: len(grid), : grid.shape[1]]
    for slope in np.arange(-STEEPEST, STEEPEST + 1e-9, 0.03):
        places = rows + lead + np.rint(slope * (columns - grid.shape[1] / 2)).astype(int), columns
        found[places] |= ndimage.grey_opening(wide[places], (1, run))
    return found[lead:-lead].repeat(step, 0).repeat(step, 1)[: len(marks), : marks.shape[1]] > 0


def in_frames(lines: list[Line], marks: np.ndarray) -> list[Line]:
    """Return the sides of frames: lines from end to end around other marks (H, W)."""
    net, found = np.zeros(marks.shape, bool), list[Line]()
    for line in lines:
        net[line.box] |= line.run
    frames, _ = ndimage.label(grown(net))
    ids = [int(frames[line.box][line.run][0]) for line in lines]
    for i, box in enumerate(ndimage.find_objects(frames), 1):
        frame, own = frames[box] == i, [line for line, j in zip(lines, ids, strict=True) if i == j]
        sides = [line for line in own if line.length > WHOLE * frame.shape[line.axis]]
        if (marks[box] & ndimage.binary_fill_holes(frame) & ~frame).any():
            found += sides
    return found


def find_strokes(marks: np.ndarray, lines: list[Line], edge: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the marks (H, W) beside lines, without crumbs and what lies at the edge, and the longest."""
    rest, crumb = marks.copy(), 2 * max((line.thick for line in lines), default=0) + 2
    for line in lines:
        rest[line.box] &= ~line.thin
    parts, _ = ndimage.label(rest, np.ones((3, 3)))
    sides = np.array([0] + [max(parts[box].shape) for box in ndimage.find_objects(parts)])
    strokes = np.intersect1d(np.flatnonzero(sides > crumb), parts[~edge])
    return np.isin(parts, strokes), int(sides[strokes].max(initial=0))


def grown(pixels: np.ndarray, size: int = 5) -> np.ndarray:
    return ndimage.maximum_filter(pixels.view(np.uint8), size) > 0


def otsu(values: np.ndarray) -> float:
    """Return the threshold that splits values in [0, 1] into two groups best (Otsu, 1979)."""
    counts, edges = np.histogram(values, 64, (0, 1))
    centres = (edges[1:] + edges[:-1]) / 2
    below, total = np.cumsum(counts)[:-1], np.cumsum(counts * centres)
    above = counts.sum() - below
    means = total[:-1] / np.maximum(below, 1), (total[-1] - total[:-1]) / np.maximum(above, 1)
    return float(edges[1:-1][np.argmax(below * above * np.square(means[1] - means[0]))])
