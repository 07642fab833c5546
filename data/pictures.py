"""Pictures in files, as grey values: what own data sets and predictions read alike."""

import contextlib
import logging
import os
import re
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data.errors import DataError

SIDE = 28  # pixels, of MNIST's images
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".heic", ".heif")
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "PPM")
# Bounds of what is decoded: cameras make up to 108 million pixels of one value or three.
MOST_PIXELS, LONGEST_SIDE = 120_000_000, 30_000
# Larger pictures are shrunk to this side before anything else is computed.
WORKING_SIDE = 1200

# About damaged files, which are refused or read: nothing of Pillow's own goes to stderr.
warnings.filterwarnings("ignore", module="PIL")
logging.getLogger("PIL").addHandler(logging.NullHandler())


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures by their names in a folder and below it, sorted, without hidden ones (._x.png)."""
    hidden = re.compile(r"(^|/)(\.|__[^/]*/)")
    shown = [p for p in folder.rglob("*") if not hidden.search(p.relative_to(folder).as_posix())]
    return sorted(p for p in shown if p.suffix.lower() in PICTURES)


def check_size(name: object, width: int, height: int, most: int = MOST_PIXELS) -> None:
    """Raise DataError for a picture that is too large to decode, or empty."""
    if not (0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE and width * height <= most):
        bounds = f"at most {LONGEST_SIDE:,} on a side and {most // 10**6} million in all can be read"
        raise DataError(f"{name}: a picture of {width:,} x {height:,} pixels; {bounds}: make it smaller")


def open_picture(file: Path | str | BinaryIO, name: str = "", most: int = MOST_PIXELS) -> Image.Image:
    """Read a picture from a path, or from an open file, which errors call `name`; most: pixels.

    Raises DataError for a missing, foreign, damaged or too large file, and for values that are not finite.
    """
    name = name or str(file)
    if isinstance(file, (Path, str)) and not os.path.isfile(file):  # a pipe would be waited for
        other = "a folder without pictures" if os.path.isdir(file) else "not a file"
        raise DataError(f"{name}: {other if os.path.exists(file) else 'no such file'}")
    try:
        with Image.open(file, formats=known_formats()) as picture:
            check_size(name, *picture.size, most)
            # Of photographs, MPO, the other frames are previews.
            several = picture.format != "MPO" and getattr(picture, "is_animated", False)
            picture.load()
            if picture.mode == "F" and not np.isfinite(np.asarray(picture)).all():
                raise DataError(f"{name}: a picture with values that are not finite numbers")
            upright = ImageOps.exif_transpose(picture)
            upright.info["several"] = several is True
            return upright
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{name}: a picture of more than {MOST_PIXELS // 10**6} million pixels") from error
    except UnidentifiedImageError as error:
        found = ", ".join(known_formats())
        raise DataError(f"{name}: not a picture of {found}; HEIC needs: pip install pillow-heif") from error
    except Exception as error:  # Pillow's decoders raise a dozen types for damaged files
        raise DataError(f"{name}: damaged picture ({error or type(error).__name__})") from error


def known_formats() -> list[str]:
    """Return the formats that can be read: HEIF where pillow-heif is installed."""
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return [*FORMATS, *({"HEIF"} & Image.OPEN.keys())]


def first_only(picture: Image.Image) -> tuple[str, ...]:
    """Return a note when a picture that `open_picture` read has more pages or frames."""
    return ("only the first of its pages or frames was read",) * bool(picture.info.get("several") is True)


def shrunk(picture: Image.Image) -> Image.Image:
    """Return the picture, scaled down when its longer side has more than WORKING_SIDE pixels."""
    if max(picture.size) <= WORKING_SIDE:
        return picture
    averaged = {"1": "L", "P": "RGBA", "PA": "RGBA"}  # Pillow averages no bits and no palettes
    whole = picture.convert(averaged.get(picture.mode, picture.mode))
    whole.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    return whole


def grey(picture: Image.Image) -> np.ndarray:
    """Return the brightness of a picture, (H, W) float32 in [0, 1].

    A transparent picture is laid on white paper when what is opaque in it is dark, else on black paper.
    Pictures with more than 8 bits per pixel are scaled from their least to their greatest value.
    """
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture, np.float32) / 2  # so that no difference is infinite
        least, greatest = float(values.min()), float(values.max())
        return (values - least) / max(greatest - least, 1e-9)
    if picture.mode == "LAB":  # whose A is a colour, and which Pillow doesn't convert
        picture = picture.getchannel("L")
    if picture.mode == "P" or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    if "A" in picture.getbands() or "a" in picture.getbands():
        values, alpha = np.moveaxis(np.asarray(picture.convert("LA"), np.float32) / 255, 2, 0)
        seen = float((values * alpha).sum() / max(float(alpha.sum()), 1e-9))
        return values * alpha + (1 - alpha) * (seen < 0.5)
    return np.asarray(picture.convert("L"), np.float32) / 255


def border(values: np.ndarray) -> np.ndarray:
    """Return the pixels of a thin frame along the edge of (H, W) values, as (n,)."""
    width, frame = max(1, round(0.02 * min(values.shape))), np.ones(values.shape, bool)
    frame[width:-width, width:-width] = False
    return values[frame]


def on_light_paper(values: np.ndarray) -> bool:
    """Whether the border of (H, W) values is brighter than the middle of their range."""
    return bool(2 * float(np.median(border(values))) > float(values.min()) + float(values.max()))
