"""--compile on the CPU: one graph without a break, and one more for all sizes of a last batch.

The graphs are traced, forward and backward, but not turned into machine code, which would need a compiler and
minutes.
"""

import functools
from argparse import Namespace

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import train_mil
import train_moco
import train_simclr
import train_triplet
from data import BatchLoader, ImageSet, view_batches
from data.mil import BagLoader, build
from models import ContrastiveModel, MoCo, create
from models.mil import create_mil
from utils.training.config import FitConfig
from utils.training.fit import classification_step, fit

EVERYTHING = torch.arange(36)


@pytest.fixture
def images():
    return ImageSet(torch.zeros(36, 1, 28, 28, dtype=torch.uint8), EVERYTHING % 10, 0.13, 0.3)


@pytest.fixture
def graphs(monkeypatch):
    """Let Module.compile count its graphs, and raise where it would need two for one call."""
    torch._dynamo.reset()
    counter, compile_module = CompileCounterWithBackend("aot_eager"), nn.Module.compile
    strict = functools.partialmethod(compile_module, fullgraph=True, backend=counter)
    monkeypatch.setattr(nn.Module, "compile", strict)
    yield counter
    torch._dynamo.reset()


def train(model, step, batches):
    """Train for an epoch, the last batch of which is smaller."""
    sizes = [len(batch[0]) for batch in batches.epoch(0)]
    assert sizes[-1] < sizes[0]
    fit(model, step, batches, FitConfig(1, lr=0.01, compile=True, quiet=True))


@pytest.mark.parametrize("name", ["mlp", "cnn", "fast", "wide"])
def test_classifiers(graphs, images, name):
    model = create(name).to(memory_format=torch.channels_last)
    train(model, classification_step(model), BatchLoader(images, EVERYTHING, 16))
    assert graphs.frame_count <= 2


def test_batches_of_many_sizes_need_no_more_graphs(graphs):
    model = create("fast")
    model.compile()
    for count in (16, 7, 12, 9):
        model(torch.zeros(count, 1, 28, 28)).sum().backward()
    assert graphs.frame_count == 2


def test_contrastive_learning(graphs, images):
    model = ContrastiveModel(create("fast", 0))
    batches = view_batches(images, EVERYTHING, 16, ["affine"])
    train(model, train_simclr.contrastive_step(model, "supcon", 0.1), batches)
    assert graphs.frame_count <= 2


def test_momentum_contrast(graphs, images):
    model = MoCo(create("fast", 0), queue=64, splits=2)
    batches = view_batches(images, EVERYTHING, 16, ["affine"])
    train(model, train_moco.moco_step(model, 2, 0.2), batches)
    assert graphs.frame_count <= 2


def test_the_encoder_of_bags(graphs, images):
    model = create_mil("fast", "attention")
    batches = BagLoader(images, build(images.labels, EVERYTHING, 9, mean_length=4), 4)
    train(model, train_mil.mil_step(model, "attention"), batches)
    assert 1 <= graphs.frame_count <= 2


def test_embeddings(graphs, images):
    model = ContrastiveModel(create("fast", 0), "none")
    args = Namespace(loss="triplet", margin=0.2, mining="semi-hard", distance="squared")
    train(model, train_triplet.embedding_step(model, args), BatchLoader(images, EVERYTHING, 16))
    assert graphs.frame_count <= 2
