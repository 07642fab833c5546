"""Pictures in files, as grey values: what own data sets and predictions read alike."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data.errors import DataError

SIDE = 28  # pixels, of MNIST's images
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def open_picture(path: Path | str) -> Image.Image:
    """Open a picture file and read all of it. Raises DataError for a missing, foreign or damaged file."""
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise DataError(f"{path}: {'a folder without pictures' if os.path.isdir(path) else 'not a file'}")
    try:
        with Image.open(path) as picture:
            picture.load()
            return ImageOps.exif_transpose(picture)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not a picture, or of an unknown format") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: too large a picture ({error})") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for damaged files
        raise DataError(f"{path}: damaged picture ({error})") from error


def grey(picture: Image.Image) -> np.ndarray:
    """Return the brightness of a picture, (H, W) float32 in [0, 1].

    A transparent picture is laid on white paper when what is opaque in it is dark, else on black paper.
    Pictures with more than 8 bits per pixel are scaled from their least to their greatest value.
    """
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture, np.float32)
        least, greatest = float(values.min()), float(values.max())
        return (values - least) / max(greatest - least, 1e-9)
    if picture.mode == "P" or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    if "A" in picture.getbands() or "a" in picture.getbands():
        values, alpha = np.moveaxis(np.asarray(picture.convert("LA"), np.float32) / 255, 2, 0)
        seen = float((values * alpha).sum() / max(float(alpha.sum()), 1e-9))
        return values * alpha + (1 - alpha) * (seen < 0.5)
    return np.asarray(picture.convert("L"), np.float32) / 255


def border(values: np.ndarray) -> np.ndarray:
    """Return the pixels of a thin frame along the edge of (H, W) values, as (n,)."""
    width = max(1, round(0.02 * min(values.shape)))
    if min(values.shape) <= 2 * width:
        return values.ravel()
    sides = (values[:width], values[-width:], values[width:-width, :width], values[width:-width, -width:])
    return np.concatenate([side.ravel() for side in sides])
