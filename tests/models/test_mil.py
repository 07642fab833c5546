"""The poolings against slow obvious formulas; what must not matter does not."""

import numpy as np
import pytest
import torch
from helpers import noise
from torch import nn

from models.mil import MIL, POOLINGS, mil_loss

LENGTHS = (3, 1, 5, 2)


class Flat(nn.Module):
    """The simplest encoder: a linear map of four pixels to five features."""

    num_features = 5

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 5)

    def forward(self, images):
        return self.linear(images[:, 0, 0, :4])


def network(method):
    torch.manual_seed(0)
    return MIL(Flat(), method).eval()


def bags():
    """Four bags of LENGTHS instances: the packed images and the mask."""
    return noise(sum(LENGTHS), 1, 28, 28), torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)


def slow(model, images):
    """One bag (N, 1, 28, 28) by the formulas of the papers: logit and attention."""
    h = model.encoder(images)
    head = model.head
    if model.method == "mean":
        return head(sum(h) / len(h))[0], [1 / len(h)] * len(h)
    if model.method == "max":
        greatest = torch.stack([max(column) for column in h.T])
        shares = [float((row == greatest).float().mean()) for row in h]
        return head(greatest)[0], shares
    if model.method == "instance-mean":
        return sum(head(row)[0] for row in h) / len(h), [1 / len(h)] * len(h)
    if model.method == "instance-max":
        scores = [head(row)[0] for row in h]
        return max(scores), [float(score == max(scores)) for score in scores]
    if model.method == "loss-attention":
        weights = torch.stack([head(row).exp().sum() for row in h])
    elif not model.method.endswith("attention"):  # another one: what it gives a bag alone
        pooled = model(images, torch.ones(1, len(h), dtype=torch.bool))
        return pooled.logits[0], pooled.attention[0]
    else:
        pooling = model.pooling
        hidden = [torch.tanh(pooling.hidden(row)) for row in h]
        if model.method == "gated-attention":
            hidden = [x * torch.sigmoid(pooling.gate(row)) for x, row in zip(hidden, h, strict=True)]
        weights = torch.cat([pooling.score(x) for x in hidden]).exp()
    weights = weights / weights.sum()
    logits = head(sum(a * row for a, row in zip(weights, h, strict=True)))
    logit = logits[0] if len(logits) == 1 else logits[1] - logits[0]
    return logit, weights.tolist()


@pytest.mark.parametrize("method", POOLINGS)
def test_a_pooling_is_its_formula_and_a_batch_its_bags_one_by_one(method):
    model, (images, mask) = network(method), bags()
    with torch.no_grad():
        pooled = model(images, mask)
        for i, part in enumerate(images.split(LENGTHS)):
            logit, attention = slow(model, part)
            assert float(pooled.logits[i]) == pytest.approx(float(logit), abs=1e-5)
            np.testing.assert_allclose(pooled.attention[i, : len(part)], attention, atol=1e-5)
            alone = model(part, torch.ones(1, len(part), dtype=torch.bool))
            torch.testing.assert_close(pooled.instances[i, : len(part)], alone.instances[0])
            if len(part) == 1:  # a bag of one is its instance
                torch.testing.assert_close(alone.logits, alone.instances[0])
    assert (pooled.attention[~mask] == 0).all()
    assert (pooled.attention >= 0).all()
    torch.testing.assert_close(pooled.attention.sum(1), torch.ones(len(LENGTHS)))
    mask[1] = False
    with pytest.raises(ValueError, match="every row"):
        model(images, mask)


def test_the_loss_is_binary_cross_entropy_and_the_instances_of_loss_attention():
    model, (images, mask) = network("loss-attention"), bags()
    labels = torch.tensor([1.0, 0.0, 1.0, 0.0])
    pooled = model(images, mask)
    p = torch.sigmoid(pooled.logits)
    bag = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    torch.testing.assert_close(mil_loss(pooled, labels, "attention"), bag)
    extra = 0.0
    for i, part in enumerate(images.split(LENGTHS)):
        logits = model.head(model.encoder(part))
        surprise = -logits.log_softmax(1)[:, int(labels[i])]
        extra = extra + (pooled.attention[i, : len(part)] * surprise).sum() / len(LENGTHS)
    torch.testing.assert_close(mil_loss(pooled, labels, "loss-attention"), bag + extra)


@pytest.mark.parametrize("method", ["attention", "loss-attention", "instance-mean"])
def test_of_several_classes_the_loss_is_the_cross_entropy_of_their_logits(method):
    torch.manual_seed(0)
    model, (images, mask), labels = MIL(Flat(), method, num_classes=4).eval(), bags(), [3.0, 0.0, 2.0, 1.0]
    pooled, losses = model(images, mask), []
    for i, (part, label) in enumerate(zip(images.split(LENGTHS), labels, strict=True)):
        h, weights = model.encoder(part), pooled.attention[i, : len(part)]
        torch.testing.assert_close(pooled.logits[i], model.head(sum(weights[:, None] * h)))
        losses.append(-pooled.logits[i].log_softmax(0)[int(label)])
        if method == "loss-attention":
            losses[i] = losses[i] - (weights * model.head(h).log_softmax(1)[:, int(label)]).sum()
    torch.testing.assert_close(mil_loss(pooled, torch.tensor(labels), method), sum(losses) / 4)


def test_standardised_features_may_have_any_scale():
    images, mask = bags()
    torch.manual_seed(0)
    model = MIL(Flat(), "gated-attention", standardise=True)
    logits = model(images, mask).logits
    with torch.no_grad():
        model.encoder.linear.weight.mul_(1000)
        model.encoder.linear.bias.mul_(1000).add_(50)
    torch.testing.assert_close(model(images, mask).logits, logits, rtol=1e-3, atol=1e-3)
    assert {"scale.running_mean", "scale.running_var"} <= model.state_dict().keys()
