"""Losses and miners of metric learning against slow loops and hand-made cases."""

import itertools
import math

import pytest
import torch
from helpers import gen, noise

from models import triplet


def batch(seed=0, count=14, classes=4):
    rows = 0.5 * noise(count, 3, seed=seed).double()
    return rows.requires_grad_(), torch.randint(classes, (count,), generator=gen(seed))


def slow_distances(rows, distance):
    """Squared, one pair at a time."""
    if distance.startswith("unit-"):
        rows = torch.stack([row / row.norm() for row in rows])
    return [[sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) for b in rows] for a in rows]


def triplets(labels):
    """Every (anchor, positive, negative)."""
    count, same = range(len(labels)), labels.unsqueeze(1) == labels
    return [
        (a, p, n) for a in count for p in count for n in count if a != p and same[a, p] and not same[a, n]
    ]


def slow_loss(rows, labels, margin, mining, distance):
    d, every = slow_distances(list(rows), distance), triplets(labels)
    losses = [(a, p, n, d[a][p] - d[a][n] + margin) for a, p, n in every]
    if mining == "batch-hard":
        chosen = [max(loss for b, *_, loss in losses if b == a) for a in sorted({a for a, _, _ in every})]
        chosen = [loss.relu() for loss in chosen]
    else:
        chosen = []
        for pair in sorted({(a, p) for a, p, _ in every}):
            inside = [loss for a, p, n, loss in losses if (a, p) == pair and loss > 0 and d[a][n] > d[a][p]]
            chosen += [max(inside)] if inside else []
    return torch.stack(chosen).mean() if chosen else rows.sum() * 0


def sum_of_pair_means(labels, loss):
    """Sum of the means of loss(a, b, same) over the pairs of one class and over those of two."""
    kinds = {True: [], False: []}
    for a, b in itertools.permutations(range(len(labels)), 2):
        same = bool(labels[a] == labels[b])
        kinds[same].append(loss(a, b, same))
    return sum(torch.stack(losses).mean() for losses in kinds.values())


def assert_same(ours, slow, parameters):
    """Also in the gradients."""
    torch.testing.assert_close(ours, slow)
    torch.testing.assert_close(*(torch.autograd.grad(loss, parameters) for loss in (ours, slow)))


@pytest.mark.parametrize("distance", triplet.DISTANCES)
@pytest.mark.parametrize("mining", [name for name in triplet.MINERS if name != "random"])
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0])
def test_every_miner_is_the_slow_loop_over_triplets(mining, distance, margin):
    rows, labels = batch()
    slow = slow_loss(rows, labels, margin, mining, distance)
    assert_same(triplet.triplet_loss(rows, labels, margin, mining, distance), slow, [rows])


def test_random_mining_draws_every_valid_triplet_and_no_other(monkeypatch):
    rows, labels = torch.arange(5.0).square().unsqueeze(1), torch.tensor([0, 0, 0, 1, 1])
    d = triplet.pairwise_distances(rows)
    possible = {round(float(d[a, p] - d[a, n] + 1000), 3) for a, p, n in triplets(labels)}
    drawn = set()
    monkeypatch.setattr(triplet, "_mean", lambda values, mask: drawn.update(values[mask].tolist()))
    torch.manual_seed(0)
    for _ in range(60):
        triplet.triplet_loss(rows, labels, 1000.0, "random")
    assert {round(value, 3) for value in drawn} == possible


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
@pytest.mark.parametrize("mining", triplet.MINERS)
def test_a_batch_without_a_triplet_gives_zero_with_a_gradient(labels, mining):
    rows = torch.randn(4, 3, requires_grad=True)
    loss = triplet.triplet_loss(rows, torch.tensor(labels), 0.5, mining)
    loss.backward()
    assert loss == 0
    assert torch.equal(rows.grad, torch.zeros(4, 3))


