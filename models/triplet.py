"""Metric learning: losses over a batch of embeddings, and the miners of the triplet loss.

An anchor, a positive of its class and a negative of another class form a triplet. Shapes are static and
nothing waits for the device, so that a training step never stalls. No function builds a (B, B, B) tensor.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from models.cnn import ENCODERS, EncoderParts

MINERS = ("random", "batch-hard", "semi-hard")
LOSSES = ("triplet", "contrastive", "supcon", "bce", "arcface")
# Squared Euclidean distances: of the embeddings or of their directions (scaled to length 1).
DISTANCES = ("squared", "unit-squared")


def siamese() -> EncoderParts:
    """The network of the original Siamese project, for one channel: an embedding of 128 numbers."""

    def double(inputs, middle, outputs, kernel, stride):
        first = nn.Conv2d(inputs, middle, kernel, stride, kernel // 2)
        second = nn.Conv2d(middle, outputs, 3, padding=1)
        return [first, nn.ReLU(inplace=True), second, nn.MaxPool2d(2), nn.ReLU(inplace=True)]

    return nn.Sequential(
        *double(1, 64, 64, 7, 2),
        *double(64, 64, 128, 3, 1),
        *double(128, 256, 256, 3, 2),
        nn.Flatten(),
        nn.Linear(256, 2048),
        nn.ReLU(inplace=True),
        nn.Linear(2048, 512),
        nn.ReLU(inplace=True),
        nn.Linear(512, 128),
    ), 128


TRIPLET_ENCODERS = {"siamese": siamese, **ENCODERS}


def prepare_embeddings(embeddings: torch.Tensor, distance: str) -> torch.Tensor:
    """Return embeddings (B, D) in float32 at least, scaled to length 1 for "unit-squared" distances."""
    rows = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    return F.normalize(rows, dim=1) if distance == "unit-squared" else rows


def pairwise_distances(embeddings: torch.Tensor, distance: str = "squared") -> torch.Tensor:
    """Return the distances (B, B) float32 of all pairs of embeddings (B, D).

    distance: one of DISTANCES. The gradient of a distance of zero is zero, not NaN.
    """
    rows = prepare_embeddings(embeddings, distance)
    # Subtracted before they are squared: |a|^2 + |b|^2 - 2ab loses what tells close embeddings apart.
    with torch.autocast(rows.device.type, enabled=False):
        return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()


def pair_masks(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which pairs of labels (B,) are positive (two images of one class) and negative: (B, B) bool."""
    same = labels.unsqueeze(1) == labels
    negatives = ~same
    return same.fill_diagonal_(False), negatives


def triplet_loss(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    margin: float,
    mining: str = "batch-hard",
    distance: str = "squared",
) -> torch.Tensor:
    """Return the mean over triplets of max(d(anchor, positive) - d(anchor, negative) + margin, 0).

    embeddings: (B, D). labels: (B,) whole numbers. margin: at least 0. distance: one of DISTANCES. Every
    image with a positive and a negative in the batch is an anchor. mining:

    random: one random positive and one random negative per anchor (torch's global generator).
    batch-hard: the farthest positive and the nearest negative (Hermans et al., 2017, equation 5).
    semi-hard: for every positive the nearest negative that is farther away than the positive, where there
        is one within the margin (Schroff et al., 2015, section 3.2).

    A batch without a triplet gives 0, with a gradient of zeros.
    """
    positives, negatives = pair_masks(labels)
    if mining == "semi-hard":
        return _semi_hard(pairwise_distances(embeddings, distance), positives, negatives, margin)
    with torch.no_grad():
        if mining == "random":
            far, near = (torch.rand(positives.shape, device=labels.device) for _ in range(2))
        else:
            far = near = pairwise_distances(embeddings, distance)
        positive = far.masked_fill(~positives, -torch.inf).argmax(1)
        negative = near.masked_fill(~negatives, torch.inf).argmin(1)
    # The gradient of these distances needs (B, D) memory, unlike that of all pairs.
    rows = prepare_embeddings(embeddings, distance)
    to_positive, to_negative = ((rows - rows[index]).square().sum(1) for index in (positive, negative))
    return _mean((to_positive - to_negative + margin).relu(), positives.any(1) & negatives.any(1))


def _semi_hard(distances, positives, negatives, margin):
    """Mean loss of the semi-hard triplets: all negatives of an anchor are sorted once for its positives."""
    with torch.no_grad():
        values, order = distances.masked_fill(~negatives, torch.inf).sort(1)
        nearest = torch.searchsorted(values, distances, right=True).clamp_(max=len(distances) - 1)
        negative = order.gather(1, nearest)
        gap = values.gather(1, nearest) - distances
        # A margin of 0 leaves no triplet: the mean is then 0.
        mined = positives & (gap > 0) & (gap < margin)
    return _mean(distances - distances.gather(1, negative) + margin, mined)


