"""Frozen features of an encoder and classifiers on them: weighted k-NN and the linear probe."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data import Data, ImageSet, in_order
from models import Classifier
from utils.training.forward import forward_all

# Chosen on validation images.
NEIGHBOURS, KNN_TEMPERATURE = 5, 0.1
DECAY = 1e-3


class Features(NamedTuple):
    """Features (N, D) float32 and labels (N,) of the three splits, on the device; the number of classes."""

    train: Tensor
    train_labels: Tensor
    val: Tensor
    val_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int = 10


def encode(encoder: nn.Module, data: Data, train_idx: Tensor, val_idx: Tensor, precision: str) -> Features:
    """Compute the Features of an encoder in eval mode. data: (train, test) ImageSets."""
    parts = in_order(data[0], train_idx), in_order(data[0], val_idx), in_order(data[1])
    train, val, test = (forward_all(encoder, part, precision) for part in parts)
    return Features(*train, *val, *test, len(data[0].classes))


def neighbours(queries: Tensor, reference: Tensor, k: int = NEIGHBOURS) -> tuple[Tensor, Tensor]:
    """Return cosines and indices, (N, k), nearest first, of the rows of `reference` nearest to each query."""
    reference, k = F.normalize(reference, dim=1), min(k, len(reference))
    nearest = [(F.normalize(part, dim=1) @ reference.T).topk(k) for part in queries.split(1000)]
    return torch.cat([part.values for part in nearest]), torch.cat([part.indices for part in nearest])


def knn(reference: Tensor, labels: Tensor, queries: Tensor, k: int = NEIGHBOURS, classes: int = 10) -> Tensor:
    """Classify queries (N, D) by a weighted vote of the k nearest references (Wu et al., 2018).

    reference: (M, D) features. labels: (M,) classes, or (M, classes) probabilities. The vote of a neighbour
    is exp(cosine / KNN_TEMPERATURE). Returns probabilities (N, classes).
    """
    known = F.one_hot(labels, classes) if labels.ndim == 1 else labels
    return vote(*neighbours(queries, reference, k), known)


def vote(cosine: Tensor, nearest: Tensor, known: Tensor) -> Tensor:
    """Let the nearest references (N, k), see `neighbours`, vote: known (M, classes) -> (N, classes)."""
    votes = known[nearest] * ((cosine - 1) / KNN_TEMPERATURE).exp().unsqueeze(2)
    return F.normalize(votes.sum(1), p=1, dim=1)


class Probe(nn.Module):
    """Multinomial logistic regression on features standardised by the given mean and deviation, (D,) each."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, classes: int = 10):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.linear = nn.Linear(len(mean), classes).to(mean.device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear((features - self.mean) / self.std)


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of every feature; a constant feature gets deviation 1."""
    std, mean = torch.std_mean(features, 0)
    return mean, torch.where(std > 1e-6, std, 1.0)


def common_scale(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return all means and one deviation, the root mean square: features that hardly vary stay small."""
    std, mean = torch.std_mean(features, 0)
    return mean, std.square().mean().sqrt().clamp(min=1e-6).expand_as(std)


def fit_probe(
    features: Tensor, labels: Tensor, scale: tuple[Tensor, Tensor], decay: float = DECAY, classes: int = 10
) -> Probe:
    """Fit a Probe by L-BFGS: the least mean cross-entropy plus decay / 2 * |weights|^2.

    features: (N, D). labels: (N,). scale: mean and deviation (D,), also of unlabelled features.
    """
    probe = Probe(*scale, classes)
    inputs = (features - probe.mean) / probe.std
    how: dict = {"max_iter": 300, "history_size": 10, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS(probe.linear.parameters(), **how)

    def closure():
        optimizer.zero_grad()
        penalty = decay / 2 * probe.linear.weight.square().sum()
        loss = F.cross_entropy(probe.linear(inputs), labels) + penalty
        loss.backward()
        return loss

    optimizer.step(closure)
    return probe.requires_grad_(False)


def classifier(encoder: nn.Module, probe: Probe, length: float | Tensor = 1.0) -> Classifier:
    """Return the encoder under a head that equals the probe, to be fine-tuned (Kumar et al., 2022).

    length: of the encoder's features, where the probe was fitted to features of length 1.
    """
    weight = probe.linear.weight / (length * probe.std)
    bias = probe.linear.bias - weight @ (length * probe.mean)
    model = Classifier(encoder, len(probe.mean), len(bias)).to(bias.device)
    model.head.load_state_dict({"weight": weight, "bias": bias})
    return model


def probed(encoder: nn.Module, images: ImageSet, indices: Tensor) -> Classifier:
    """Return an encoder in eval mode under a linear probe that is fitted to the images at `indices`."""
    features, labels = forward_all(encoder, in_order(images, indices))
    length = features.norm(dim=1).mean()
    features = F.normalize(features, dim=1)
    probe = fit_probe(features, labels, common_scale(features), classes=len(images.classes))
    return classifier(encoder, probe, length)


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """Return the share of rows (N, classes) whose largest entry is at the label (N,)."""
    return float((outputs.argmax(1) == labels).float().mean())


def frozen_scores(f: Features) -> tuple[dict[str, float], Probe]:
    """Score k-NN and the linear probe with all training labels; return {"val_knn_accuracy", ...}, probe."""
    probe = fit_probe(f.train, f.train_labels, statistics(f.train), classes=f.classes)
    scores = {}
    for split, features, labels in (("val", f.val, f.val_labels), ("test", f.test, f.test_labels)):
        votes = knn(f.train, f.train_labels, features, classes=f.classes)
        scores[f"{split}_knn_accuracy"] = accuracy(votes, labels)
        scores[f"{split}_linear_accuracy"] = accuracy(probe(features), labels)
    return scores, probe
