"""Pictures brought to MNIST's form: size, place, polarity, transparency, several digits, blank pictures."""

import sys
from argparse import Namespace
from functools import partial

import numpy as np
import pytest
from PIL import Image, ImageDraw

from data import DataError, load
from data.own import to_square
from data.pictures import open_picture
from inference.drawing import read_drawing


def sheet(*strokes, size=(300, 300), width=16, paper=255, ink=0, mode="L"):
    """A picture (width, height) with strokes through points in shares of its sides."""
    picture = Image.new(mode, size, paper)
    for points in strokes:
        places = [(x * size[0], y * size[1]) for x, y in points]
        ImageDraw.Draw(picture).line(places, ink, width, joint="curve")
    return picture


def seven(size=(300, 400), width=30, **options):
    return sheet([(0.3, 0.25), (0.7, 0.25), (0.45, 0.75)], size=size, width=width, **options)


def only(picture):
    digits = read_drawing(picture).digits
    assert len(digits) == 1
    return digits[0].astype(int)


def difference(a, b):
    """The mean difference of two digits, as a share of the ink."""
    return np.abs(a - b).sum() / a.sum()


DIGITS = load("mnist-5k", "")[1].images[:, 0].numpy()


def test_the_ink_fills_a_box_of_20_pixels_and_its_mass_is_centred():
    digit = only(seven())
    rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
    assert rows[-1] - rows[0] + 1 == 20
    assert columns[-1] - columns[0] + 1 < 20
    assert digit.max() == 255
    for axis in (0, 1):
        mass = digit.sum(axis)
        assert mass @ np.arange(28) / mass.sum() == pytest.approx(14, abs=0.51)


def test_the_aspect_ratio_is_kept_and_the_box_is_in_pixels_of_a_large_original():
    bar = Image.new("L", (4000, 3000), 255)
    ImageDraw.Draw(bar).rectangle((1000, 500, 1399, 1699), fill=0)  # 400 x 1200
    digit = only(bar)
    assert np.flatnonzero((digit > 127).any(1)).size == 20
    assert np.flatnonzero((digit > 127).any(0)).size == 7
    np.testing.assert_allclose(read_drawing(bar).boxes, [[1000, 500, 1400, 1700]], atol=8)


def test_a_digit_of_mnist_stays_what_it_is():
    different = [difference(image.astype(int), only(Image.fromarray(image))) for image in DIGITS[::20]]
    assert np.median(different) < 0.01
    assert np.quantile(different, 0.9) < 0.1


TABLE = Image.new("L", (500, 600), 70)
TABLE.paste(seven(), (90, 110))
COLOUR = seven(paper=(250, 240, 230), ink=(20, 30, 90), mode="RGB")
SPECK = seven()
ImageDraw.Draw(SPECK).rectangle((20, 20, 24, 24), fill=0)
GRAIN = np.random.default_rng(0).normal(0, 4, (400, 300)) - np.linspace(0, 25, 300)  # and a shadow
LIGHT = np.linspace(1, 0.5, 300), np.where(np.arange(300) > 140, 0.55, 1)  # falls evenly; a hard shadow
VARIANTS = {
    "inverted": seven(paper=0, ink=255),
    "colour": COLOUR,
    "CMYK": COLOUR.convert("CMYK"),
    "LAB": Image.merge("LAB", [seven(), *2 * [Image.new("L", (300, 400), 128)]]),
    "16 bit": Image.fromarray(np.asarray(seven()).astype(np.uint16) * 200),
    "dark on transparent": seven(paper=(0, 0, 0, 0), ink=(10, 10, 10, 255), mode="RGBA"),
    "light on transparent": seven(paper=(0, 0, 0, 0), ink=(240, 250, 250, 255), mode="RGBA"),
    "large": seven((1500, 2000), 150),
    "grain": Image.fromarray((np.asarray(seven(paper=200, ink=40)) + GRAIN).clip(0, 255).astype(np.uint8)),
    "speck of dirt": SPECK,
    "falling light": Image.fromarray((np.asarray(seven()) * LIGHT[0]).astype(np.uint8)),
    "on a dark table": TABLE,
    "hard shadow": Image.fromarray((np.asarray(seven()) * LIGHT[1]).astype(np.uint8)),
}


