"""The augmented views of contrastive learning: no mirrored digits, no colours."""

from collections.abc import Sequence
from typing import Any

import torch

from data.augment import Augment
from data.batches import BatchLoader
from data.images import ImageSet

# The parts of the augmentation, by the names that --views takes.
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


def view_batches(
    images: ImageSet,
    indices: torch.Tensor,
    batch_size: int,
    parts: Sequence[str],
    strength: float = 1.0,
    **options: Any,
) -> BatchLoader:
    """Return batches of two differently augmented views of every image: x (B, 2, 1, 28, 28), y (B,).

    batch_size: of all ranks together. options: seed, rank and world of the BatchLoader.
    """
    augment = view_augment(parts, strength)
    return BatchLoader(images, indices, batch_size, augment=augment, views=2, **options)
