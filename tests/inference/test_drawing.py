"""Pictures brought to MNIST's form: size, place, polarity, transparency, several digits, blank pictures."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from data import DataError, load
from data.own import to_square
from data.pictures import grey, open_picture
from inference.drawing import read_drawing, to_mnist


def seven(size=(300, 400), width=30, paper=255, ink=0, mode="L"):
    """A seven of two strokes in the middle of a picture (width, height)."""
    picture = Image.new(mode, size, paper)
    w, h = size
    draw = ImageDraw.Draw(picture)
    draw.line([(0.3 * w, 0.25 * h), (0.7 * w, 0.25 * h), (0.45 * w, 0.75 * h)], ink, width, joint="curve")
    return picture


def only(picture):
    digits = read_drawing(picture).digits
    assert len(digits) == 1
    return digits[0].astype(int)


def difference(a, b):
    """The mean difference of two digits, as a share of the ink."""
    return np.abs(a - b).sum() / a.sum()


def test_the_ink_fills_a_box_of_20_pixels_and_its_mass_is_centred():
    digit = only(seven())
    rows, columns = np.flatnonzero(digit.any(1)), np.flatnonzero(digit.any(0))
    assert rows[-1] - rows[0] + 1 == 20
    assert columns[-1] - columns[0] + 1 < 20
    assert digit.max() == 255
    for axis in (0, 1):
        mass = digit.sum(axis)
        assert mass @ np.arange(28) / mass.sum() == pytest.approx(14, abs=0.51)


def test_the_aspect_ratio_is_kept():
    bar = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(bar).rectangle((80, 40, 119, 159), fill=0)  # 40 x 120
    digit = only(bar)
    assert np.flatnonzero((digit > 127).any(1)).size == 20
    assert np.flatnonzero((digit > 127).any(0)).size == 7


def test_a_digit_of_mnist_stays_what_it_is(digits_5k):
    different = [difference(image.astype(int), only(Image.fromarray(image))) for image in digits_5k[::20]]
    assert np.median(different) < 0.01
    assert np.quantile(different, 0.9) < 0.1


VARIANTS = {
    "inverted": seven(paper=0, ink=255),
    "grey paper": seven(paper=180, ink=60),
    "colour": seven(paper=(250, 240, 230), ink=(20, 30, 90), mode="RGB"),
    "palette": seven(paper=(250, 240, 230), ink=(20, 30, 90), mode="RGB").convert("P"),
    "black and white": seven().convert("1"),
    "16 bit": Image.fromarray(np.asarray(seven()).astype(np.uint16) * 200),
    "dark on transparent": seven(paper=(0, 0, 0, 0), ink=(10, 10, 10, 255), mode="RGBA"),
    "light on transparent": seven(paper=(0, 0, 0, 0), ink=(240, 250, 250, 255), mode="RGBA"),
    "large": seven((1500, 2000), 150),
    "CMYK": seven(paper=(250, 240, 230), ink=(20, 30, 90), mode="RGB").convert("CMYK"),
}


@pytest.mark.parametrize("picture", VARIANTS.values(), ids=VARIANTS)
def test_every_kind_of_picture_gives_the_same_digit(picture):
    assert difference(only(seven()), only(picture)) < 0.08


def test_place_and_margin_do_not_matter():
    wide = Image.new("L", (900, 700), 255)
    wide.paste(seven(), (500, 100))
    assert difference(only(seven()), only(wide)) < 0.02


def test_grain_and_a_shadow_count_as_paper():
    values = np.asarray(seven(paper=200, ink=40)).astype(float)
    shadow = np.linspace(0, 25, values.shape[1])[None]
    noisy = values - shadow + np.random.default_rng(0).normal(0, 4, values.shape)
    assert difference(only(seven()), only(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))) < 0.15


def test_a_thin_pen_gives_strokes_as_dark_as_a_thick_one():
    thin, thick = only(seven((400, 400), width=3)), only(seven((400, 400), width=30))
    assert np.sort(thin.ravel())[-30:].min() > 200
    assert 0.35 < thin.sum() / thick.sum() < 1


def test_a_number_is_read_from_left_to_right(digits_5k):
    chosen = digits_5k[[0, 350, 700, 900]]
    row = np.concatenate([np.pad(image, ((i, 8 - i), (0, 0))) for i, image in enumerate(chosen)], 1)
    found = read_drawing(Image.fromarray(255 - row).resize((row.shape[1] * 5, row.shape[0] * 5)))
    assert found.notes == ()
    assert len(found.digits) == 4
    assert (np.diff(found.boxes[:, 0]) > 0).all()
    for image, digit in zip(chosen, found.digits, strict=True):
        assert difference(image.astype(int), digit.astype(int)) < 0.25


def test_boxes_are_in_pixels_of_the_original_when_that_is_large():
    picture = Image.new("L", (4000, 3000), 255)
    ImageDraw.Draw(picture).rectangle((1000, 500, 1399, 1699), fill=0)
    np.testing.assert_allclose(read_drawing(picture).boxes, [[1000, 500, 1400, 1700]], atol=8)


def five(gap):
    picture = Image.new("L", (300, 300), 255)
    draw = ImageDraw.Draw(picture)
    draw.line([(90, 60), (210, 60)], 0, 16)
    draw.line([(95, 60 + gap), (95, 140), (190, 150), (200, 200), (90, 230)], 0, 16)
    return picture


def test_strokes_that_lie_apart_are_one_digit_and_it_is_said():
    assert read_drawing(five(0)).notes == ()
    found = read_drawing(five(25))
    assert len(found.digits) == 1
    assert "strokes that lie apart" in found.notes[0]


def test_digits_that_touch_are_not_guessed_at_silently():
    picture = Image.new("L", (500, 200), 255)
    draw = ImageDraw.Draw(picture)
    for x in (100, 200, 300):
        draw.ellipse((x, 50, x + 105, 150), outline=0, width=14)
    found = read_drawing(picture)
    assert len(found.digits) == 1
    assert "digits may touch" in found.notes[0]


def test_digits_that_hardly_lie_apart_are_marked():
    picture = Image.new("L", (300, 200), 255)
    draw = ImageDraw.Draw(picture)
    draw.line([(100, 40), (100, 160)], 0, 10)
    draw.line([(114, 40), (114, 160)], 0, 10)
    assert "may be strokes of one" in read_drawing(picture).notes[0]
    assert len(read_drawing(picture, single=True).digits) == 1


def test_a_speck_of_dirt_is_left_out():
    picture = seven()
    ImageDraw.Draw(picture).rectangle((20, 20, 24, 24), fill=0)
    assert difference(only(seven()), only(picture)) < 0.01


@pytest.mark.parametrize("value", [0, 255, 130])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (28, 28), (400, 300)])
def test_a_blank_picture_is_an_error(value, size):
    with pytest.raises(DataError, match="blank"):
        read_drawing(Image.new("L", size, value))


def test_noise_and_a_transparent_sheet_are_blank():
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    for picture in (Image.fromarray(noise), Image.new("RGBA", (40, 40), (0, 0, 0, 0))):
        with pytest.raises(DataError, match="blank"):
            read_drawing(picture)


def test_grey_of_an_8_bit_picture_is_its_value():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_allclose(grey(Image.fromarray(values)), values / 255, atol=1e-6)


def test_to_mnist_of_a_point_stays_inside():
    ink = np.zeros((50, 50), np.float32)
    ink[0, 0] = 1
    assert to_mnist(ink).max() == 255


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


def damaged(format):
    content = io.BytesIO()
    seven().save(content, format)
    return content.getvalue()[:200]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file"), (b"", "not a picture"), (b"hello", "not a picture")]
    + [(damaged(format), "damaged|not a picture") for format in ("PNG", "JPEG", "BMP", "TIFF")],
)
def test_what_is_no_picture_is_named(tmp_path, content, said):
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        open_picture(path)
    assert str(path) in str(caught.value)


@pytest.fixture(scope="module")
def digits_5k():
    """1,000 real digits, sorted by class: (1000, 28, 28) uint8."""
    _, test = load("mnist-5k", "")
    order = torch.argsort(test.labels, stable=True)
    return test.images[order, 0].numpy()
