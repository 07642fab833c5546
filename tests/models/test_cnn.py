"""Classifiers: logits, features, exact parameter counts."""

import pytest
import torch
from helpers import noise
from torch import nn

from models import ENCODERS, create

SMALL = [name for name in ENCODERS if not name.startswith("resnet")]


@pytest.fixture(scope="module", params=list(ENCODERS))
def built(request):
    """Every classifier in eval mode: its name, itself, images and its logits."""
    torch.manual_seed(0)
    model = create(request.param).eval()
    images = noise(1 if request.param == "resnet50" else 2, 1, 28, 28)  # it is slow on a CPU
    with torch.no_grad():
        return request.param, model, images, model(images)


def test_classifier_gives_logits_not_probabilities(built):
    _, _, images, logits = built
    assert logits.shape == (len(images), 10)
    assert logits.isfinite().all()
    assert (logits < 0).any()
    assert ((logits.sum(1) - 1).abs() > 1e-3).all()


def test_classifier_is_head_after_encoder_which_create_gives_without_classes(built):
    name, model, images, logits = built
    encoder = create(name, 0).eval()
    encoder.load_state_dict(model.encoder.state_dict())
    with torch.no_grad():
        features = encoder(images)
        assert features.shape == (len(images), encoder.num_features)
        assert torch.equal(model.head(features), logits)


def test_parameter_counts_by_hand():
    def parameters(name):
        return sum(p.numel() for p in create(name).parameters())

    assert parameters("linear") == 784 * 10 + 10
    dense = (300 * 120 + 120) + (120 * 60 + 60) + (60 * 10 + 10)
    assert parameters("lenet") == (6 * 25 + 6) + (12 * 6 * 25 + 12) + dense
    # A convolution with bias, then batch norm's scale and shift, three times; dense; head.
    blocks = sum(9 * i * o + 3 * o for i, o in ((1, 32), (32, 64), (64, 128)))
    assert parameters("cnn") == blocks + (4 * 4 * 128 * 625 + 625) + (625 * 10 + 10)


def test_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match=r"vgg.*linear, mlp1, mlp, lenet, cnn"):
        create("vgg")


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name):
    torch.manual_seed(0)
    model = create(name).train().to(memory_format=torch.channels_last)  # fastest on a CPU
    nn.functional.cross_entropy(model(noise(4, 1, 28, 28)), torch.arange(4)).backward()
    still = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", SMALL)
def test_an_image_is_classified_alike_alone_and_in_a_batch_and_in_either_memory_layout(name):
    torch.manual_seed(0)
    model, images = create(name).eval(), noise(2, 1, 28, 28)
    with torch.no_grad():
        logits = model(images)
        alone = torch.cat([model(image[None]) for image in images])
        model.to(memory_format=torch.channels_last)
        channels_last = model(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(alone, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(channels_last, logits, rtol=1e-4, atol=1e-5)
