"""What several tests of evaluation score: an encoder, its data and their splits."""

import pytest
import torch

from data import load, split
from models import create


@pytest.fixture(scope="module")
def encoder(digits):
    """An untrained encoder whose batch statistics are those of no batch."""
    torch.manual_seed(0)
    encoder = create("fast", 0)
    encoder(digits.normalise(digits.images[:64] / 255))
    return encoder.eval()


@pytest.fixture(scope="module")
def data(tiny_dir):
    return load("mnist", tiny_dir)


@pytest.fixture(scope="module")
def splits(data):
    return split(data[0].labels, 0.1, 0)
