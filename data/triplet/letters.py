"""Printed letters as classes that no digit was seen of: the ground on which metric learning is tuned.

To choose what makes three digits teach ten, one needs classes that are neither trained on nor tested on.
The fonts that come with matplotlib have them, and the letters here resemble no digit.
"""

from pathlib import Path

import numpy as np
import torch

from data.augment import Augment
from data.batches import generator
from data.images import ImageSet

LETTERS = "ACDFHJKLMNPRTUVWXYaehknrt"
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("DejaVuSansMono", "DejaVuSansMono-Oblique", "DejaVuSansMono-Bold"),
    *("STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol", "STIXGeneralBolIta"),
    *("cmr10", "cmss10", "cmtt10", "cmb10", "cmmi10"),
)
# Every printed letter gives so many images, each deformed in its own way, as if written by hand.
COPIES = 6
HAND = Augment(rotate=12, translate=0.03, scale=0.1, shear=18, elastic=3)


def letters(like: ImageSet, seed: int = 0) -> ImageSet:
    """Return 3,000 images of 25 letters, normalised as the images of `like` and on their device.

    Every letter of every font is scaled to 20 pixels, centred by mass as in MNIST, and deformed.
    """
    import matplotlib  # here, because importing it takes time that --help needn't

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    printed = np.stack([glyph(folder / f"{font}.ttf", letter) for font in FONTS for letter in LETTERS])
    pixels = torch.from_numpy(printed).unsqueeze(1).repeat(COPIES, 1, 1, 1)
    pixels = HAND.apply(pixels, HAND.sample(len(pixels), generator(seed), pixels.shape[-1]))
    pixels = (1.3 * pixels).clamp(0, 255).byte()  # the deformation has made strokes paler
    labels = torch.arange(len(LETTERS)).repeat(COPIES * len(FONTS))
    device = like.images.device
    return ImageSet(pixels.to(device), labels.to(device), like.mean, like.std, "letters", tuple(LETTERS))


def glyph(font: Path, letter: str, size: int = 28, height: int = 20) -> np.ndarray:
    """Draw a letter, its longer side `height` pixels, centred by mass: (size, size) float32."""
    from PIL import Image, ImageDraw, ImageFont

    paper = Image.new("L", (160, 160), 0)
    ImageDraw.Draw(paper).text((30, 20), letter, fill=255, font=ImageFont.truetype(str(font), 80))
    ink = paper.crop(paper.getbbox())
    scale = height / max(ink.size)
    width, height = (max(1, round(scale * side)) for side in ink.size)
    small = np.asarray(ink.resize((width, height), Image.Resampling.BOX), dtype=np.float32)
    rows, columns = (small.sum(axis) @ np.arange(small.shape[1 - axis]) / small.sum() for axis in (1, 0))
    middle = (size - 1) / 2
    top = min(max(round(middle - rows), 0), size - height)
    left = min(max(round(middle - columns), 0), size - width)
    canvas = np.zeros((size, size), np.float32)
    canvas[top : top + height, left : left + width] = small
    return canvas
