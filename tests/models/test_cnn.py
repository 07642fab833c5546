"""Classifiers: logits, features, exact parameter counts."""

import re

import pytest
import torch
from helpers import noise
from torch import nn

from models import ENCODERS, create
from models.cnn import multiply_adds


@pytest.mark.parametrize("name", ENCODERS)
def test_a_classifier_gives_logits_by_a_head_after_an_encoder_which_create_gives_without_classes(name):
    torch.manual_seed(0)
    model, encoder = create(name).eval(), create(name, 0).eval()
    encoder.load_state_dict(model.encoder.state_dict())
    images = noise(1 if name == "resnet50" else 2, 1, 28, 28)  # it is slow on a CPU
    with torch.no_grad():
        features, logits = encoder(images), model(images)
        assert torch.equal(model.head(features), logits)
    assert features.shape == (len(images), encoder.num_features)
    assert logits.shape == (len(images), 10)
    assert logits.isfinite().all()
    assert ((logits.sum(1) - 1).abs() > 1e-3).all()  # no probabilities


def test_parameter_counts_by_hand():
    def parameters(name):
        return sum(p.numel() for p in create(name).parameters())

    assert parameters("linear") == 784 * 10 + 10
    assert parameters("mlp_128_64") == 785 * 128 + 129 * 64 + 65 * 10
    assert parameters("mlp_512_128_64") == 785 * 512 + 513 * 128 + 129 * 64 + 65 * 10
    assert parameters("mlp_512_128_32") == 785 * 512 + 513 * 128 + 129 * 32 + 33 * 10
    dense = (300 * 120 + 120) + (120 * 60 + 60) + (60 * 10 + 10)
    assert parameters("lenet") == (6 * 25 + 6) + (12 * 6 * 25 + 12) + dense
    # A convolution with bias, then batch norm's scale and shift, three times; dense; head.
    blocks = sum(9 * i * o + 3 * o for i, o in ((1, 32), (32, 64), (64, 128)))
    assert parameters("cnn") == blocks + (4 * 4 * 128 * 625 + 625) + (625 * 10 + 10)
    # A first convolution, four or one of single channels, the 1x1 convolution, five normalisations, the head.
    assert parameters("small-12") == 9 * 12 + 4 * 9 * 12 + 12 * 12 + 5 * 2 * 12 + 130 == 12**2 + 65 * 12 + 10
    assert parameters("tiny-8") == 9 * 8 + 9 * 8 + 8 * 8 + 5 * 2 * 8 + 90 == 8**2 + 38 * 8 + 10


def test_multiply_adds_by_hand():
    assert multiply_adds(create("linear")) == 784 * 10
    dense = 300 * 120 + 120 * 60 + 60 * 10
    assert multiply_adds(create("lenet")) == 28 * 28 * 6 * 25 + 10 * 10 * 12 * 6 * 25 + dense
    blocks = (9 * 8 + 8 * 8) * (14 * 14 + 2 * 7 * 7 + 3 * 3)
    assert multiply_adds(create("tiny-8").train()) == 14 * 14 * 9 * 8 + blocks + 8 * 10


def test_unknown_name_lists_the_choices():
    for name in ("vgg", "fast+", "fast+3"):
        with pytest.raises(ValueError, match=rf"{re.escape(name)}.*linear, mlp1, .*, lenet, cnn"):
            create(name)


@pytest.mark.parametrize("name", [name for name in ENCODERS if not name.startswith("resnet")])
def test_every_parameter_learns(name):
    torch.manual_seed(0)
    model = create(name).train().to(memory_format=torch.channels_last)  # fastest on a CPU
    nn.functional.cross_entropy(model(noise(4, 1, 28, 28)), torch.arange(4)).backward()
    still = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
