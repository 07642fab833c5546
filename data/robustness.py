"""Corruptions at five strengths, images of no digit, labels of MNIST's test set that reviewers dispute.

The corruptions are in the manner of MNIST-C (Mu and Gilmer, 2019), written from the definitions below. They
are not the files of MNIST-C: error rates here and there can't be compared. Strengths were fixed by looking at
pictures, before any model was scored.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from data.augment import affine_matrix, blur, erase, warp
from data.batches import POOL, draw_of, generator
from data.idx import find_idx
from data.images import TORCHVISION, ImageSet, load
from data.triplet import letters

LEVELS = 5
# The part of the image's side in the middle that holds the digit: 20 of MNIST's 28 pixels.
MIDDLE = 5 / 7


class Draws(NamedTuple):
    """Random numbers for N images. rows: (N,), which of POOL draws each image gets, see `draw_of`."""

    rows: torch.Tensor
    gen: torch.Generator

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(POOL, *shape, generator=self.gen)[self.rows]

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(POOL, *shape, generator=self.gen)[self.rows]

    def signs(self) -> torch.Tensor:
        return 2.0 * (self.uniform() < 0.5) - 1


def _affine(images, **changes):
    """Warp images (N, 1, S, S) by arguments of `affine_matrix`; those left out change nothing."""
    zeros = torch.zeros(len(images), 2)
    still = {"angle": zeros[:, 0], "translate": zeros, "scale": 1 + zeros[:, 0], "shear": zeros}
    return warp(images, affine_matrix(**still | changes, size=images.shape[-1]).to(images.device))


def change(images: torch.Tensor, name: str, strength: float, draws: Draws) -> torch.Tensor:
    """Apply a corruption, a key of CORRUPTIONS, to images (N, 1, S, S) float, from 0, black, to 1."""
    size = images.shape[-1]
    match name:
        case "rotation":  # about the centre, to either side
            return _affine(images, angle=strength * draws.signs())
        case "shift":  # in a random direction; black moves in
            angle = 2 * math.pi * draws.uniform()
            return _affine(images, translate=strength * torch.stack([torch.cos(angle), torch.sin(angle)], 1))
        case "scale":  # larger or smaller
            return _affine(images, scale=(1 + strength) ** draws.signs())
        case "shear":  # sideways, to either side
            sideways = strength * draws.signs()
            return _affine(images, shear=torch.stack([sideways, torch.zeros_like(sideways)], 1))
        case "noise":  # Gaussian, independent for every pixel
            return images + strength * draws.normal(*images.shape[1:]).to(images.device)
        case "blur":  # by a Gaussian
            sigma = torch.full((len(images),), strength, device=images.device)
            return blur(images, sigma, radius=math.ceil(3 * strength))
        case "occlusion":  # by a black square at a random place within the middle
            side, room = int(strength), round(MIDDLE * size)
            corner = (size - room) // 2 + (draws.uniform(2) * (room - side + 1)).long().to(images.device)
            return erase(images, *corner.unbind(1), *torch.full_like(corner, side).unbind(1))
        case "inversion":  # a mixture with the negative
            return (1 - strength) * images + strength * (1 - images)
        case _:  # brightness: grey paper; ink stays white
            return images + strength


class Corruption(NamedTuple):
    """The strengths of a corruption at the five levels, and their unit, for figures."""

    strengths: tuple[float, float, float, float, float]
    unit: str


CORRUPTIONS = {
    "rotation": Corruption((10, 20, 30, 40, 50), "degrees"),
    "shift": Corruption((2, 3, 4, 5, 6), "pixels"),
    "scale": Corruption((0.1, 0.2, 0.3, 0.4, 0.5), "factor − 1"),
    "shear": Corruption((8, 16, 24, 32, 40), "degrees"),
    "noise": Corruption((0.1, 0.2, 0.3, 0.4, 0.5), "SD"),
    "blur": Corruption((0.5, 1, 1.5, 2, 2.5), "SD, pixels"),
    "occlusion": Corruption((4, 6, 8, 10, 12), "side, pixels"),
    "inversion": Corruption((0.2, 0.4, 0.6, 0.8, 1), "share"),
    "brightness": Corruption((0.15, 0.3, 0.45, 0.6, 0.75), "added"),
}


def corrupt(images: torch.Tensor, name: str, level: int, seed: int = 0) -> torch.Tensor:
    """Corrupt images (N, 1, S, S) uint8; return uint8 of the same shape.

    name: a key of CORRUPTIONS. level: 1 (weak) to 5. The random directions, places and noise of an image
    depend on its pixels and the seed alone: they are the same at every level and among any other images.
    """
    draws = Draws(draw_of(images), generator(seed, list(CORRUPTIONS).index(name)))
    changed = change(images.float() / 255, name, CORRUPTIONS[name].strengths[level - 1], draws)
    return (255 * changed.clamp(0, 1)).round().to(torch.uint8)


# --- Images of no digit ---

SYMBOLS = "+=<>#%&?*$"


def unknown_images(like: ImageSet, root: Path | str, seed: int = 0) -> dict[str, ImageSet]:
    """Return images without a digit by name, on the device of `like`; their labels say nothing.

    letters, symbols: printed, see `data.triplet.letters`. noise: pixels, together as bright as a digit.
    clothes: the test images of Fashion-MNIST, where the folder `root`, as in `load`, has the files.
    """
    sets = {"letters": letters(like, seed), "symbols": letters(like, seed, SYMBOLS)}
    grey = torch.rand(1000, 1, 28, 28, generator=generator(seed)) ** (1 / like.mean - 1)
    noise = (255 * grey).byte().to(like.images.device)
    sets["noise"] = like._replace(images=noise, labels=like.labels.new_zeros(1000))
    if len(find_idx(Path(root) / TORCHVISION["fashion-mnist"] / "raw")[0]) == 2:
        sets["clothes"] = load("fashion-mnist", root, like.images.device)[1]
    return sets


# --- Wrong and disputed labels ---


def flip_labels(
    labels: torch.Tensor, share: float, seed: int, between: Sequence[int] | None = None
) -> torch.Tensor:
    """Return labels (N,) of which a share is replaced, each evenly by any other class.

    between: only the labels of these classes are replaced, and by these.
    """
    classes, gen = torch.unique(torch.tensor(between) if between else labels.cpu()), generator(seed)
    among = torch.isin(labels.cpu(), classes).nonzero().squeeze(1)
    chosen = among[torch.randperm(len(among), generator=gen)[: round(share * len(among))]]
    steps = torch.randint(1, len(classes), (len(chosen),), generator=gen)
    places = torch.searchsorted(classes, labels.cpu()[chosen]) + steps
    return labels.clone().index_put_((chosen.to(labels.device),), classes[places % len(classes)].to(labels))


class Review(NamedTuple):
    """What five reviewers said of a label (Northcutt, Athalye and Mueller, NeurIPS 2021, arXiv 2103.14749).

    given: the label of the data set. verdict: another one that three or more chose, None where there is none.
    Source: mturk/mnist_mturk.json of https://github.com/cleanlab/label-errors.
    """

    given: int
    verdict: int | None


# By position in the test set, counted from 0: the images whose given label fewer than three reviewers chose.
LABEL_ERRORS = {
    947: Review(8, 9),
    1621: Review(0, 6),
    1901: Review(9, 4),
    2130: Review(4, None),
    2462: Review(2, 0),
    2597: Review(5, 3),
    2654: Review(6, None),
    3520: Review(6, None),
    3558: Review(5, 0),
    5937: Review(5, 3),
    6651: Review(0, 6),
    6783: Review(1, 6),
    8527: Review(4, None),
    9679: Review(6, None),
    9729: Review(5, 6),
}
