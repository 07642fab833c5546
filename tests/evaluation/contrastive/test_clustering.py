"""Clusters and labels that spread: against loops, the closed form and features whose answer is known."""

import math

import numpy as np
import pytest
import torch
from helpers import blobs, noise

from evaluation.contrastive import clustering
from evaluation.contrastive.features import Features


def test_probabilities_of_clusters_break_ties_between_few_labels():
    """Both labelled images are in cluster 0, and the second leans to cluster 1 more than the first."""
    for first, second in ((0.9, 0.6), (0.6, 0.9)):
        p = np.array([[first, 1 - first], [second, 1 - second]])
        assert clustering.match_clusters(p.argmax(1), np.array([0, 1]), 2).tolist() in ([0, 1], [1, 0])
        names = [0, 1] if first > second else [1, 0]
        assert clustering.match_clusters(p, np.array([0, 1]), 2).tolist() == names


def test_clear_blobs_are_clusters_and_images_in_a_wrong_one_are_mended_by_their_neighbours():
    labels = torch.arange(200) % 10
    features = torch.eye(10)[labels] + 0.05 * noise(200, 10)
    clusters = (labels.numpy() + 3) % 10
    clusters[:30] = (clusters[:30] + 1) % 10  # three of twenty, in every class
    graph = clustering.neighbour_graph(features)
    spread = clustering.spread_labels(graph, torch.arange(200), torch.from_numpy(clusters))
    torch.testing.assert_close(spread.sum(1), torch.ones(200))
    assert (spread.argmax(1) == (labels + 3) % 10).all()
    perfect = dict.fromkeys(("train_kmeans_accuracy", "test_kmeans_accuracy", "test_kmeans_nmi"), 1.0)
    scores, _ = clustering.clustering_scores(Features(features, labels, features, labels, features, labels))
    assert scores == perfect
    wrong = labels.roll(1)  # what names the clusters is right, the test labels are not
    for test_labels, expected in ((labels, 1), (wrong, 0)):
        f = Features(features, labels, features, labels, features, test_labels)
        assert clustering.spread_accuracy(f, clusters) == expected


def test_labels_spread_over_the_graph_as_the_papers_say():
    features, labels = blobs(60, spread=1.0)
    z = features / features.norm(dim=1, keepdim=True)
    weights = ((z @ z.T - 1) / 0.1).exp().fill_diagonal_(0)
    kept = (torch.zeros_like(weights).scatter_(1, weights.topk(5).indices, 1) * weights).double().numpy()
    kept = (kept + kept.T) / 2
    expected = kept / np.sqrt(np.outer(kept.sum(0), kept.sum(0)))
    graph = clustering.neighbour_graph(features, k=5)
    np.testing.assert_allclose(graph.toarray(), expected, atol=1e-6)
    # The limit of the iteration: (I - alpha S)^-1 Y; every class gets the same mass, every image a sum of 1.
    known = np.zeros((60, 3))
    known[range(4), labels[:4]] = 1
    balanced = np.linalg.solve(np.eye(60) - 0.8 * expected, known)
    balanced /= balanced.sum(0)
    found = clustering.spread_labels(graph, torch.arange(4), labels[:4], classes=3, alpha=0.8)
    np.testing.assert_allclose(found, balanced / balanced.sum(1, keepdims=True), atol=1e-4)
    assert (found.argmax(1) == labels).float().mean() > 0.9


def test_equal_images_are_neighbours_of_one_another_and_none_of_itself():
    distinct = noise(12, 8)
    graph = clustering.neighbour_graph(torch.cat([distinct, distinct[:1].repeat(6, 1), distinct[1:3]]), k=3)
    assert not graph.diagonal().any()
    assert graph[1, 18] > 0
    copies = [0, *range(12, 18)]  # more of them than an image has neighbours
    assert (graph[copies][:, copies].toarray() > 0).sum(1).min() >= 3


@pytest.mark.parametrize("weight", [0.0, 5.0])
def test_the_loss_equals_a_loop_over_pairs(weight):
    """Equation 2 of Van Gansbeke et al. (2020), pair by pair."""
    first, second = noise(2, 12, 4).double()
    p, q = first.softmax(1).tolist(), second.softmax(1).tolist()
    losses = [-math.log(sum(a * b for a, b in zip(x, y, strict=True))) for x, y in zip(p, q, strict=True)]
    entropy = -sum(m * math.log(m) for m in np.mean(p, 0))
    expected = sum(losses) / 12 - weight * entropy
    assert float(clustering.neighbour_loss(first, second, weight)) == pytest.approx(expected, abs=1e-10)


def test_a_pair_that_surely_disagrees_has_a_gradient():
    first = torch.tensor([[80.0, 0, 0]], requires_grad=True)
    loss = clustering.neighbour_loss(first, torch.tensor([[0, 80.0, 0]]), 0.0)
    assert loss.item() == pytest.approx(80 - math.log(2), rel=1e-5)
    assert torch.autograd.grad(loss, first)[0][0].tolist() == pytest.approx([0.5, -0.5, 0], abs=1e-5)


def test_heads_find_clusters_and_the_seed_decides(monkeypatch):
    for name, value in {"HEADS": 3, "HEAD_STEPS": 100, "HEAD_BATCH": 128, "HEAD_RATE": 0.05}.items():
        monkeypatch.setattr(clustering, name, value)
    truth = torch.arange(300) % 3
    features = 4 * torch.eye(5)[truth] + 0.3 * noise(300, 5)
    graph = clustering.neighbour_graph(features, 5)
    head = clustering.cluster_head(features, graph, clusters=3, seed=0)
    clusters = head(features).argmax(1).numpy()
    names = clustering.match_clusters(clusters, truth.numpy(), 3)
    assert (names[clusters] == truth.numpy()).all()
    again = clustering.cluster_head(features, graph, clusters=3, seed=0)
    assert torch.equal(head.linear.weight, again.linear.weight)
