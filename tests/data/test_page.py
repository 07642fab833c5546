"""The page in a picture: the sheet on a table, its lines."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from data.page import find_ink, find_sheet

SHEET, CUT = Image.new("L", (400, 500), 240), Image.new("L", (300, 300), 70)
ImageDraw.Draw(SHEET).line((200, 150, 180, 350), 30, 20)
CUT.paste(SHEET, (-150, -100))
TURNED = SHEET.rotate(7, Image.Resampling.BICUBIC, expand=True, fillcolor=90)


@pytest.mark.parametrize(("picture", "area", "unsure"), [(TURNED, 200_000, 0), (CUT, 75_000, 1)])
def test_a_sheet_is_bright_a_rectangle_and_has_ink_on_it(picture, area, unsure):
    sheet, notes = find_sheet(np.asarray(picture, np.float32) / 255)
    assert notes == ("a dark part at the edge was taken for a table",) * unsure
    assert np.count_nonzero(sheet) == pytest.approx(area, rel=0.07)


def drawn(*strokes, on=SHEET):
    page = on.copy()
    for points, width in strokes:
        ImageDraw.Draw(page).line(points, 30, width)
    return np.asarray(page, np.float32) / 255


RULED = [((0, y, 400, y + 12), 3) for y in range(20, 500, 60)]
FRAME = ((100, 90, 300, 90, 300, 400, 100, 400, 100, 89), 3)


@pytest.mark.parametrize("lines", [RULED, [FRAME], [*RULED, ((40, 0, 30, 500), 4)]])
def test_ruled_lines_and_frames_are_no_ink(lines):
    (ink, notes), (clean, _) = find_ink(drawn(*lines)), find_ink(drawn())
    assert notes == ()
    assert np.count_nonzero((ink > 0.5) != (clean > 0.5)) < 0.1 * np.count_nonzero(clean > 0.5)


def test_thin_strokes_at_the_edge_are_ink():
    digits = ((0, 1, 70, 1, 20, 150), (110, 0, 112, 150), (150, 30, 250, 30, 250, 120, 150, 120, 150, 30))
    values = drawn(*[(digit, 4) for digit in digits], on=Image.new("L", (260, 150), 240))
    assert np.array_equal(find_ink(values)[0] > 0.5, values < 0.5)


def test_a_thick_stroke_at_the_edge_is_no_table():
    values = drawn(((0, 70, 55, 70), 80), ((150, 20, 150, 120), 40), on=Image.new("L", (300, 140), 240))
    sheet, notes = find_sheet(values)
    assert sheet.all()
    assert notes == ()
