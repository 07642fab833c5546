"""Batched augmentation: tensor operations on the whole batch with different parameters for every image.

Each transform is a pure function of images and parameters, one row of parameters per image, and agrees with
its counterpart for single images in torchvision.transforms.v2.functional. `Augment` samples the parameters
from a CPU generator, so that a seed gives the same images on every device.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from data.errors import DataError


def affine_matrix(
    angle: torch.Tensor, translate: torch.Tensor, scale: torch.Tensor, shear: torch.Tensor, size: int = 28
) -> torch.Tensor:
    """Return inverse affine maps (B, 2, 3) in the normalised coordinates of grid_sample.

    angle: (B,) degrees, clockwise. translate: (B, 2) pixels (x, y). scale: (B,) > 0. shear: (B, 2)
    degrees (x, y), |shear| < 90. The convention is torchvision's: rotate(angle) * shear * scale about the
    image's centre, then translate.
    """
    rot, (sx, sy) = torch.deg2rad(angle), torch.deg2rad(shear).unbind(1)
    a = torch.cos(rot - sy) / torch.cos(sy)
    b = -a * torch.tan(sx) - torch.sin(rot)
    c = torch.sin(rot - sy) / torch.cos(sy)
    d = -c * torch.tan(sx) + torch.cos(rot)
    # The determinant of [[a, b], [c, d]] is 1: rotation and shears keep areas.
    inverse = torch.stack([d, -b, -c, a], 1).view(-1, 2, 2) / scale.view(-1, 1, 1)
    shift = -inverse @ (translate * (2 / size)).unsqueeze(2)
    return torch.cat([inverse, shift], 2)


def warp(
    images: torch.Tensor, matrix: torch.Tensor, displacement: torch.Tensor | None = None
) -> torch.Tensor:
    """Apply affine map and elastic displacement in one bilinear resampling; black outside the image.

    images: (B, C, H, W) float. matrix: (B, 2, 3) as `affine_matrix` gives it. displacement: None or
    (B, H, W, 2), added to the sampling grid, in units of half the image (x, y).
    """
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    if displacement is not None:
        grid = grid + displacement
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def smooth_displacement(noise: torch.Tensor, size: int = 28) -> torch.Tensor:
    """Interpolate coarse noise (B, 2, g, g) bicubically to a smooth displacement (B, size, size, 2)."""
    # It is linear in the noise: two matrix products are several times faster on a CPU.
    coarse = noise.shape[-1]
    unit = torch.eye(coarse, device=noise.device).view(1, coarse, coarse, 1)
    weights = F.interpolate(unit, size=(size, 1), mode="bicubic", align_corners=True).view(coarse, size)
    return (weights.T @ noise @ weights).permute(0, 2, 3, 1)


def crop_matrix(
    left: torch.Tensor, top: torch.Tensor, width: torch.Tensor, height: torch.Tensor
) -> torch.Tensor:
    """Return maps (B, 2, 3) from output to input coordinates that enlarge a box to the whole image.

    left, top, width, height: (B,) fractions of the image. Pixels just outside the box count at its edge.
    """
    zero = torch.zeros_like(left)
    centre_x, centre_y = 2 * left + width - 1, 2 * top + height - 1
    return torch.stack([width, zero, centre_x, zero, height, centre_y], 1).view(-1, 2, 3)


def compose(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """Return the affine maps outer(inner(x)) of two batches of maps (B, 2, 3)."""
    product = outer[:, :, :2] @ inner
    return torch.cat([product[:, :, :2], product[:, :, 2:] + outer[:, :, 2:]], 2)


def blur(images: torch.Tensor, sigma: torch.Tensor, radius: int = 3) -> torch.Tensor:
    """Blur images (B, C, H, W) by Gaussians of sigma (B,) pixels, cut off at the radius; black outside."""
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-3).unsqueeze(1)).square())
    kernel = (kernel / kernel.sum(1, keepdim=True)).T.view(2 * radius + 1, -1, 1, 1, 1)
    for dim in (2, 3):
        size = images.shape[dim]
        padded = F.pad(images, [0, 0, radius, radius] if dim == 2 else [radius, radius])
        images = sum(weight * padded.narrow(dim, i, size) for i, weight in enumerate(kernel))
    return images


def crop(images: torch.Tensor, top: torch.Tensor, left: torch.Tensor, padding: int) -> torch.Tensor:
    """Pad by `padding` black pixels and crop the original size at (top, left), both (B,) in 0..2*padding."""
    height, width = images.shape[-2:]
    windows = F.pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def pixel_grid(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return row numbers (1, H, 1) and column numbers (1, 1, W) of images (B, C, H, W)."""
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
    return rows.view(1, -1, 1), columns.view(1, 1, -1)


