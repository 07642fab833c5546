"""MoCo: InfoNCE against its equation in NumPy, the queue as a ring, the key encoder that only follows."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import noise

import train_moco
from models import MoCo, create, info_nce


def rows(count, seed=0):
    return F.normalize(noise(count, 6, seed=seed).double(), dim=1)


def slow_info_nce(q, k, queue, temperature):
    """Equation 1 of He et al. (2020), query by query; and the share of queries whose own key is nearest."""
    losses, right = [], []
    for i in range(len(q)):
        positive = float(q[i] @ k[i])
        negatives = [float(q[i] @ key) for key in queue]
        total = math.exp(positive / temperature) + sum(math.exp(n / temperature) for n in negatives)
        losses.append(-math.log(math.exp(positive / temperature) / total))
        right.append(positive > max(negatives))
    return float(np.mean(losses)), float(np.mean(right))


def small(**options):
    torch.manual_seed(0)
    return MoCo(create("fast", 0), "mlp-plain", dimensions=8, **{"queue": 10, "momentum": 0.9, **options})


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_info_nce_is_equation_1(temperature, dtype):
    """bf16 loses no more than its rounding of the features: autocast does not reach the loss."""
    vectors = rows(7), F.normalize(rows(7, seed=1) + rows(7), dim=1), rows(12, seed=2)
    q, k, queue = (x.to(dtype) for x in vectors)
    exact = dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16, enabled=not exact):
        loss, accuracy = info_nce(q, k, queue, temperature)
    expected = slow_info_nce(*(x.double().numpy() for x in (q, k, queue)), temperature)
    assert loss.dtype == (torch.float64 if exact else torch.float32)
    assert float(loss) == pytest.approx(expected[0], rel=1e-12 if exact else 1e-5)
    assert float(accuracy) == pytest.approx(expected[1])
    assert 0 < expected[1] < 1


def test_empty_rows_of_the_queue_are_no_negatives():
    q, k, queue = rows(5), rows(5, seed=1), rows(8, seed=2)
    for filled in (3, 8):
        expected = info_nce(q, k, queue[:filled], 0.2)
        torch.testing.assert_close(info_nce(q, k, queue, 0.2, torch.tensor(filled)), expected)
    assert float(info_nce(q, k, queue, 0.2, torch.tensor(0))[0]) == 0


def test_the_queue_is_a_ring():
    """Batches of 4 into 10 rows: the third wraps around. A list that forgets its oldest entries agrees."""
    model, latest = small(), []
    for batch in range(7):
        keys = noise(4, 8, seed=batch)
        model.enqueue(keys)
        latest = (latest + list(keys))[-10:]
        assert int(model.pointer) == 4 * (batch + 1) % 10
        assert int(model.filled) == min(4 * (batch + 1), 10)
        # From the pointer on, the ring holds its keys from the oldest to the newest.
        in_order = model.queue.roll(-int(model.pointer), 0)
        assert torch.equal(in_order[10 - len(latest) :], torch.stack(latest))


@pytest.mark.parametrize("momentum", [0.75, 0.0])
def test_a_momentum_update_by_hand(momentum):
    model = small(momentum=momentum)  # at first, encoder_k is a copy of encoder_q
    assert all(map(torch.equal, model.encoder_k.parameters(), model.encoder_q.parameters()))
    with torch.no_grad():
        for p in model.encoder_q.parameters():
            p.add_(torch.randn_like(p))
    pairs = zip(model.encoder_k.parameters(), model.encoder_q.parameters(), strict=True)
    expected = [momentum * k + (1 - momentum) * q for k, q in pairs]
    buffers = [b.clone() for b in model.encoder_k.buffers()]
    model.momentum_update()
    torch.testing.assert_close(list(model.encoder_k.parameters()), expected)
    torch.testing.assert_close(list(model.encoder_k.buffers()), buffers, rtol=0, atol=0)


def test_a_step_compares_with_the_queue_before_its_own_keys_enter_it():
    model, images = small(), torch.randn(6, 2, 1, 28, 28)
    model.enqueue(F.normalize(noise(4, 8), dim=1))
    before = model.queue[:4].clone()
    loss, metrics = train_moco.moco_step(model, 1, 0.2)(images, None)
    again = small()
    q, k = again(images[:, 0]), again.keys(images[:, 1])
    expected, accuracy = info_nce(q, k, before, 0.2)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(metrics["contrastive_accuracy"], accuracy)
    torch.testing.assert_close(model.queue[4:], k)
    torch.testing.assert_close(k.norm(dim=1), torch.ones(6))
    loss.backward()
    assert all(p.grad is not None for p in model.encoder_q.parameters())
    assert all(p.grad is None and not p.requires_grad for p in model.encoder_k.parameters())
    assert not model.queue.requires_grad


def test_splits_have_batch_statistics_of_their_own_and_mix_the_images_of_both_halves():
    model, images = small(splits=2).train(), torch.randn(8, 1, 28, 28)
    images[4:] *= 5
    alone = [small().train().keys(part) for part in images.split(4)]
    torch.testing.assert_close(model.keys(images), torch.cat(alone))
    assert not torch.allclose(model.keys(images), small().train().keys(images), atol=1e-3)
    keys = train_moco.shuffled_keys(model, images, 2)
    for first in (0, 1):
        torch.testing.assert_close(keys[first::2], small().train().keys(images[first::2]))
