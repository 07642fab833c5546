"""The page in a picture: the sheet on a table."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from data.page import find_sheet

SHEET, CUT = Image.new("L", (400, 500), 240), Image.new("L", (300, 300), 70)
ImageDraw.Draw(SHEET).line((200, 150, 180, 350), 30, 20)
CUT.paste(SHEET, (-150, -100))
TURNED = SHEET.rotate(7, Image.Resampling.BICUBIC, expand=True, fillcolor=90)


@pytest.mark.parametrize(("picture", "area", "unsure"), [(TURNED, 200_000, 0), (CUT, 75_000, 1)])
def test_a_sheet_is_bright_a_rectangle_and_has_ink_on_it(picture, area, unsure):
    sheet, notes = find_sheet(np.asarray(picture, np.float32) / 255)
    assert notes == ("a dark part at the edge was taken for a table",) * unsure
    assert np.count_nonzero(sheet) == pytest.approx(area, rel=0.07)
