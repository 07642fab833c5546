"""NT-Xent and SupCon against slow transcriptions of the papers' equations, and what holds for both."""

import math

import numpy as np
import pytest
import torch
from helpers import noise

from models import contrastive_metrics, nt_xent, supcon


def slow_supcon(features, labels, temperature):
    """Equation 2 of Khosla et al. (2020), anchor by anchor; with labels of their own, 1 of Chen et al."""
    images, views, _ = features.shape
    z = (features / np.linalg.norm(features, axis=2, keepdims=True)).reshape(images * views, -1)
    y = np.repeat(labels, views)
    losses = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        total = sum(math.exp(z[i] @ z[a] / temperature) for a in others)
        positives = [p for p in others if y[p] == y[i]]
        if positives:
            terms = [math.log(math.exp(z[i] @ z[p] / temperature) / total) for p in positives]
            losses.append(-sum(terms) / len(positives))
    return float(np.mean(losses)) if losses else 0.0


@pytest.mark.parametrize(("images", "views"), [(2, 2), (7, 2), (5, 3), (1, 2)])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_nt_xent_is_equation_1(images, views, temperature, dtype):
    """bf16 loses no more than its rounding of the features: autocast does not reach the loss."""
    features, exact = noise(images, views, 6).to(dtype), dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16, enabled=not exact):
        loss = nt_xent(features, temperature)
    expected = slow_supcon(features.double().numpy(), np.arange(images), temperature)
    assert loss.dtype == (torch.float64 if exact else torch.float32)
    assert float(loss) == pytest.approx(expected, rel=1e-12 if exact else 1e-5, abs=1e-12 if exact else 1e-5)


@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1], [3, 3, 3, 3, 3], [4, 1, 0, 2, 9]])
@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_supcon_is_equation_2(labels, views, temperature):
    features = noise(5, views, 6).double()
    expected = slow_supcon(features.numpy(), np.array(labels), temperature)
    assert float(supcon(features, torch.tensor(labels), temperature)) == pytest.approx(expected, abs=1e-12)


def test_a_row_of_zeros_has_a_finite_gradient_and_a_batch_without_a_positive_none():
    zero, alone = noise(4, 2, 6).index_fill(0, torch.tensor(1), 0).requires_grad_(), noise(4, 1, 6)
    assert torch.autograd.grad(nt_xent(zero, 0.3), zero)[0].isfinite().all()
    loss = supcon(alone.requires_grad_(), torch.arange(4), 0.2)
    assert not torch.autograd.grad(loss, alone)[0].any()


def test_metrics_of_hand_made_features():
    # Three images; the partners of the first two are close, the third image's views sit on the others.
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    features = torch.stack([torch.stack([a, a]), torch.stack([b, b]), torch.stack([-a, -b])])
    metrics = contrastive_metrics(features)
    flat = features.flatten(0, 1)
    distances = (flat.unsqueeze(0) - flat.unsqueeze(1)).square().sum(2)
    pairs = distances[~torch.eye(6, dtype=torch.bool)]
    assert float(metrics["alignment"]) == pytest.approx((0 + 0 + 2) / 3)
    assert float(metrics["uniformity"]) == pytest.approx(float((-2 * pairs).exp().mean().log()), rel=1e-5)
    # The third image's two views are at cosine 0 of each other and of four others: the first of equals wins.
    assert float(metrics["contrastive_accuracy"]) == pytest.approx(4 / 6)
