"""Multiple instance learning: an encoder, a linear head, and an exchangeable pooling between them.

A bag is a set of instances with one label. The encoder turns instance i into features h_i; pooling and head
compute the logit z of the bag:

    mean, max                        z = head(pool(h))           embedding level
    instance-mean, instance-max      z = pool(head(h))           instance level
    attention, gated-attention       z = head(sum_i a_i h_i)     Ilse, Tomczak and Welling (2018)
    loss-attention                   the same, with a_i from the head itself: Shi, Xing et al. (2020)

Bags of different lengths come as a mask (B, N) and the instances without padding.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from models.cnn import ENCODERS, EncoderParts, create
from models.layers import pooled_relu

BagOutputs = tuple[torch.Tensor, torch.Tensor]  # logits (B, classes), attention (B, N)


class Pooled(NamedTuple):
    """The outputs for B bags, padded to N instances; all float32.

    logits: (B,), the log-odds of a positive bag. attention: (B, N), the share of each instance in the logit
    of its bag, with sum 1. instances: (B, N), the log-odds of each instance as a bag of its own. With more
    than two kinds of bags, logits are (B, classes) and instances (B, N, classes), the logits of the classes.
    """

    logits: torch.Tensor
    attention: torch.Tensor
    instances: torch.Tensor


class MIL(nn.Module):
    """A network for bags. encoder: (n, 1, 28, 28) -> (n, num_features). method: one of POOLINGS.

    standardise: scale every feature to mean 0 and variance 1 over the instances, for encoders whose features
    have any scale. num_classes: of bags; more than two are for poolings with logits of their own, all but
    "instance-max".
    """

    def __init__(self, encoder: nn.Module, method: str, standardise: bool = False, num_classes: int = 2):
        super().__init__()
        self.encoder, self.method = encoder, method
        features = cast(int, encoder.num_features)
        self.scale = nn.BatchNorm1d(features, affine=False) if standardise else nn.Identity()
        self.pooling = POOLINGS[method](features)
        self.head = nn.Linear(features, num_classes if num_classes > 2 or method == "loss-attention" else 1)
        self.frozen = False

    def freeze(self) -> None:
        """Stop training the encoder: neither its weights nor its batch statistics change."""
        self.frozen = True
        self.encoder.requires_grad_(False).eval()

    def parameter_groups(self, encoder_scale: float) -> list[dict]:
        """Return parameter groups for `fit`: the encoder learns at this share of the learning rate."""
        others = [p for name, p in self.named_parameters() if not name.startswith("encoder.")]
        return [{"params": others}, {"params": list(self.encoder.parameters()), "lr_scale": encoder_scale}]

    def train(self, mode: bool = True) -> "MIL":
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the encoder; what comes after it depends on the lengths of the bags."""
        self.encoder.compile(*args, **kwargs)

    def forward(self, images: torch.Tensor, mask: torch.Tensor) -> Pooled:
        """Compute the outputs for B bags; ValueError for a bag without an instance.

        mask: (B, N) bool, on the CPU, so that the host never waits for the device. images: (n, 1, 28, 28),
        the instances without padding in the order of the mask.
        """
        if not mask.any(1).all():
            raise ValueError("a bag without a single instance has no label: every row of the mask needs one")
        index = places(mask, images.device)
        features = self.scale(self.encoder(images).float())
        # Pooling is cheap; float32 distinguishes two bags even when both are nearly certain.
        with torch.autocast(images.device.type, enabled=False):
            padded = features.new_zeros(mask.numel(), features.shape[1])
            features = padded.index_copy(0, index, features).view(*mask.shape, -1)
            mask = mask.to(images.device, non_blocking=True)
            logits, attention = self.pooling(features, mask, self.head)
            return Pooled(log_odds(logits), attention, log_odds(self.head(features)))


