"""What is learned from: loading, splits, batches, augmentation. Knows no model and no script."""

from data.augment import POLICIES, VIEW_PARTS, Augment, view_augment
from data.batches import BatchLoader, ClassBatches, generator, in_order
from data.errors import DataError
from data.images import DATASETS, Data, ImageSet, check_classes, load
from data.splits import bootstrap, few_labels, folds, of_classes, split
from data.writers import writers_for
