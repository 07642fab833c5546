"""What is learned from: loading, splits, batches, augmentation. Knows no model and no script."""

from data.augment import POLICIES, Augment
from data.batches import BatchLoader, SideBySide, generator
from data.images import DATASETS, DataError, ImageSet, load
from data.splits import bootstrap, few_labels, folds, split

__all__ = [
    "DATASETS",
    "POLICIES",
    "Augment",
    "BatchLoader",
    "DataError",
    "ImageSet",
    "SideBySide",
    "bootstrap",
    "few_labels",
    "folds",
    "generator",
    "load",
    "split",
]
