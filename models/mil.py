"""Multiple instance learning: one network, an encoder and a head, with an exchangeable pooling.

A bag is a set of instances with one label. The encoder turns every instance i into features h_i, the head is
linear, and the pooling makes the bag's logit z from both:

    mean, max                        z = head(pool(h))           embedding level
    instance-mean, instance-max      z = pool(head(h))           instance level
    attention, gated-attention       z = head(sum_i a_i h_i)     Ilse, Tomczak and Welling (2018)
    loss-attention                   the same, with a_i from the head itself: Shi, Xing et al. (2020)

Bags of different sizes come as a mask (B, N) and the instances that are really there.
"""

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from models.classifiers import ENCODERS, EncoderParts, create
from models.layers import Dropout

BagLogits = tuple[torch.Tensor, torch.Tensor]  # logits (B, classes) and attention (B, N)


class Pooled(NamedTuple):
    """What the network says of B bags, padded to N instances; all float32.

    logits: (B,), the log-odds of a positive bag. attention: (B, N), the share of every instance in its bag's
    logit: at least 0, sums to one, 0 on padding. instances: (B, N), log-odds of each instance taken as a
    bag of its own; meaningless on padding.
    """

    logits: torch.Tensor
    attention: torch.Tensor
    instances: torch.Tensor


class MIL(nn.Module):
    """Bags to log-odds. encoder: (n, 1, 28, 28) -> (n, num_features). method: a key of POOLINGS.

    dropout: share of the features that is dropped in training, before pooling and head. standardise: give
    every feature mean 0 and variance 1 over the instances, for encoders whose features have any scale.
    """

    def __init__(self, encoder: nn.Module, method: str, dropout: float = 0.0, standardise: bool = False):
        super().__init__()
        self.encoder, self.method = encoder, method
        features = cast(int, encoder.num_features)
        self.scale = nn.BatchNorm1d(features, affine=False) if standardise else nn.Identity()
        self.dropout = Dropout(dropout)
        self.pooling = POOLINGS[method](features)
        self.head = nn.Linear(features, self.pooling.classes)
        self.frozen = False

    def freeze(self) -> None:
        """Keep the encoder as it is: neither its weights nor its statistics move any more."""
        self.frozen = True
        self.encoder.requires_grad_(False).eval()

    def parameter_groups(self, encoder_scale: float) -> list[dict]:
        """Return parameter groups for `fit`: the encoder learns at this share of the learning rate."""
        encoder = list(self.encoder.parameters())
        own = {id(p) for p in encoder}
        others = [p for p in self.parameters() if id(p) not in own]
        return [{"params": others}, {"params": encoder, "lr_scale": encoder_scale}]

    def train(self, mode: bool = True) -> "MIL":
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, images: torch.Tensor, mask: torch.Tensor) -> Pooled:
        """The Pooled of B bags.

        mask: (B, N) bool; best on the CPU, where it was made: then no CUDA device is waited for. images:
        (B, N, 1, 28, 28) padded, or (n, 1, 28, 28), the real instances alone, in the order of the mask.
        The encoder sees the real instances only. Raises ValueError for a bag without any.
        """
        if not mask.any(1).all():
            raise ValueError("a bag without a single instance has no label: every row of the mask needs one")
        if images.ndim == 5:
            images = images[mask.to(images.device)]
        features = self.dropout(self.scale(self.encoder(images).float()))
        # Pooling is cheap: in float32, so that two bags are told apart when both are nearly certain.
        with torch.autocast(images.device.type, enabled=False):
            features = pad(features, mask)
            mask = mask.to(images.device, non_blocking=True)
            logits, attention = self.pooling(features, mask, self.head)
            return Pooled(log_odds(logits), attention, log_odds(self.head(features)))