def places(mask: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return where the flattened mask, on the CPU, is true: an index for which the host needn't wait."""
    return mask.flatten().nonzero().squeeze(1).to(device, non_blocking=True)


def log_odds(logits: torch.Tensor) -> torch.Tensor:
    """Return log-odds (...) from log-odds (..., 1) or the logits of two classes (..., 2); of more these."""
    if logits.shape[-1] > 2:
        return logits
    return logits[..., 0] if logits.shape[-1] == 1 else logits[..., 1] - logits[..., 0]


class Pooling(nn.Module):
    """Maps features (B, N, D), mask (B, N) and head to logits (B, classes) and attention (B, N).

    The attention of "max" is the share of the features whose maximum an instance holds.
    """

    def __init__(self, method: str, num_features: int, hidden: int = 128):
        super().__init__()
        self.method = method
        if method in ("attention", "gated-attention"):
            self.hidden = nn.Linear(num_features, hidden)
            self.score = nn.Linear(hidden, 1)
        if method == "gated-attention":
            self.gate = nn.Linear(num_features, hidden)

    def forward(self, features: torch.Tensor, mask: torch.Tensor, head: nn.Module) -> BagOutputs:
        if self.method == "max":
            maxima, where = features.masked_fill(~mask.unsqueeze(2), -torch.inf).max(1)
            held = torch.zeros_like(mask, dtype=features.dtype)
            held.scatter_add_(1, where, torch.ones_like(maxima))
            return head(maxima), held / features.shape[2]
        if self.method == "instance-max":
            maximum, where = head(features).squeeze(2).masked_fill(~mask, -torch.inf).max(1, keepdim=True)
            return maximum, torch.zeros_like(mask, dtype=features.dtype).scatter_(1, where, 1.0)
        weights = self.weights(features, mask, head)
        if self.method == "instance-mean":
            return torch.bmm(weights.unsqueeze(1), head(features)).squeeze(1), weights
        return head(torch.bmm(weights.unsqueeze(1), features).squeeze(1)), weights

    def weights(self, features: torch.Tensor, mask: torch.Tensor, head: nn.Module) -> torch.Tensor:
        """Return the weights a_i of the instances (B, N), 0 on padding."""
        if self.method in ("mean", "instance-mean"):
            return mask / mask.sum(1, keepdim=True)
        if self.method == "loss-attention":
            # a_i ~ sum_c exp(l_ic), l_i = head(h_i) of two classes: clear evidence for either counts more.
            scores = head(features).logsumexp(2)
        else:  # equations 8 and 9 of Ilse et al. (2018)
            hidden = torch.tanh(self.hidden(features))
            if self.method == "gated-attention":
                hidden = hidden * torch.sigmoid(self.gate(features))
            scores = self.score(hidden).squeeze(2)
        return scores.masked_fill(~mask, -torch.inf).softmax(1)


METHODS = ("attention", "gated-attention", "loss-attention", "mean", "max", "instance-mean", "instance-max")
# The names that --method takes, each with what makes the pooling for D features.
POOLINGS: dict[str, Callable[[int], Any]] = {name: functools.partial(Pooling, name) for name in METHODS}


def lenet_mil() -> EncoderParts:
    """The encoder of Ilse et al. (2018), with ReLU after pooling: the same result with less work."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        *pooled_relu(),
        nn.Conv2d(20, 50, 5),
        *pooled_relu(),
        nn.Flatten(),
        nn.Linear(4 * 4 * 50, 500),
        nn.ReLU(inplace=True),
    ), 500


MIL_ENCODERS = {"lenet-mil": lenet_mil, **ENCODERS}


def create_mil(encoder: str, method: str, standardise: bool = False, num_classes: int = 2) -> MIL:
    """Create a MIL network with a fresh encoder, a key of MIL_ENCODERS; ValueError for unknown names."""
    if method not in POOLINGS:
        raise ValueError(f"unknown method {method!r}: choose from {', '.join(POOLINGS)}")
    return MIL(create(encoder, 0, MIL_ENCODERS), method, standardise, num_classes)


def mil_loss(pooled: Pooled, labels: torch.Tensor, method: str) -> torch.Tensor:
    """Return the mean cross-entropy of the bags' logits against labels (B,), 0., 1. or the kinds of bags.

    "loss-attention" adds mean_B sum_i a_i CE(instance i, label of the bag), the paper's regularisation. Its
    third term, a consistency cost between epochs, is left out, as in the authors' code for bags.
    """
    cross_entropy: Callable = F.binary_cross_entropy_with_logits
    if pooled.logits.ndim == 2:
        cross_entropy, labels = F.cross_entropy, labels.long()
    loss = cross_entropy(pooled.logits, labels)
    if method != "loss-attention":
        return loss
    targets = labels.unsqueeze(1).expand_as(pooled.attention)
    each = cross_entropy(pooled.instances.flatten(0, 1), targets.flatten(), reduction="none")
    each = each.view_as(pooled.attention)
    return loss + (pooled.attention * each).sum(1).mean()
