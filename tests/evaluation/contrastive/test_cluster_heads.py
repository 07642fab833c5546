"""Trained clusters: the loss against a loop, and heads that find clusters which are there."""

import math

import numpy as np
import pytest
import torch

from evaluation.contrastive import clustering
from evaluation.contrastive.clustering import cluster_head, match_clusters, neighbour_graph, neighbour_loss


def slow_loss(first, second, weight):
    """Equation 2 of Van Gansbeke et al. (2020), pair by pair."""
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (first, second))
    agreement = [-math.log(sum(a * b for a, b in zip(x, y, strict=True))) for x, y in zip(p, q, strict=True)]
    entropy = -sum(m * math.log(m) for m in p.mean(0))
    return sum(agreement) / len(agreement) - weight * entropy


@pytest.mark.parametrize("weight", [0.0, 5.0])
def test_the_loss_equals_a_loop_over_pairs(weight):
    first, second = torch.randn(2, 12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = slow_loss(first.numpy(), second.numpy(), weight)
    assert float(neighbour_loss(first, second, weight)) == pytest.approx(expected, abs=1e-10)


def test_one_cluster_for_everything_is_worse_than_using_all():
    same = torch.tensor([[9.0, 0, 0]] * 6)
    spread = 9 * torch.eye(3).repeat(2, 1)
    assert neighbour_loss(same, same, 5.0) > neighbour_loss(spread, spread, 5.0) + 5


def test_heads_find_clusters_and_the_seed_decides(monkeypatch):
    for name, value in {"HEADS": 3, "HEAD_STEPS": 100, "HEAD_BATCH": 128, "HEAD_RATE": 0.05}.items():
        monkeypatch.setattr(clustering, name, value)
    generator = torch.Generator().manual_seed(1)
    truth = torch.arange(300) % 3
    features = 4 * torch.eye(5)[truth] + 0.3 * torch.randn(300, 5, generator=generator)
    graph = neighbour_graph(features, 5)
    head = cluster_head(features, graph, clusters=3, seed=0)
    found = head(features).argmax(1).numpy()
    names = match_clusters(found, truth.numpy(), 3)
    assert (names[found] == truth.numpy()).all()
    again = cluster_head(features, graph, clusters=3, seed=0)
    assert torch.equal(head.linear.weight, again.linear.weight)
