"""Consistency training (FixMatch): confident predictions on a weak view are labels for the strong view."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from data import Augment, BatchLoader, ImageSet
from utils.training.fit import Step


def consistency_loss(weak: Tensor, strong: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the unlabelled loss of FixMatch, equation 4 of Sohn et al. (2020), in nats, and the share used.

    weak, strong: logits (B, classes) of two views of the same images. An image whose weak view has a
    probability of at least `threshold` is used: its most probable class is the label of the strong view. The
    loss is the sum over the used images divided by B; no gradient flows into the weak view.
    """
    probability, label = weak.detach().softmax(1).max(1)
    sure = (probability >= threshold).float()
    return (sure * cross_entropy(strong, label, reduction="none")).mean(), sure.mean()


class ConsistencyBatches:
    """Batches (labelled images, their labels, weak views, strong views) for `consistency_step`.

    labelled, unlabelled: disjoint indices. sizes: labelled and unlabelled images of a batch. An epoch is one
    pass over the unlabelled images; the labelled ones, strongly augmented, are repeated as often as needed.
    The labels of the unlabelled images are never read.
    """

    def __init__(
        self,
        images: ImageSet,
        labelled: Tensor,
        unlabelled: Tensor,
        sizes: tuple[int, int],
        weak: Augment,
        strong: Augment,
        seed: int = 0,
    ):
        # A loader samples the order before the augmentation: with one seed both views have the same order.
        views = (BatchLoader(images, unlabelled, sizes[1], seed=seed, augment=a) for a in (weak, strong))
        self.weak, self.strong = views
        repeated = labelled.repeat(-(-len(self.weak) * sizes[0] // len(labelled)))
        self.labelled = BatchLoader(images, repeated, sizes[0], seed=seed + 1, augment=strong)

    def __len__(self) -> int:
        return len(self.weak)

    def epoch(self, number: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of epoch `number` (from 0)."""
        loaders = (self.labelled, self.weak, self.strong)
        for known, weak, strong in zip(*(loader.epoch(number) for loader in loaders), strict=False):
            yield *known, weak[0], strong[0]


def consistency_step(model: nn.Module, threshold: float) -> Step:
    """Return the step for `fit`: cross-entropy of the labelled images plus `consistency_loss`."""

    def step(images, labels, weak, strong):
        with torch.no_grad():
            weak_logits = model(weak).float()
        known, strong_logits = model(torch.cat([images, strong])).float().tensor_split([len(images)])
        loss, used = consistency_loss(weak_logits, strong_logits, threshold)
        accuracy = (known.argmax(1) == labels).float().mean()
        return cross_entropy(known, labels) + loss, {"accuracy": accuracy, "used": used}

    return step
