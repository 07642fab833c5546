"""Forward passes: probabilities in eval mode, in order, with the state of the model untouched."""

import itertools

import numpy as np
import pytest
import torch

from data import batches
from models import create
from utils.training.forward import predict


@pytest.fixture
def model(digits):
    """A network with batch norm and dropout, whose running statistics are not those of any batch."""
    torch.manual_seed(0)
    model = create("mlp")
    model(digits.normalise(digits.images[:50] / 255))
    return model


def test_predict_is_the_softmax_of_the_eval_mode_logits(model, digits, monkeypatch):
    monkeypatch.setattr(batches, "IN_ORDER_BATCH", 33)
    probabilities, labels = predict(model.train(), digits)
    with torch.no_grad():
        logits = model.eval()((digits.images.float() / 255 - digits.mean) / digits.std).double().numpy()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    assert np.array_equal(labels, digits.labels.numpy())


def test_predict_over_shifts_is_the_mean_over_the_shifted_images(model, digits, monkeypatch):
    monkeypatch.setattr(batches, "IN_ORDER_BATCH", 3)

    def shift(down, right):
        return digits._replace(images=torch.nn.functional.pad(digits.images, [right, -right, down, -down]))

    indices = torch.tensor([42, 7, 199, 7])
    moves = itertools.product((-1, 0, 1), repeat=2)
    each = [predict(model, shift(*move), indices)[0] for move in moves]
    probabilities, labels = predict(model, digits, indices, shifts=1)
    np.testing.assert_allclose(probabilities, np.mean(each, 0), atol=1e-6)
    assert np.abs(probabilities - each[4]).max() > 1e-3  # that the plain ones are others
    assert np.array_equal(labels, digits.labels[indices].numpy())


@pytest.mark.parametrize("training", [True, False])
def test_predict_changes_neither_the_state_nor_the_mode_of_any_module(model, digits, training):
    model.train(training)
    model.encoder.eval()  # a frozen encoder under a head in training must stay frozen
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    predict(model, digits)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
