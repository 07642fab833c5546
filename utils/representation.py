"""What a frozen encoder's features are worth: k-NN, linear probe, clustering, label spreading."""

import torch
import torch.nn.functional as F
from torch import nn

# scikit-learn and scipy are imported where they are used: loading them takes seconds that --help needn't.

NEIGHBOURS, KNN_TEMPERATURE = 10, 0.1


def neighbours(queries, reference, k, chunk=1000):
    """Cosine similarities and indices of the k nearest rows of `reference`, both (N, k), nearest first."""
    reference = F.normalize(reference, dim=1)
    found = [(F.normalize(part, dim=1) @ reference.T).topk(k) for part in queries.split(chunk)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def knn(reference, labels, queries, k=NEIGHBOURS, temperature=KNN_TEMPERATURE, classes=10):
    """Class probabilities (N, classes) of a weighted vote of the k nearest by cosine (Wu et al., 2018).

    reference: (M, D) features with labels (M,). queries: (N, D). A neighbour's vote is exp(cosine /
    temperature). With fewer than k references all of them vote.
    """
    cosine, nearest = neighbours(queries, reference, min(k, len(reference)))
    votes = F.one_hot(labels[nearest], classes) * ((cosine - 1) / temperature).exp().unsqueeze(2)
    return F.normalize(votes.sum(1), p=1, dim=1)


class Probe(nn.Module):
    """Multinomial logistic regression on features standardised by given means and deviations."""

    def __init__(self, mean, std, classes=10):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.linear = nn.Linear(len(mean), classes).to(mean.device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features):
        return self.linear((features - self.mean) / self.std)


def fit_probe(features, labels, statistics, decay, steps=100):
    """The Probe with the least mean cross-entropy plus decay / 2 * |weights|^2, by L-BFGS.

    features: (N, D). labels: (N,). statistics: mean and standard deviation (D,) of unlabelled features.
    """
    probe = Probe(*statistics)
    inputs, weight = (features - probe.mean) / probe.std, probe.linear.weight
    optimizer = torch.optim.LBFGS(
        probe.linear.parameters(), max_iter=steps, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(probe.linear(inputs), labels) + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return probe.requires_grad_(False)


def statistics(features):
    """Mean and standard deviation of every feature; a constant feature keeps its scale."""
    std, mean = torch.std_mean(features, 0)
    return mean, torch.where(std > 1e-6, std, 1.0)


def accuracy(outputs, labels):
    """Share of rows whose largest output is at the label."""
    return float((outputs.argmax(1) == labels).float().mean())
