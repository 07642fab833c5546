"""Contrastive learning: an encoder with a projection head, and the losses of SimCLR and SupCon."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import hidden_layers

HEADS = ("mlp", "mlp3", "mlp-plain", "linear", "none")


class ContrastiveModel(nn.Module):
    """An encoder and a projection head: images (B, 1, 28, 28) to projections (B, D), not normalised.

    The head is discarded after pre-training (Chen et al., 2020); the features below it are better. A loss
    with parameters of its own is in `loss`.
    """

    loss: Any

    def __init__(self, encoder: nn.Module, head: str = "mlp", dimensions: int = 128):
        super().__init__()
        self.encoder = encoder
        features = cast(int, encoder.num_features)
        self.head = projection_head(head, features, dimensions)
        self.dimensions = features if head == "none" else dimensions

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images))


def projection_head(kind: str, inputs: int, outputs: int) -> nn.Module:
    """Create a projection head: (B, inputs) -> (B, outputs).

    kind: "mlp", as in SimCLR, with one hidden layer as wide as the features and batch norm; "mlp3", with two
    of them, as in SimCLRv2 (Chen et al., 2020b); "mlp-plain", the first without batch norm, as in MoCo v2;
    "linear"; or "none", the identity.
    """
    if kind == "none":
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(inputs, outputs, bias=False)
    if kind == "mlp-plain":
        return nn.Sequential(nn.Linear(inputs, inputs), nn.ReLU(inplace=True), nn.Linear(inputs, outputs))
    return nn.Sequential(*hidden_layers(inputs, 2 if kind == "mlp3" else 1), nn.Linear(inputs, outputs))


def nt_xent(features: Tensor, temperature: float) -> Tensor:
    """Return the normalised temperature-scaled cross-entropy, equation 1 of Chen et al. (2020), in nats.

    features: (B, V, D), V >= 2 views of B images, of any length; the loss is computed in float32 or float64.
    Every view is an anchor. Its positives are the other views of its image, averaged; its negatives are all
    views of other images. temperature: above 0. With all features equal (chance) it is log(V * B - 1).
    """
    features = _unit(features)
    positives = torch.full((1, 1), features.shape[1] - 1, device=features.device)
    return _mean_loss(features, features.sum(1, keepdim=True), positives, temperature)


def supcon(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss, L_out in equation 2 of Khosla et al. (2020), in nats.

    features: (B, V, D), V >= 1 views as in `nt_xent`. labels: (B,) integers. The positives of an anchor are
    all other views with its label. Anchors without positives are left out of the mean; a batch without any
    positives gives 0. With all labels different it equals `nt_xent`. The paper's factor T/T0 is left out.
    """
    features = _unit(features)
    # A class goes by the first image that has it: labels.unique would wait for the device.
    same = labels.unsqueeze(1) == labels
    classes = same.int().argmax(1)
    sums = features.new_zeros(len(labels), features.shape[2]).index_add(0, classes, features.sum(1))
    positives = same.sum(1, keepdim=True) * features.shape[1] - 1
    return _mean_loss(features, sums[classes].unsqueeze(1), positives, temperature)


def _unit(features):
    return F.normalize(features if features.dtype == torch.float64 else features.float(), dim=-1)


def _mean_loss(features, class_sums, positives, temperature):
    """Return the mean over anchors of log sum_a exp(z_i.z_a / t) - mean_p z_i.z_p / t.

    The mean over positives needs no (N, N) mask: it is the product of the anchor with the sum of its class,
    minus the anchor itself. class_sums broadcasts to (B, V, D); positives, their number, to (B, V).
    """
    with torch.autocast(features.device.type, enabled=False):  # bf16 has 3 digits: too few for exp(z / t)
        flat = features.flatten(0, 1)
        similarity = (flat / temperature) @ flat.T
        similarity.fill_diagonal_(-torch.inf)
        away = similarity.logsumexp(1).view(features.shape[:2])
        positives = positives.expand_as(away)
        together = (features * (class_sums - features)).sum(2) / temperature / positives.clamp(min=1)
        anchors = positives > 0
        return torch.where(anchors, away - together, 0).sum() / anchors.sum().clamp(min=1)


@torch.no_grad()
def contrastive_metrics(features: Tensor) -> dict[str, Tensor]:
    """Return scalars to watch beside the loss, from the first two views of (B, V, D) features.

    contrastive_accuracy: share of views whose nearest other view is their partner. alignment: mean squared
    distance of partners. uniformity: log of the mean of exp(-2 d^2) over all pairs (Wang and Isola, 2020).
    """
    features = _unit(features[:, :2])
    with torch.autocast(features.device.type, enabled=False):
        flat = features.flatten(0, 1)
        cosine = flat @ flat.T
        cosine.fill_diagonal_(-torch.inf)
        partner = torch.arange(len(flat), device=flat.device) ^ 1
        hit = (cosine.argmax(1) == partner).float().mean()
        alignment = (features[:, 0] - features[:, 1]).square().sum(1).mean()
        pairs = len(flat) * (len(flat) - 1)
        uniformity = ((4 * cosine - 4).exp().sum() / pairs).log()  # d^2 = 2 - 2 cos; exp(-inf) = 0
    return {"contrastive_accuracy": hit, "alignment": alignment, "uniformity": uniformity}
