"""Metric learning: losses over a batch of embeddings, and the miners of the triplet loss.

Notation of the literature: an anchor, a positive of its class and a negative of another class form a
triplet. Shapes are static and nothing waits for the device, so that a training step never stalls. No
function builds a (B, B, B) tensor.
"""

import torch
import torch.nn.functional as F
from torch import nn

from models.cnn import ENCODERS, EncoderParts

MINERS = ("random", "batch-all", "batch-hard", "semi-hard")
LOSSES = ("triplet", "contrastive", "supcon")
# What a distance is: of the embeddings or of their directions (scaled to length 1), squared or not.
DISTANCES = ("euclidean", "squared", "unit-euclidean", "unit-squared")


def siamese() -> EncoderParts:
    """The network of the original Siamese project, for one channel: an embedding of 128 numbers.

    Three double convolutions of 64-64, 64-128 and 256-256 channels, each with a pooling; dense layers of
    2048, 512 and 128.
    """

    def double(inputs, middle, outputs, kernel, stride):
        first = nn.Conv2d(inputs, middle, kernel, stride, kernel // 2)
        second = nn.Conv2d(middle, outputs, 3, padding=1)
        return [first, nn.ReLU(inplace=True), second, nn.MaxPool2d(2), nn.ReLU(inplace=True)]

    encoder = nn.Sequential(
        *double(1, 64, 64, 7, 2),
        *double(64, 64, 128, 3, 1),
        *double(128, 256, 256, 3, 2),
        nn.Flatten(),
        nn.Linear(256, 2048),
        nn.ReLU(inplace=True),
        nn.Linear(2048, 512),
        nn.ReLU(inplace=True),
        nn.Linear(512, 128),
    )
    return encoder, 128


TRIPLET_ENCODERS = {"siamese": siamese, **ENCODERS}


def pairwise_distances(embeddings: torch.Tensor, distance: str = "euclidean") -> torch.Tensor:
    """Return the distances (B, B) float32 of all pairs of embeddings (B, D).

    distance: one of DISTANCES. The gradient of a distance of zero is zero, not NaN.
    """
    rows = prepare_embeddings(embeddings, distance)
    with torch.autocast(rows.device.type, enabled=False):  # differences of squares need all digits
        norms = rows.square().sum(1)
        squares = (norms.unsqueeze(1) + norms - 2 * rows @ rows.T).clamp(min=0)
        return squares if distance.endswith("squared") else _root(squares)


def prepare_embeddings(embeddings: torch.Tensor, distance: str) -> torch.Tensor:
    """Return embeddings (B, D) in float32 at least, scaled to length 1 for the "unit-" distances."""
    if distance not in DISTANCES:
        raise ValueError(f"unknown distance {distance!r}: choose from {', '.join(DISTANCES)}")
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings must be (images, dimensions), not {tuple(embeddings.shape)}")
    rows = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    return F.normalize(rows, dim=1) if distance.startswith("unit-") else rows


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
    batch-all: all triplets; the mean is over those with a loss (Hermans et al., 2017, equation 6).

    A batch without a triplet gives 0, with a gradient of zeros. Raises ValueError for a negative margin or
    an unknown name.
    """
    if margin < 0:
        raise ValueError(f"the margin must be at least 0, not {margin}")
    if mining not in MINERS:
        raise ValueError(f"unknown mining {mining!r}: choose from {', '.join(MINERS)}")
    if mining in ("random", "batch-hard"):
        mine = _mine_random if mining == "random" else _mine_hard
        positive, negative, valid = mine(embeddings, labels, distance)
        to_positive, to_negative = distances_to(embeddings, (positive, negative), distance)
        return _mean((to_positive - to_negative + margin).relu(), valid)
    distances = pairwise_distances(embeddings, distance)
    positives, negatives = pair_masks(labels)
    if mining == "semi-hard":
        return _semi_hard(distances, positives, negatives, margin)
    return _batch_all(distances, positives, negatives, margin)


def contrastive_loss(
    embeddings: torch.Tensor, labels: torch.Tensor, margin: float, distance: str = "euclidean"
) -> torch.Tensor:
    """Return the contrastive loss of all pairs of a batch (Hadsell et al., 2006, equation 4).

    It is the mean of d^2 over the pairs of one class, plus the mean of max(margin - d, 0)^2 over the pairs
    of two classes, so that the many negative pairs don't outweigh the few positive ones. The paper's factor
    of 1/2 is left out. With a squared distance d is the square. Arguments, zero and errors as in
    `triplet_loss`.
    """
    if margin < 0:
        raise ValueError(f"the margin must be at least 0, not {margin}")
    distances = pairwise_distances(embeddings, distance)
    positives, negatives = pair_masks(labels)
    return _mean(distances.square(), positives) + _mean((margin - distances).relu().square(), negatives)


def pair_masks(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which pairs of labels (B,) are positive (two images of one class) and negative: (B, B) bool."""
    same = labels.unsqueeze(1) == labels
    negatives = ~same
    return same.fill_diagonal_(False), negatives


@torch.no_grad()
def triplet_metrics(
    embeddings: torch.Tensor, labels: torch.Tensor, margin: float, distance: str
) -> dict[str, torch.Tensor]:
    """Return what to watch beside the loss: a dict of scalars.

    active_triplets: share of all triplets of the batch with a loss at this margin, whatever is mined.
    positive_distance, negative_distance: means over the pairs. embedding_norm: mean length before any
    scaling. All distances near zero mean that the embedding has collapsed.
    """
    distances = pairwise_distances(embeddings, distance)
    positives, negatives = pair_masks(labels)
    active, _ = _nearer_negatives(distances, negatives, distances + margin)
    triplets = (positives.sum(1) * negatives.sum(1)).sum()
    return {
        "active_triplets": (active * positives).sum() / triplets.clamp(min=1),
        "positive_distance": _mean(distances, positives),
        "negative_distance": _mean(distances, negatives),
        "embedding_norm": embeddings.float().norm(dim=1).mean(),
    }


# --- Mining: which triplets ---


def distances_to(
    embeddings: torch.Tensor, partners: tuple[torch.Tensor, ...], distance: str
) -> list[torch.Tensor]:
    """Return the distance of every embedding (B, D) to its partner, (B,), for each of the index tensors (B,).

    The gradient needs (B, D) memory, unlike that of all pairs.
    """
    rows = prepare_embeddings(embeddings, distance)
    squares = [(rows - rows[index]).square().sum(1) for index in partners]
    return squares if distance.endswith("squared") else [_root(square) for square in squares]


@torch.no_grad()
def _mine_hard(embeddings, labels, distance):
    """Return indices of the farthest positive and the nearest negative, and which anchors have both: (B,)."""
    rows = prepare_embeddings(embeddings, distance)
    with torch.autocast(rows.device.type, enabled=False):
        # Up to a constant per anchor the squared distance; its order is all that is needed.
        closeness = torch.addmm(rows.square().sum(1), rows, rows.T, alpha=-2)
    return _extremes(closeness, closeness, labels)


@torch.no_grad()
def _mine_random(embeddings, labels, distance):
    """Return indices of a random positive and a random negative, and which anchors have both: (B,)."""
    shape, device = (len(labels), len(labels)), labels.device
    return _extremes(torch.rand(shape, device=device), torch.rand(shape, device=device), labels)


def _extremes(for_positive, for_negative, labels):
    """Per row the positive of the highest and the negative of the lowest score, and whether both exist."""
    same = labels.unsqueeze(1) == labels
    count = same.sum(1)
    negative = torch.where(same, torch.inf, for_negative).argmin(1)
    positive = torch.where(same.fill_diagonal_(False), for_positive, -torch.inf).argmax(1)
    return positive, negative, (count > 1) & (count < len(labels))


def _nearer_negatives(distances, negatives, limits):
    """For each limit, a row's (B, M), count the row's negatives at a smaller distance.

    Returns the counts (B, M) and the sorted distances (B, B), with infinity in place of the other images.
    """
    ordered = distances.masked_fill(~negatives, torch.inf).sort(1).values
    return torch.searchsorted(ordered.detach(), limits.detach().contiguous()), ordered


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


def _batch_all(distances, positives, negatives, margin):
    """Mean loss over all triplets that have one.

    The sum over the negatives nearer than d(a, p) + margin is their number times that limit, less a prefix
    sum of the sorted distances: so no triplet is listed.
    """
    limits = distances + margin
    active, ordered = _nearer_negatives(distances, negatives, limits)
    prefix = F.pad(ordered.masked_fill(ordered == torch.inf, 0).cumsum(1), (1, 0))
    sums = active * limits - prefix.gather(1, active)
    return torch.where(positives, sums, 0).sum() / (active * positives).sum().clamp(min=1)


def _mean(values, mask):
    """Mean of the values where the mask is true, 0 when it is true nowhere; it may be without a gradient."""
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def _root(squares):
    """Square root whose gradient at 0 is 0."""
    zero = squares == 0
    return torch.where(zero, 0, torch.where(zero, 1, squares).sqrt())