def pad(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(n, D) values of the instances that are there to (B, N, D), zeros on the padding of (B, N)."""
    places = mask.flatten().nonzero().squeeze(1).to(values.device, non_blocking=True)
    padded = values.new_zeros(mask.numel(), values.shape[1])
    return padded.index_copy(0, places, values).view(*mask.shape, -1)


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    """(..., 1) are log-odds already; of (..., 2) class logits it is the difference."""
    return logits[..., 0] if logits.shape[-1] == 1 else logits[..., 1] - logits[..., 0]


def weigh(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """sum_i a_i h_i: (B, N, D) and (B, N) to (B, D)."""
    return torch.bmm(weights.unsqueeze(1), features).squeeze(1)


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Softmax of (B, N) over the instances that are there; exactly 0 elsewhere."""
    return scores.masked_fill(~mask, -torch.inf).softmax(1)


def uniform(mask: torch.Tensor) -> torch.Tensor:
    return mask / mask.sum(1, keepdim=True)


class Pooling(nn.Module):
    """features (B, N, D), mask (B, N) and the head -> the bags' logits (B, classes), attention (B, N)."""

    classes = 1  # outputs of the head: one logit, or one for each class

    def __init__(self, num_features: int):
        super().__init__()


class Mean(Pooling):
    def forward(self, features: torch.Tensor, mask: torch.Tensor, head: nn.Module) -> BagLogits:
        weights = uniform(mask)
        return head(weigh(features, weights)), weights


class Max(Pooling):
    """The greatest value of every feature; the attention is the share of features that an instance gives."""

    def forward(self, features: torch.Tensor, mask: torch.Tensor, head: nn.Module) -> BagLogits:
        features = features.masked_fill(~mask.unsqueeze(2), -torch.inf)
        greatest, giver = features.max(1)
        given = torch.zeros_like(mask, dtype=features.dtype)
        given.scatter_add_(1, giver, torch.ones_like(greatest))
        return head(greatest), given / features.shape[2]


class Attention(Pooling):
    """a = softmax_i(w . tanh(V h_i)), 128 hidden units: equation 8 of Ilse et al. (2018)."""

    def __init__(self, num_features: int, hidden: int = 128):
        super().__init__(num_features)
        self.hidden = nn.Linear(num_features, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, features: torch.Tensor, mask: torch.Tensor, head: nn.Module) -> BagLogits:
        weights = masked_softmax(self.score(torch.tanh(self.hidden(features))).squeeze(2), mask)
        return head(weigh(features, weights)), weights


class GatedAttention(Attention):
    """a = softmax_i(w . (tanh(V h_i) * sigmoid(U h_i))): equation 9 of Ilse et al. (2018)."""

    def __init__(self, num_features: int, hidden: int = 128):
        super().__init__(num_features, hidden)
        self.gate = nn.Linear(num_features, hidden)

    def forward(self, features: torch.Tensor, mask: torch.Tensor, head: nn.Module) -> BagLogits:
        gated = torch.tanh(self.hidden(features)) * torch.sigmoid(self.gate(features))
        weights = masked_softmax(self.score(gated).squeeze(2), mask)
        return head(weigh(features, weights)), weights


class LossAttention(Pooling):
    """a_i = sum_c exp(l_ic) / sum_j sum_c exp(l_jc), with l_i = head(h_i) of two classes (Shi et al., 2020).

    The head's own parameters weigh the instances: an instance that speaks for either class counts, and the
    same head then reads the bag, sum_i a_i h_i. Its loss has a second term, see `mil_loss`. Left out is the
    paper's third, the consistency cost between successive epochs, as in the authors' code for bags.
    """

    classes = 2

    def forward(self, features: torch.Tensor, mask: torch.Tensor, head: nn.Module) -> BagLogits:
        weights = masked_softmax(head(features).logsumexp(2), mask)
        return head(weigh(features, weights)), weights


class InstanceMean(Pooling):
    def forward(self, features: torch.Tensor, mask: torch.Tensor, head: nn.Module) -> BagLogits:
        weights = uniform(mask)
        return weigh(head(features), weights), weights


class InstanceMax(Pooling):
    """The bag is as positive as its most positive instance, which gets all of the attention."""

    def forward(self, features: torch.Tensor, mask: torch.Tensor, head: nn.Module) -> BagLogits:
        greatest, where = head(features).squeeze(2).masked_fill(~mask, -torch.inf).max(1, keepdim=True)
        return greatest, torch.zeros_like(mask, dtype=features.dtype).scatter_(1, where, 1.0)


POOLINGS = {
    "attention": Attention,
    "gated-attention": GatedAttention,
    "loss-attention": LossAttention,
    "mean": Mean,
    "max": Max,
    "instance-mean": InstanceMean,
    "instance-max": InstanceMax,
}


def lenet_mil() -> EncoderParts:
    """The encoder of Ilse et al. (2018): conv 20@5x5, conv 50@5x5, fc 500.

    Pooling before ReLU gives the same as after it, for less.
    """
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(4 * 4 * 50, 500),
        nn.ReLU(inplace=True),
    ), 500


MIL_ENCODERS = {"lenet-mil": lenet_mil, **ENCODERS}


def create_mil(
    encoder: str = "lenet-mil", method: str = "attention", dropout: float = 0.0, standardise: bool = False
) -> MIL:
    """A MIL network with a fresh encoder by name, a key of MIL_ENCODERS. ValueError for unknown names."""
    if method not in POOLINGS:
        raise ValueError(f"unknown method {method!r}: choose from {', '.join(POOLINGS)}")
    return MIL(create(encoder, 0, MIL_ENCODERS), method, dropout, standardise)


def mil_loss(pooled: Pooled, labels: torch.Tensor, method: str, instance_weight: float = 1.0) -> torch.Tensor:
    """Mean binary cross-entropy of the bags' logits against (B,) labels in {0., 1.}.

    "loss-attention" adds instance_weight * mean_B sum_i a_i CE(instance i, the bag's label), the paper's
    regularisation term, which pushes the instances that count to the label of their bag.
    """
    loss = F.binary_cross_entropy_with_logits(pooled.logits, labels)
    if method != "loss-attention" or not instance_weight:
        return loss
    targets = labels.unsqueeze(1).expand_as(pooled.instances)
    each = F.binary_cross_entropy_with_logits(pooled.instances, targets, reduction="none")
    return loss + instance_weight * (pooled.attention * each).sum(1).mean()