def erase(
    images: torch.Tensor, top: torch.Tensor, left: torch.Tensor, height: torch.Tensor, width: torch.Tensor
) -> torch.Tensor:
    """Blacken one box per image; top, left, height, width: (B,) in pixels."""
    rows, columns = pixel_grid(images)
    top, left, height, width = (v.view(-1, 1, 1) for v in (top, left, height, width))
    box = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return images.masked_fill(box.unsqueeze(1), 0)


def add_strokes(images: torch.Tensor, ends: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """Add one straight stroke of full ink per image, with round ends and edges that are one pixel soft.

    ends: (B, 4) end points x0, y0, x1, y1 in pixels, 0 being the centre of the first pixel. width: (B,)
    half widths in pixels; -1 adds nothing.
    """
    rows, columns = pixel_grid(images)
    x0, y0, x1, y1, width = (v.view(-1, 1, 1) for v in (*ends.unbind(1), width))
    along_x, along_y = x1 - x0, y1 - y0
    length = (along_x.square() + along_y.square()).clamp(min=1e-12)
    # The point of the stroke that is nearest to each pixel, as a share of the way between its ends.
    share = (((columns - x0) * along_x + (rows - y0) * along_y) / length).clamp(0, 1)
    distance = torch.hypot(columns - x0 - share * along_x, rows - y0 - share * along_y)
    ink = (width + 0.5 - distance).clamp(0, 1)
    return torch.maximum(images, ink.unsqueeze(1).to(images.dtype))


@dataclass(frozen=True)
class Augment:
    """Ranges of a random augmentation; zero switches a part off, all zeros are the identity.

    crop: shifts by up to this many whole pixels. rotate, shear: degrees. translate: fraction of the image.
    scale: zoom in [1 - scale, 1 + scale]. elastic: largest displacement of the control points, in pixels.
    resize: random resized crop with an area in [1 - resize, 1] and an aspect ratio in [3/4, 4/3]. blur:
    largest standard deviation of a Gaussian, in pixels. erase: probability of blackening a box of 2 % to 20 %
    of the image (Zhong et al., 2020). stroke: probability of one short stroke of ink near the middle, before
    everything else. own: called last with the images and `draws` random numbers in [0, 1) for each,
    (B, draws); returns new images.
    """

    crop: int = 0
    rotate: float = 0.0
    translate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    resize: float = 0.0
    blur: float = 0.0
    erase: float = 0.0
    stroke: float = 0.0
    own: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    draws: int = 0

    def scaled(self, strength: float) -> "Augment":
        """Return this augmentation with every range times `strength`, within what is possible."""
        values = {key: strength * value for key, value in vars(self).items() if key not in ("own", "draws")}
        values["crop"] = round(values["crop"])
        limits = {"scale": 0.9, "resize": 0.95, "erase": 1.0, "stroke": 1.0, "rotate": 180.0, "shear": 60.0}
        return replace(self, **values | {key: min(values[key], limit) for key, limit in limits.items()})

    def sample(self, count: int, generator: torch.Generator, size: int = 28) -> dict[str, torch.Tensor]:
        """Sample parameters for `count` images of size x size: a dict of CPU tensors, one row per image."""

        def uniform(*shape):
            return torch.rand(count, *shape, generator=generator) * 2 - 1

        params = {}
        if self.crop:
            params["corner"] = torch.randint(2 * self.crop + 1, (count, 2), generator=generator)
        if self.rotate or self.translate or self.scale or self.shear or self.elastic:
            params["matrix"] = affine_matrix(
                angle=self.rotate * uniform(),
                translate=self.translate * size * uniform(2),
                scale=1 + self.scale * uniform(),
                shear=self.shear * uniform(2),
                size=size,
            )
        if self.resize:
            box = crop_matrix(*_sample_crops(count, self.resize, generator))
            params["matrix"] = compose(params["matrix"], box) if "matrix" in params else box
        if self.blur:
            params["sigma"] = self.blur * torch.rand(count, generator=generator)
        if self.elastic:
            params["noise"] = self.elastic * (2 / size) * uniform(2, 6, 6)
        if self.erase:
            params["box"] = _sample_boxes(count, self.erase, size, generator)
        if self.stroke:  # the last: the other parameters of a batch are the same with and without strokes
            params["ends"], params["width"] = _sample_strokes(count, self.stroke, size, generator)
        if self.own:
            params["draws"] = torch.rand(count, self.draws, generator=generator)
        return params

    def apply(self, images: torch.Tensor, params: dict[str, torch.Tensor]) -> torch.Tensor:
        """Augment float images (B, 1, S, S), black = 0, with the parameters from `sample`."""
        params = {k: v.to(images.device, non_blocking=True) for k, v in params.items()}
        if "ends" in params:
            images = add_strokes(images, params["ends"], params["width"])
        if "corner" in params:
            top, left = params["corner"].unbind(1)
            images = crop(images, top, left, self.crop)
        if "matrix" in params:
            field = smooth_displacement(params["noise"], images.shape[-1]) if "noise" in params else None
            images = warp(images, params["matrix"], field)
        if "sigma" in params:
            images = blur(images, params["sigma"])
        if "box" in params:
            images = erase(images, *params["box"].unbind(1))
        return _call(self.own, images, params["draws"]) if self.own else images


def _call(function, images, draws):
    """Call an own augmentation; DataError when it returns anything but images of the same form."""
    changed = function(images, draws)
    found, wanted = (
        f"{tuple(getattr(x, 'shape', ()))} {getattr(x, 'dtype', type(x))}" for x in (changed, images)
    )
    if found != wanted:
        raise DataError(f"the augmentation {function.__name__!r} must return images {wanted}, not {found}")
    return changed


def _sample_crops(count, share, generator):
    """Sample boxes of random resized crops: left, top, width, height, (count,) fractions of the image."""
    area, ratio, x, y = torch.rand(4, count, generator=generator)
    area = 1 - share * area
    # A box of this area fits as long as its aspect ratio is in [area, 1 / area].
    ratio = torch.exp((2 * ratio - 1) * (-area.log()).clamp(max=math.log(4 / 3)))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    return x * (1 - width), y * (1 - height), width, height


def _sample_boxes(count, probability, size, generator):
    """Sample boxes (count, 4) to erase: top, left, height, width in pixels, height 0 for no box."""
    chance, area, ratio, y, x = torch.rand(5, count, generator=generator)
    area = size * size * (0.02 + 0.18 * area)
    ratio = torch.exp((2 * ratio - 1) * math.log(3))  # aspect ratio, log-uniform in [1/3, 3]
    height = (area * ratio).sqrt().round().clamp(1, size)
    width = (area / ratio).sqrt().round().clamp(1, size)
    top, left = (y * (size - height + 1)).floor(), (x * (size - width + 1)).floor()
    height = torch.where(chance < probability, height, 0)
    return torch.stack([top, left, height, width], 1).long()


def _sample_strokes(count, probability, size, generator):
    """Sample end points (count, 4) and half widths (count,) for `add_strokes`; width -1 for no stroke.

    Half length 2.5 to 6 pixels, half width 0.8 to 1.5, any direction, the centre evenly within 5 pixels of
    the image's middle: the bar of a 7, a slip of the pen.
    """
    chance, length, width, angle, radius, place = torch.rand(6, count, generator=generator)
    length, angle, place = 2.5 + 3.5 * length, math.pi * angle, 2 * math.pi * place
    radius = 5 * radius.sqrt()
    centre = (size - 1) / 2 + radius * torch.stack([torch.cos(place), torch.sin(place)])
    half = length * torch.stack([torch.cos(angle), torch.sin(angle)])
    width = torch.where(chance < probability, 0.8 + 0.7 * width, -1.0)
    return torch.cat([centre - half, centre + half]).T, width


# The policies that recipes and --augment name.
POLICIES = {
    "none": Augment(),
    "shift": Augment(crop=2),
    "affine": Augment(rotate=10, translate=0.08, scale=0.1, shear=5),
    "strong": Augment(rotate=12, translate=0.12, scale=0.15, shear=8.5),
    "elastic": Augment(rotate=10, translate=0.1, scale=0.12, shear=7, elastic=1.5),
    "erase": Augment(rotate=10, translate=0.08, scale=0.1, shear=5, erase=0.25),
}
# The parts of a view of contrastive learning, by the names that --views takes: no mirrored digits.
VIEW_PARTS = {
    "affine": {"rotate": 20, "translate": 0.12, "scale": 0.2, "shear": 15},
    "elastic": {"elastic": 2.5},
    "crop": {"resize": 0.5},
    "blur": {"blur": 1.0},
    "erase": {"erase": 0.5},
    "stroke": {"stroke": 0.8},
}


def view_augment(parts: Sequence[str], strength: float = 1.0) -> Augment:
    """Join the named VIEW_PARTS into one Augment, with its ranges times `strength`."""
    ranges: dict[str, Any] = {key: value for part in parts for key, value in VIEW_PARTS[part].items()}
    return Augment(**ranges).scaled(strength)