@pytest.mark.parametrize("distance", triplet.DISTANCES)
def test_distances_and_gradients_of_close_and_of_equal_embeddings_are_those_of_float64(distance):
    rows, labels = torch.nn.functional.normalize(noise(16, 32), dim=1), torch.arange(16) // 4
    rows[:8] = rows[0]
    rows[8:] = rows[8] + 1e-3 * torch.nn.functional.normalize(noise(8, 32, seed=1), dim=1)
    found = []
    for given in (rows.clone(), rows.double()):
        given.requires_grad_()
        loss = triplet.triplet_loss(given, labels, 0.5, "semi-hard", distance)
        found.append((triplet.pairwise_distances(given, distance), torch.autograd.grad(loss, given)[0]))
    for ours, exact in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-2, atol=1e-12)


@pytest.mark.parametrize("distance", triplet.DISTANCES)
def test_contrastive_loss_is_the_slow_loop_over_pairs(distance):
    rows, labels = batch(1)
    d = slow_distances(list(rows), distance)
    slow = sum_of_pair_means(labels, lambda a, b, same: (d[a][b] if same else (0.8 - d[a][b]).relu()) ** 2)
    assert_same(triplet.contrastive_loss(rows, labels, 0.8, distance), slow, [rows])


@pytest.mark.parametrize("distance", triplet.DISTANCES)
def test_the_pair_loss_is_the_slow_loop_over_pairs(distance):
    rows, labels = batch(3)
    loss = triplet.PairLoss(3).double()
    loss.log_weights.data = torch.tensor([0.5, -1.0, 0.0]).double()
    ours = loss(triplet.prepare_embeddings(rows, distance), labels)
    given = [row / row.norm() if distance.startswith("unit-") else row for row in rows]

    def cross_entropy(a, b, same):
        apart = sum(w * (x - y).abs() for w, x, y in zip(loss.weights, given[a], given[b], strict=True))
        chance = torch.sigmoid(loss.bias - apart)
        return -torch.log(chance if same else 1 - chance)

    assert_same(ours, sum_of_pair_means(labels, cross_entropy) / 2, [rows, *loss.parameters()])


def test_arcface_is_the_slow_formula_also_beyond_180_degrees():
    rows, labels = batch(4, count=40)
    torch.manual_seed(0)
    loss = triplet.ArcFace(3, 4, margin=0.6, temperature=0.25).double()
    centres, total, beyond = [row / row.norm() for row in loss.centres], 0, 0
    for row, label in zip(rows, labels.tolist(), strict=True):
        angles = [torch.acos((row / row.norm() * centre).sum()) for centre in centres]
        cosines = [angle.cos() for angle in angles]
        over = bool(angles[label] > math.pi - 0.6)
        cosines[label] -= 0.6 * math.sin(0.6) if over else cosines[label] - (angles[label] + 0.6).cos()
        total, beyond = total - (torch.stack(cosines) / 0.25).log_softmax(0)[label] / 40, beyond + over
    assert 0 < beyond < 40
    assert_same(loss(rows, labels), total, [rows, loss.centres])
    own = loss.centres.detach()[labels].requires_grad_()  # where the sine's slope is infinite
    assert torch.autograd.grad(loss(own, labels), own)[0].isfinite().all()


def test_metrics_are_those_of_all_pairs_and_triplets():
    rows, labels = batch(2)
    rows = rows.detach()
    metrics = triplet.triplet_metrics(rows, labels, 0.3, "squared")
    d, every = slow_distances(list(rows), "squared"), triplets(labels)
    active = sum(bool(d[a][p] - d[a][n] + 0.3 > 0) for a, p, n in every) / len(every)
    assert metrics["active_triplets"] == pytest.approx(active)
    pairs = {(a, p): d[a][p] for a, p, _ in every}
    assert metrics["positive_distance"] == pytest.approx(float(sum(pairs.values())) / len(pairs))
    negatives = {(a, n): d[a][n] for a, _, n in every}
    assert metrics["negative_distance"] == pytest.approx(float(sum(negatives.values())) / len(negatives))
    assert metrics["embedding_norm"] == pytest.approx(float(rows.norm(dim=1).mean()), rel=1e-5)
