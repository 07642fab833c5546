"""Evaluation on a GPU that isn't there: memory bounded by chunks, few copies to the host."""

import numpy as np
import pytest
import torch
from fake_gpu import on_gpu
from scipy import sparse
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from data import POLICIES, ImageSet, in_order
from data.mil import build
from data.triplet import sample_episodes
from evaluation import few_labels
from evaluation import triplet as retrieval
from evaluation.contrastive import clustering
from evaluation.contrastive.features import knn
from evaluation.mil import predict_bags
from inference import load_predictor
from inference.predictor import embedder
from models import create
from models.mil import POOLINGS, create_mil
from utils.training.cnn import validate_classifier
from utils.training.fit import FitConfig, classification_step, fit
from utils.training.forward import forward_all

# As many as in MNIST, which costs nothing here.
TRAIN, TEST, WIDTH = 54_000, 10_000, 512
DIGITS = torch.arange(TEST) % 10


def image_set(count):
    return ImageSet(torch.zeros(count, 1, 28, 28, dtype=torch.uint8), DIGITS[:count], 0.13, 0.3)


def rows(count):
    return torch.empty(count, WIDTH, device="cuda")


def labels(count):
    return torch.empty(count, dtype=torch.int64, device="cuda")


READS = (lambda x: x.sum().item(), lambda x: bool(x.any()), lambda x: x.tolist())


@pytest.mark.parametrize("wait", [*READS, lambda x: x[x > 0], torch.nonzero, torch.unique])
def test_what_waits_for_the_device_is_an_error(gpu, wait):
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        wait(torch.zeros(4, device="cuda"))


def test_a_forward_pass_over_many_images_needs_the_memory_of_a_batch(gpu):
    model, images = create("fast").to("cuda"), on_gpu(image_set(8000))
    gpu.clear()
    outputs, _ = forward_all(model, in_order(images, augment=POLICIES["elastic"]), "bf16")
    assert (outputs.shape, outputs.dtype) == ((8000, 10), torch.float32)
    assert gpu.to_host == [((1000, 1, 28, 28), False)] * 8  # the pixels, which choose the draws
    assert gpu.largest < 20e6


def test_an_epoch_with_validation_copies_three_things_to_the_host(gpu):
    model, images = create("fast").to("cuda"), on_gpu(image_set(300))
    batches = in_order(images, torch.arange(200))
    gpu.clear()
    validate = validate_classifier(images, torch.arange(200, 300), 0.0)
    fit(model, classification_step(model), batches, FitConfig(4, lr=0.1, quiet=True), validate=validate)
    assert len(gpu.to_host) == 4 * 3  # metrics of the steps, probabilities, labels


@pytest.mark.parametrize("method", POOLINGS)
def test_bags(gpu, method):
    bags = build(DIGITS[:500], torch.arange(500), 1000)
    model, images = create_mil("fast", method).to("cuda"), on_gpu(image_set(500))
    gpu.clear()
    assert len(predict_bags(model, images, bags, "bf16")["attention"]) == len(bags.indices)
    assert len(gpu.to_host) == 3
    assert all(non_blocking for _, non_blocking in gpu.to_device)
    assert gpu.largest < 30e6


def test_predictors_answer_on_the_gpu(gpu):
    pictures = np.zeros((3, 28, 28), np.uint8)
    assert load_predictor(device="cuda").scores(pictures).probabilities.shape == (3, 10)
    assert len(embedder(device="cuda").scores(pictures)) == 3


def test_neighbours_need_the_memory_of_a_chunk_of_queries(gpu):
    assert knn(rows(TRAIN), labels(TRAIN), rows(TEST)).shape == (TEST, 10)
    assert gpu.to_host == []
    assert gpu.largest == 4 * 1000 * TRAIN  # one chunk of similarities, not ten


def test_the_steps_of_cluster_heads_never_wait(gpu, monkeypatch):
    monkeypatch.setattr(clustering, "HEAD_STEPS", 3)
    graph = sparse.random_array((TEST, TEST), density=1e-3, rng=np.random.default_rng(0))
    clustering.cluster_head(rows(TEST), graph)
    assert len(gpu.to_host) == 1  # which head is best
    steps = [non_blocking for shape, non_blocking in gpu.to_device if shape == (clustering.HEAD_BATCH,)]
    assert steps == [True] * 3 * clustering.HEADS


def test_retrieval(gpu, monkeypatch):
    monkeypatch.setattr(retrieval, "PAIRS", 100)
    encoder, images = create("fast", 0).to("cuda"), on_gpu(image_set(600))
    options = retrieval.RetrievalOptions(10, (0, 1), copies=1, episodes=20, queries=5, precision="bf16")
    gpu.clear()
    support = retrieval.embed(encoder, images, torch.arange(300), options)
    test = retrieval.embed(encoder, images, None, options)
    assert len(gpu.to_host) == 2  # the pixels of the deformed copies, which choose their draws
    episodes = sample_episodes(DIGITS[:300], DIGITS[:600], range(10), shots=5, queries=5, count=20)
    assert len(retrieval.episode_accuracies(support.rows, test.rows, episodes, unit=True)) == 20
    assert len(retrieval.deformed_accuracies(images.images, images.images, episodes, seed=0)) == 20
    assert len(gpu.to_host) == 4


def test_episodes_need_the_memory_of_a_chunk(gpu):
    episodes = sample_episodes(DIGITS, DIGITS, range(10), shots=5, count=2000)
    support, test = rows(TEST), rows(TEST)
    gpu.clear()
    retrieval.episode_accuracies(support, test, episodes, unit=True)
    chunk = 8 * WIDTH * 10 * 15 * retrieval.CHUNK  # float64
    assert chunk <= gpu.largest < 1.1 * chunk


@pytest.mark.parametrize(
    "name", ["own-linear", "own-finetuned", "own-spread", "own-self_labelled", "supcon-knn"]
)
def test_methods_of_few_labels(gpu, monkeypatch, name):
    """One epoch of each training, and what runs on the host replaced: line search, clusters of a graph."""
    for recipe in ("FINETUNE", "DISTIL", "SUPCON"):
        monkeypatch.setattr(few_labels, recipe, getattr(few_labels, recipe) | {"epochs": 1})
    monkeypatch.setattr(torch.optim.LBFGS, "step", lambda optimizer, closure: closure())
    clusters = torch.eye(10).repeat(50, 1).to("cuda")
    monkeypatch.setattr(few_labels.Source, "spread_head", lambda *args: clusters)
    method, _ = few_labels.method_table(["own"])[name]
    images, encoder = on_gpu(image_set(600)), create("fast", 0).to("cuda")
    splits = torch.arange(500), torch.arange(500, 600)
    source = few_labels.Source(few_labels.Study((images, images), splits, "bf16", 2), encoder)
    outputs = method.run(source, torch.arange(0, 500, 50), 0)
    assert (outputs.shape, outputs.device.type) == ((600, 10), "cuda")