def contrastive_loss(
    embeddings: torch.Tensor, labels: torch.Tensor, margin: float, distance: str = "squared"
) -> torch.Tensor:
    """Return the contrastive loss of all pairs of a batch (Hadsell et al., 2006, equation 4).

    It is the mean of d^2 over the pairs of one class, plus the mean of max(margin - d, 0)^2 over the pairs
    of two classes, so that the many negative pairs don't outweigh the few positive ones; the paper's factor
    of 1/2 is left out. Arguments as in `triplet_loss`; d is the squared distance.
    """
    distances = pairwise_distances(embeddings, distance)
    positives, negatives = pair_masks(labels)
    return _mean(distances.square(), positives) + _mean((margin - distances).relu().square(), negatives)


class PairLoss(nn.Module):
    """Are two images of one class? Binary cross-entropy of pairs, after Koch et al. (2015), in nats.

    The logit is a bias minus the L1 distance of two embeddings (B, D) with a weight above 0 for each of the D
    `dimensions`; bias and weights are learnt. As in `contrastive_loss`, the pairs of one class count as much
    as the many of two classes.
    """

    def __init__(self, dimensions: int):
        super().__init__()
        self.log_weights = nn.Parameter(torch.zeros(dimensions))
        self.bias = nn.Parameter(torch.tensor(dimensions**0.5 / 2))  # about half the distance of directions

    @property
    def weights(self) -> torch.Tensor:
        return self.log_weights.exp()

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        rows = embeddings * self.weights
        logits = self.bias - torch.cdist(rows, rows, p=1)
        positives, negatives = pair_masks(labels)
        return (_mean(F.softplus(-logits), positives) + _mean(F.softplus(logits), negatives)) / 2


class ArcFace(nn.Module):
    """The additive angular margin loss (Deng et al., 2019, equation 3), in nats.

    It is the cross-entropy of cosine / temperature between an embedding (B, D) and the learnt centre of each
    class; the angle to the centre of the own class is first increased by `margin` radians. dimensions: D.
    classes: their number; the labels (B,) are below it.
    """

    def __init__(self, dimensions: int, classes: int, margin: float, temperature: float):
        super().__init__()
        self.centres = nn.Parameter(torch.randn(classes, dimensions))
        self.margin, self.temperature = margin, temperature

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(embeddings.device.type, enabled=False):
            cosines = F.normalize(embeddings, dim=1) @ F.normalize(self.centres, dim=1).T
        own = cosines.gather(1, labels.unsqueeze(1))
        cosine, sine = math.cos(self.margin), math.sin(self.margin)
        moved = own * cosine - _root((1 - own.square()).clamp(min=0)) * sine
        # Beyond 180 degrees the cosine would rise again: there it falls on, by a constant.
        moved = torch.where(own > -cosine, moved, own - self.margin * sine)
        return F.cross_entropy(cosines.scatter(1, labels.unsqueeze(1), moved) / self.temperature, labels)


@torch.no_grad()
def triplet_metrics(
    embeddings: torch.Tensor, labels: torch.Tensor, margin: float, distance: str
) -> dict[str, torch.Tensor]:
    """Return what to watch beside the loss: a dict of scalars.

    active_triplets: share of all triplets of the batch with a loss at this margin, mined or not.
    positive_distance, negative_distance: means over the pairs. embedding_norm: mean length before scaling.
    """
    distances = pairwise_distances(embeddings, distance)
    positives, negatives = pair_masks(labels)
    ordered = distances.masked_fill(~negatives, torch.inf).sort(1).values
    active = torch.searchsorted(ordered, distances + margin)  # negatives nearer than the positive + margin
    triplets = (positives.sum(1) * negatives.sum(1)).sum()
    return {
        "active_triplets": (active * positives).sum() / triplets.clamp(min=1),
        "positive_distance": _mean(distances, positives),
        "negative_distance": _mean(distances, negatives),
        "embedding_norm": embeddings.float().norm(dim=1).mean(),
    }


def _mean(values, mask):
    """Mean of the values where the mask is true; 0 when it is true nowhere."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def _root(squares):
    """Square root whose gradient at 0 is 0."""
    zero = squares == 0
    return torch.where(zero, 0, torch.where(zero, 1, squares).sqrt())
