"""Class augmentation: more classes made from the images of a few, as batched tensor operations.

What teaches an embedding to tell unseen digits apart is the number of different classes, not of images.
Each digit in the eight symmetries of the square gives eight classes, and two images of two classes
joined give an image of a new class, a synthetic glyph.
"""

import functools

import torch
import torch.nn.functional as F

from data.augment import Augment
from data.batches import ClassBatches
from data.errors import DataError
from data.images import ImageSet

SYMMETRIES = 8
# Ways to join two images: cut and pasted halves, whole images squeezed to half their height or width, and
# the brighter of both pixels. The order of the two matters in all but the last.
JOINS = ("top-bottom", "left-right", "stacked", "side-by-side", "overlay")
CLASS_AUGMENTS = ("none", "symmetries", "glyphs")
# Share of the synthetic classes that are joined of three images instead of two.
THREE_PARTS = 0.5
# One draw for all images of a synthetic class.
RESHAPE = Augment(rotate=180, scale=0.1)


def symmetric(images: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Map each image by one of the eight symmetries of the square.

    images: (B, C, S, S). which: (B,) from 0 to 7, a sum: 1 flips upside down, 2 flips left and right, 4
    then swaps rows and columns. 0 is the identity, 3 a half turn, 5 and 6 are quarter turns.
    """
    bits = which.view(-1, 1, 1, 1)
    images = torch.where(bits & 1 > 0, images.flip(2), images)
    images = torch.where(bits & 2 > 0, images.flip(3), images)
    return torch.where(bits & 4 > 0, images.transpose(2, 3), images)


def symmetric_copies(images: ImageSet, indices: torch.Tensor) -> ImageSet:
    """Return the images at `indices` (N,) in all symmetries: 8 N images of eight times as many classes.

    The label of digit y under symmetry s is 8 y + s, see `symmetric`; s = 0 comes first.
    """
    indices = indices.to(images.images.device)
    which = torch.arange(SYMMETRIES, device=indices.device).repeat_interleave(len(indices))
    pixels = symmetric(images.images[indices].repeat(SYMMETRIES, 1, 1, 1), which)
    labels = SYMMETRIES * images.labels[indices].repeat(SYMMETRIES) + which
    classes = tuple(f"{name} ({s})" for name in images.classes for s in range(SYMMETRIES))
    return images._replace(images=pixels, labels=labels, classes=classes)


def join(first: torch.Tensor, second: torch.Tensor, how: torch.Tensor) -> torch.Tensor:
    """Join two images to one, in the way how (B,), an index of JOINS, for each of (B, C, S, S) float."""
    size = first.shape[-1]
    half = size // 2
    joined = (
        torch.cat([first[:, :, :half], second[:, :, half:]], 2),
        torch.cat([first[:, :, :, :half], second[:, :, :, half:]], 3),
        F.pad(torch.cat([_squeeze(first), _squeeze(second)], 2), (0, 0, 2, 2)),
        F.pad(torch.cat([_squeeze(first.mT), _squeeze(second.mT)], 2), (0, 0, 2, 2)).mT,
        torch.maximum(first, second),
    )
    how = how.view(1, -1, 1, 1, 1).expand(1, *first.shape)
    return torch.stack(joined).gather(0, how).squeeze(0)


def _squeeze(images):
    """Squeeze images without their two outer rows above and below to half their height."""
    inner = images[:, :, 2:-2]
    return (inner[:, :, ::2] + inner[:, :, 1::2]) / 2


class GlyphBatches(ClassBatches):
    """P x K batches with G x K images of synthetic classes added to each.

    `epoch(e)` yields (x, y) like ClassBatches, with x ((P + G) * K, 1, 28, 28), the K images of a class one
    after the other. A synthetic class joins two or three classes of the batch, image by image, in ways drawn
    from JOINS, and turns the result by an angle; all of that is the same for its K images. Synthetic classes
    have the labels from the number of classes on, one each. Everything depends on (seed, e) only.

    glyphs: G, at least 1; a DataError otherwise. Other arguments and errors as in ClassBatches.
    """

    def __init__(self, *args, glyphs: int, **kwargs):
        super().__init__(*args, **kwargs)
        if glyphs < 1:
            raise DataError(f"a batch needs at least 1 synthetic class, not {glyphs}")
        self.glyphs = glyphs

    def _batch(self, chosen: torch.Tensor, gen: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images at `chosen` and synthetic ones, augmented and normalised, with their labels."""
        chosen = chosen.to(self.set.images.device, non_blocking=True)
        pixels = self.set.images[chosen].float().div_(255)
        pixels = torch.cat([pixels, self._glyphs(pixels, gen)])
        if self.augment:
            pixels = self.augment.apply(pixels, self.augment.sample(len(pixels), gen, pixels.shape[-1]))
        new = len(self.set.classes) + torch.arange(self.glyphs, device=chosen.device)
        labels = torch.cat([self.set.labels[chosen], new.repeat_interleave(self.images_per_class)])
        return self.set.normalise(pixels), labels

    def _glyphs(self, pixels: torch.Tensor, gen: torch.Generator) -> torch.Tensor:
        """Return G x K synthetic images made from the P x K images of a batch, float in [0, 1]."""
        count, classes, each = self.glyphs, self.classes_per_batch, self.images_per_class
        order = torch.rand(count, classes, generator=gen).argsort(1)
        how = torch.randint(len(JOINS), (2, count), generator=gen)
        three = torch.rand(count, generator=gen) < THREE_PARTS
        turn = RESHAPE.sample(count, gen, pixels.shape[-1])

        def for_each_image(values):
            return values.repeat_interleave(each, 0).to(pixels.device, non_blocking=True)

        blocks, order = pixels.unflatten(0, (classes, each)), order.to(pixels.device, non_blocking=True)
        # Of two classes the first one is also the third.
        parts = [blocks[order[:, i % classes]].flatten(0, 1) for i in range(3)]
        joined = join(parts[0], parts[1], for_each_image(how[0]))
        again = join(joined, parts[2], for_each_image(how[1]))
        joined = torch.where(for_each_image(three).view(-1, 1, 1, 1), again, joined)
        return RESHAPE.apply(joined, {name: for_each_image(values) for name, values in turn.items()})


def class_batches(
    images: ImageSet,
    indices: torch.Tensor,
    classes_per_batch: int,
    images_per_class: int,
    class_augment: str = "none",
    glyphs: int = 0,
    *,
    batches_per_epoch: int | None = None,
    seed: int = 0,
    augment: Augment | None = None,
) -> ClassBatches:
    """Return P x K batches of the images at `indices` with the classes that `class_augment` adds.

    class_augment: one of CLASS_AUGMENTS. "symmetries": eight times as many classes, see `symmetric_copies`;
    "glyphs": those, and in each batch `glyphs` synthetic ones, see GlyphBatches. Raises DataError as those
    do.
    """
    if class_augment != "none":
        images = symmetric_copies(images, indices)
        indices = torch.arange(len(images.labels))
    kind = functools.partial(GlyphBatches, glyphs=glyphs) if class_augment == "glyphs" else ClassBatches
    return kind(
        images,
        indices,
        classes_per_batch,
        images_per_class,
        batches_per_epoch=batches_per_epoch,
        seed=seed,
        augment=augment,
    )
