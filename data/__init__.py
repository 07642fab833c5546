"""What is learned from: loading, splits, batches, augmentation. Knows no model and no script."""

from data.augment import POLICIES, VIEW_PARTS, Augment, view_augment
from data.batches import BatchLoader, generator
from data.images import DATASETS, DataError, ImageSet, load
from data.splits import few_labels, folds, split

__all__ = [
    "DATASETS",
    "POLICIES",
    "VIEW_PARTS",
    "Augment",
    "BatchLoader",
    "DataError",
    "ImageSet",
    "few_labels",
    "folds",
    "generator",
    "load",
    "split",
    "view_augment",
]
