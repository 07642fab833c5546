"""Training on pseudo-labels, some of which are wrong, with the few given labels as anchors."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from data import Augment, BatchLoader, ImageSet
from utils.training.fit import Step

ROBUSTNESS = 0.7  # q of Zhang and Sabuncu (2018)
ANCHOR_WEIGHT = 0.5  # chosen on validation images


def generalised_cross_entropy(logits: Tensor, labels: Tensor, q: float = ROBUSTNESS) -> Tensor:
    """Return the mean of (1 - p^q) / q, equation 6 of Zhang and Sabuncu (2018).

    p is the probability of the label. logits: (B, classes). labels: (B,). q: in (0, 1]; towards 0 the loss is
    the cross-entropy, at 1 it is 1 - p. An improbable label, which may be wrong, has hardly any gradient.
    """
    p = logits.softmax(1).gather(1, labels.unsqueeze(1))
    return ((1 - p.clamp(min=1e-7) ** q) / q).mean()


class AnchoredBatches:
    """Batches (images, their labels, anchors, their labels) for `anchored_step`, all augmented.

    anchors, indices: of the images whose labels are given, and of all with a label, given or not. sizes:
    images and anchors of a batch. An epoch is one pass over `indices`; anchors are repeated.
    """

    def __init__(
        self,
        images: ImageSet,
        anchors: Tensor,
        indices: Tensor,
        sizes: tuple[int, int],
        augment: Augment,
        seed: int = 0,
    ):
        self.images = BatchLoader(images, indices, sizes[0], seed=seed, augment=augment)
        repeated = anchors.repeat(-(-len(self.images) * sizes[1] // len(anchors)))
        self.anchors = BatchLoader(images, repeated, sizes[1], seed=seed + 1, augment=augment)

    def __len__(self) -> int:
        return len(self.images)

    def epoch(self, number: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of epoch `number` (from 0)."""
        for some, anchors in zip(self.images.epoch(number), self.anchors.epoch(number), strict=False):
            yield *some, *anchors


def anchored_step(model: nn.Module) -> Step:
    """Return the step for `fit`: robust loss of all labels plus, where there are any, that of the anchors."""

    def step(images, labels, *anchors):
        logits = model(torch.cat([images, *anchors[:1]])).float()
        loss = generalised_cross_entropy(logits[: len(images)], labels)
        if anchors:
            loss = loss + ANCHOR_WEIGHT * cross_entropy(logits[len(images) :], anchors[1])
        return loss, {"accuracy": (logits[: len(images)].argmax(1) == labels).float().mean()}

    return step
