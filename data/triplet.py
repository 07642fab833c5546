"""Metric learning: synthetic classes to train on, episodes and printed letters to evaluate on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from data.augment import Augment
from data.batches import ClassBatches, generator
from data.errors import DataError
from data.images import ImageSet

SYMMETRIES = 8
# Ways to join two images: cut and pasted halves, whole images squeezed to half their height or width, and
# the brighter of both pixels. The order of the two matters in all but the last.
JOINS = ("top-bottom", "left-right", "stacked", "side-by-side", "overlay")
CLASS_AUGMENTS = ("none", "symmetries", "glyphs")
# Share of the synthetic classes that are joined of three images instead of two.
THREE_PARTS = 0.5
# Rotation and scale of a synthetic class, the same for all its images.
RESHAPE = Augment(rotate=180, scale=0.1)

# Letters that resemble no digit, in the fonts that come with matplotlib.
LETTERS = "ACDFHJKLMNPRTUVWXYaehknrt"
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("DejaVuSansMono", "DejaVuSansMono-Oblique", "DejaVuSansMono-Bold"),
    *("STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol", "STIXGeneralBolIta"),
    *("cmr10", "cmss10", "cmtt10", "cmb10", "cmmi10"),
)
# Every printed letter gives this many images, each with its own deformation, as if written by hand.
COPIES = 6
HAND = Augment(rotate=12, translate=0.03, scale=0.1, shear=18, elastic=3)


# --- Class augmentation: what teaches an embedding unseen classes is the number of classes, not of images ---


def symmetric(images: torch.Tensor, symmetry: torch.Tensor) -> torch.Tensor:
    """Map each image by one of the eight symmetries of the square.

    images: (B, C, S, S). symmetry: (B,) from 0 to 7, a sum: 1 flips upside down, 2 flips left and right, 4
    then swaps rows and columns. 0 is the identity, 3 a half turn, 5 and 6 are quarter turns.
    """
    bits = symmetry.view(-1, 1, 1, 1)
    images = torch.where(bits & 1 > 0, images.flip(2), images)
    images = torch.where(bits & 2 > 0, images.flip(3), images)
    return torch.where(bits & 4 > 0, images.transpose(2, 3), images)


def symmetric_copies(images: ImageSet, indices: torch.Tensor) -> ImageSet:
    """Return the images at `indices` (N,) in all symmetries, 8 N; label 8 y + s for digit y, symmetry s."""
    indices = indices.to(images.images.device)
    symmetry = torch.arange(SYMMETRIES, device=indices.device).repeat_interleave(len(indices))
    pixels = symmetric(images.images[indices].repeat(SYMMETRIES, 1, 1, 1), symmetry)
    labels = SYMMETRIES * images.labels[indices].repeat(SYMMETRIES) + symmetry
    classes = tuple(f"{name} ({s})" for name in images.classes for s in range(SYMMETRIES))
    return images._replace(images=pixels, labels=labels, classes=classes)


def join(first: torch.Tensor, second: torch.Tensor, ways: torch.Tensor) -> torch.Tensor:
    """Join images (B, C, S, S), float, two by two; ways: (B,), indices of JOINS."""
    half = first.shape[-1] // 2

    def stacked(*parts):
        """The images at half their height, without their two outer rows, one above the other."""
        inner = [part[:, :, 2:-2] for part in parts]
        halves = [(rows[:, :, ::2] + rows[:, :, 1::2]) / 2 for rows in inner]
        return F.pad(torch.cat(halves, 2), (0, 0, 2, 2))

    joined = (
        torch.cat([first[:, :, :half], second[:, :, half:]], 2),
        torch.cat([first[:, :, :, :half], second[:, :, :, half:]], 3),
        stacked(first, second),
        stacked(first.mT, second.mT).mT,
        torch.maximum(first, second),
    )
    return torch.stack(joined).gather(0, ways.view(1, -1, 1, 1, 1).expand(1, *first.shape)).squeeze(0)


class GlyphBatches(ClassBatches):
    """P x K batches with G x K images of synthetic classes added to each.

    `epoch(e)` yields (x, y) like ClassBatches, with x ((P + G) * K, 1, 28, 28). A synthetic class joins two
    or three classes of the batch, image by image, in ways sampled from JOINS, and rotates the result, all its
    K images alike. Synthetic classes have the labels from the number of classes on. glyphs: G, at least 1.
    """

    def __init__(self, *args: Any, glyphs: int, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.glyphs = glyphs

    def _images(self, chosen: torch.Tensor, gen: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        pixels, labels = super()._images(chosen, gen)
        new = len(self.set.classes) + torch.arange(self.glyphs, device=chosen.device)
        labels = torch.cat([labels, new.repeat_interleave(self.images_per_class)])
        return torch.cat([pixels, self._synthetic(pixels, gen)]), labels

    def _synthetic(self, pixels: torch.Tensor, gen: torch.Generator) -> torch.Tensor:
        """Return G x K synthetic images made from the P x K images of a batch, float in [0, 1]."""
        count, classes, each = self.glyphs, self.classes_per_batch, self.images_per_class
        order = torch.rand(count, classes, generator=gen).argsort(1)
        ways = torch.randint(len(JOINS), (2, count), generator=gen)
        three = torch.rand(count, generator=gen) < THREE_PARTS
        turn = RESHAPE.sample(count, gen, pixels.shape[-1])

        def for_each_image(values):
            return values.repeat_interleave(each, 0).to(pixels.device, non_blocking=True)

        blocks, order = pixels.unflatten(0, (classes, each)), order.to(pixels.device, non_blocking=True)
        # Of two classes the first one is also the third.
        parts = [blocks[order[:, i % classes]].flatten(0, 1) for i in range(3)]
        joined = join(parts[0], parts[1], for_each_image(ways[0]))
        again = join(joined, parts[2], for_each_image(ways[1]))
        joined = torch.where(for_each_image(three).view(-1, 1, 1, 1), again, joined)
        return RESHAPE.apply(joined, {name: for_each_image(values) for name, values in turn.items()})


# --- Episodes ---


def sample_episodes(
    support_labels: torch.Tensor,
    query_labels: torch.Tensor | None,
    classes: Sequence[int],
    *,
    shots: int,
    queries: int = 15,
    ways: int | None = None,
    count: int = 1000,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample balanced N-way k-shot episodes; return positions of support (E, N, k) and queries (E, N, q).

    Row n of an episode holds images of one class. support_labels: (S,), e.g. of the training images.
    query_labels: (Q,), e.g. of the test images; None samples queries from the other support images. classes:
    those that may occur. ways: N, by default all of them; fewer are sampled for every episode. shots,
    queries: k and q. count: E. Raises DataError when a class has too few images.
    """
    ways = ways or len(classes)
    gen = generator(seed, shots, ways)
    chosen = torch.rand(count, len(classes), generator=gen).argsort(1)[:, :ways]

    def sample(labels, value, each):
        """Different positions with the label `value` for each episode: (count, each)."""
        members = (labels.cpu() == value).nonzero().squeeze(1)
        if len(members) < each:
            raise DataError(f"an episode needs {each} images of class {value}, but there are {len(members)}")
        return members[torch.rand(count, len(members), generator=gen).topk(each, 1).indices]

    support, query = [], []
    for value in classes:
        if query_labels is None:
            shown, asked = sample(support_labels, value, shots + queries).split([shots, queries], 1)
        else:
            shown, asked = sample(support_labels, value, shots), sample(query_labels, value, queries)
        support.append(shown)
        query.append(asked)
    rows = torch.arange(count).unsqueeze(1)
    return torch.stack(support, 1)[rows, chosen], torch.stack(query, 1)[rows, chosen]


# --- Letters: classes to tune by, which are neither trained on nor tested on ---


def letters(like: ImageSet, seed: int = 0, signs: str = LETTERS) -> ImageSet:
    """Return images of printed signs, by default 3,000 of 25 letters, with mean, std, device of `like`."""
    import matplotlib  # here, because importing it takes time that --help needn't

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    printed = np.stack([glyph(folder / f"{font}.ttf", letter) for font in FONTS for letter in signs])
    pixels = torch.from_numpy(printed).unsqueeze(1).repeat(COPIES, 1, 1, 1)
    pixels = HAND.apply(pixels, HAND.sample(len(pixels), generator(seed), pixels.shape[-1]))
    pixels = (1.3 * pixels).clamp(0, 255).byte()  # the deformation makes strokes paler
    labels = torch.arange(len(signs)).repeat(COPIES * len(FONTS))
    device = like.images.device
    return ImageSet(pixels.to(device), labels.to(device), like.mean, like.std, "letters", tuple(signs))


def glyph(font: Path, letter: str, size: int = 28, height: int = 20) -> np.ndarray:
    """Print a letter, its longer side `height` pixels, centred by mass: (size, size) float32."""
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
