"""Networks that are trained together, to be the members of an ensemble."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from models.cnn import Classifier


class Fusion(nn.Module):
    """Networks of any kind whose mean logits (B, classes) are trained as one classifier."""

    def __init__(self, networks: Iterable[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([network(images) for network in self.networks]).mean(0)


class Boosted(Fusion):
    """Networks whose outputs add up to the logits (B, classes); a frozen one stays in eval mode."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return len(self.networks) * super().forward(images)

    def train(self, mode: bool = True) -> "Boosted":
        super().train(mode)
        for network in self.networks:
            network.train(mode and any(p.requires_grad for p in network.parameters()))
        return self


def boosting_losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the squared error (M,) of each of M networks against what those before it left undone.

    outputs: (M, B, C). targets: (B, C), probabilities. That is targets - softmax(sum of the outputs before),
    the negative gradient of the cross-entropy of the sum (Friedman, 2001). Summed over classes, mean over
    images. The sum has a gradient, too, where networks learn together (soft gradient boosting, Feng et al.,
    2020): as in TorchEnsemble.
    """
    before = outputs.cumsum(0) - outputs
    return (targets - before.softmax(2) - outputs).square().sum(2).mean(1)


class Separated(Fusion):
    """Two classifiers, and a discriminator that is shown features of both and says whether of one class.

    The discriminator is the logistic regression of |A a - B b|, for features a, b (B, D) of the two.
    """

    def __init__(self, networks: list[Classifier], width: int = 32):
        super().__init__(networks)
        features = networks[0].head.in_features
        self.maps = nn.ModuleList(nn.Linear(features, width) for _ in self.networks)
        self.same = nn.Linear(width, 1)

    def tell(
        self, features: list[torch.Tensor], labels: torch.Tensor, strength: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the discriminator's cross-entropy and accuracy on 2 B pairs.

        features: of the two networks, (B, D) each, of the same images. Half of the pairs are of one image,
        half of an image and the next of the batch. strength: the factor on the gradient that goes on to the
        networks, reversed (Ganin and Lempitsky, 2015). Above 0 they make the discriminator fail, so that
        their features are unlike; below 0 they help it.
        """
        a, b = (reverse(f.float(), strength) for f in features)
        same = torch.cat([torch.ones_like(labels), labels == labels.roll(1)]).float()
        mapped = self.maps[0](torch.cat([a, a])) - self.maps[1](torch.cat([b, b.roll(1, 0)]))
        logits = self.same(mapped.abs()).squeeze(1).float()
        right = (logits > 0) == (same > 0)
        return binary_cross_entropy_with_logits(logits, same), right.float().mean()


def reverse(x: torch.Tensor, strength: float) -> torch.Tensor:
    """Return x with its gradient multiplied by -strength."""
    return x.detach() * (1 + strength) - x * strength