@pytest.mark.parametrize("picture", VARIANTS.values(), ids=VARIANTS)
def test_every_kind_of_picture_gives_the_same_digit(picture):
    assert difference(only(seven()), only(picture)) < (0.15 if picture is VARIANTS["grain"] else 0.08)


def test_a_thin_pen_gives_strokes_as_dark_as_a_thick_one():
    thin, thick = only(seven((400, 400), width=3)), only(seven((400, 400), width=30))
    assert np.sort(thin.ravel())[-30:].min() > 200
    assert 0.35 < thin.sum() / thick.sum() < 1


def test_a_number_is_read_from_left_to_right():
    chosen = DIGITS[:4]
    row = np.concatenate([np.pad(image, ((i, 8 - i), (0, 0))) for i, image in enumerate(chosen)], 1)
    drawing = read_drawing(Image.fromarray(255 - row).resize((row.shape[1] * 5, row.shape[0] * 5)))
    assert drawing.notes == ()
    assert (np.diff(drawing.boxes[:, 0]) > 0).all()
    for image, digit in zip(chosen, drawing.digits, strict=True):
        assert difference(image.astype(int), digit.astype(int)) < 0.25


FIVE = sheet([(0.3, 0.2), (0.7, 0.2)], [(0.32, 0.28), (0.32, 0.47), (0.63, 0.5), (0.67, 0.67), (0.3, 0.77)])
TOUCHING = Image.new("L", (500, 200), 255)
for place in (100, 200, 300):
    ImageDraw.Draw(TOUCHING).ellipse((place, 50, place + 105, 150), outline=0, width=14)
PALE = sheet([(0.33, 0.2), (0.33, 0.8)], size=(300, 200), width=10)
ImageDraw.Draw(PALE).line((150, 40, 150, 160), 150, 16)
NOTES = {
    "pale beside dark": (PALE, 2, ()),
    "strokes apart": (FIVE, 1, ("strokes that lie apart were taken for one digit",)),
    "touching": (TOUCHING, 1, ("wider than a digit: digits may touch",)),
    "close": (
        sheet([(0.33, 0.2), (0.33, 0.8)], [(0.38, 0.2), (0.38, 0.8)], size=(300, 200), width=10),
        2,
        ("digits lie so close together that they may be strokes of one",),
    ),
}


@pytest.mark.parametrize(("picture", "count", "notes"), NOTES.values(), ids=NOTES)
def test_what_may_be_read_wrong_is_noted(picture, count, notes):
    drawing = read_drawing(picture)
    assert len(drawing.digits) == count
    assert drawing.notes == notes
    assert len(read_drawing(picture, single=True).digits) == 1
    assert len(read_drawing(picture.resize((28, 28))).digits) == 1  # as MNIST's, beside traces of a form


BLANK = {
    "grey": Image.new("L", (400, 300), 130),
    "a pixel": Image.new("L", (1, 1), 255),
    "noise": Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)),
    "transparent": Image.new("RGBA", (40, 40), (0, 0, 0, 0)),
}


@pytest.mark.parametrize("picture", BLANK.values(), ids=BLANK)
def test_a_blank_picture_is_an_error(picture):
    with pytest.raises(DataError, match="blank"):
        read_drawing(picture)


def test_to_square_pads_oblong_pictures_with_their_border():
    values = np.full((10, 30), 0.8, np.float32)
    values[4:6, 14:16] = 0
    square = to_square(values)
    assert square.shape == (28, 28)
    assert (square[[0, -1]] == 204).all()
    assert square.min() < 100


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    seven((300, 400)).save(tmp_path / "turned.jpg", exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (400, 300)


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path, monkeypatch):
    seven().save(tmp_path / "a.heic", "PCX")
    with pytest.raises(DataError, match="pip install pillow-heif"):
        open_picture(tmp_path / "a.heic")
    register = partial(monkeypatch.setitem, Image.OPEN, "HEIF", Image.OPEN["PCX"])
    monkeypatch.setitem(sys.modules, "pillow_heif", Namespace(register_heif_opener=register))
    assert open_picture(tmp_path / "a.heic").size == seven().size
