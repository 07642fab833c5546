"""Evaluation on a GPU that isn't there: memory bounded by chunks, few copies to the host."""

import numpy as np
import pytest
import torch
from fake_gpu import fake_gpu, on_gpu
from scipy import sparse
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from data import POLICIES, ImageSet, in_order
from data.mil import build
from data.triplet import sample_episodes
from evaluation import few_labels
from evaluation import triplet as retrieval
from evaluation.contrastive import clustering
from evaluation.contrastive.features import Features, Probe, encode, knn, probe_loss
from evaluation.mil import predict_bags
from evaluation.triplet import RetrievalOptions
from inference import knn_predictor, load_predictor
from models import create
from models.mil import POOLINGS, create_mil
from utils.training.cnn import validate_classifier
from utils.training.config import FitConfig
from utils.training.fit import classification_step, fit
from utils.training.forward import forward_all, predict

# As many as in MNIST, which costs nothing here.
TRAIN, TEST, WIDTH = 54_000, 10_000, 512
MEGABYTES = 1e6


def image_set(count):
    pixels = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 10, 0.13, 0.3)


def rows(count):
    return torch.empty(count, WIDTH, device="cuda")


def labels(count):
    return torch.empty(count, dtype=torch.int64, device="cuda")


# --- What the tests rely on ---


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x.tolist(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.unique(),
    ],
)
def test_what_waits_for_the_device_is_an_error(wait):
    with fake_gpu(), pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        wait(torch.zeros(4, device="cuda"))


def test_tensors_on_two_devices_are_an_error():
    with fake_gpu(), pytest.raises(RuntimeError, match="same device"):
        torch.zeros(4, device="cuda") + torch.ones(4)


def test_copies_are_counted():
    with fake_gpu() as gpu:
        x = torch.ones(3).to("cuda")
        y = torch.ones(2).to("cuda", non_blocking=True)
        assert x.cpu().tolist() == [0, 0, 0]
        assert gpu.to_device == [((3,), False), ((2,), True)]
        assert gpu.to_host == [((3,), False)]
        torch.cat([x, y])
        assert gpu.largest == 20


# --- Forward passes ---


def test_a_forward_pass_over_many_images_needs_the_memory_of_a_batch():
    found = []
    for count in (2000, 8000):
        with fake_gpu() as gpu:
            model = create("fast").to("cuda")
            images = on_gpu(image_set(count))
            gpu.clear()
            outputs, _ = forward_all(model, in_order(images, augment=POLICIES["elastic"]), "bf16")
            assert outputs.shape == (count, 10)
            assert outputs.dtype == torch.float32
            assert gpu.to_host == []
            found.append(gpu.largest)
    assert found[0] == found[1] < 20 * MEGABYTES


def test_predictions_are_copied_once_whatever_the_number_of_shifts():
    with fake_gpu() as gpu:
        images = on_gpu(image_set(1500))
        model = create("linear").to("cuda")
        gpu.clear()
        probabilities, _ = predict(model, images, torch.arange(1200), shifts=1)
        assert probabilities.shape == (1200, 10)
        assert [shape for shape, _ in gpu.to_host] == [(1200, 10), (1200,)]


def test_an_epoch_with_validation_copies_three_things_to_the_host():
    with fake_gpu() as gpu:
        images = on_gpu(image_set(300))
        model = create("fast").to("cuda")
        batches = in_order(images, torch.arange(200))
        gpu.clear()
        validate = validate_classifier(images, torch.arange(200, 300), 0.0)
        fit(model, classification_step(model), batches, FitConfig(4, lr=0.1, quiet=True), validate=validate)
        assert len(gpu.to_host) == 4 * 3  # metrics of the steps, probabilities, labels


@pytest.mark.parametrize("method", POOLINGS)
def test_bags(method):
    with fake_gpu() as gpu:
        images = image_set(500)
        bags = build(images.labels, torch.arange(500), 1000)
        model, images = create_mil("fast", method).to("cuda"), on_gpu(images)
        gpu.clear()
        found = predict_bags(model, images, bags, "bf16")
        assert len(found["attention"]) == len(bags.indices)
        assert len(gpu.to_host) == 3
        assert all(non_blocking for _, non_blocking in gpu.to_device)
        assert gpu.largest < 30 * MEGABYTES


# --- Features ---


def test_neighbours_need_the_memory_of_a_chunk_of_queries():
    with fake_gpu() as gpu:
        reference, known, queries = rows(TRAIN), labels(TRAIN), rows(TEST)
        gpu.clear()
        assert knn(reference, known, queries).shape == (TEST, 10)
        assert gpu.to_host == []
        assert gpu.largest == 4 * 1000 * TRAIN  # one chunk of similarities, not ten


def test_features_of_every_split():
    with fake_gpu() as gpu:
        images = on_gpu(image_set(3000))
        encoder = create("fast", 0).to("cuda")
        gpu.clear()
        indices = torch.arange(2500), torch.arange(2500, 3000)
        f = encode(encoder, (images, images), *indices, "bf16")
        assert (f.train.shape, f.val.shape, f.test.shape) == ((2500, 64), (500, 64), (3000, 64))
        assert gpu.to_host == []


def test_the_probe_s_loss_and_its_outputs():
    """L-BFGS itself reads the loss: its line search runs on the host."""
    with fake_gpu() as gpu:
        probe = Probe(rows(1)[0], rows(1)[0])
        gpu.clear()
        loss = probe_loss(probe, rows(TRAIN), labels(TRAIN), 1e-3)
        assert loss.device.type == probe(rows(TEST)).device.type == "cuda"
        assert gpu.to_host == gpu.to_device == []


def test_the_steps_of_cluster_heads_never_wait(monkeypatch):
    monkeypatch.setattr(clustering, "HEAD_STEPS", 3)
    graph = sparse.random_array((TEST, TEST), density=1e-3, rng=np.random.default_rng(0))
    with fake_gpu() as gpu:
        features = rows(TEST)
        gpu.clear()
        clustering.cluster_head(features, graph)
        assert len(gpu.to_host) == 1  # which head is best
        steps = [non_blocking for shape, non_blocking in gpu.to_device if shape == (clustering.HEAD_BATCH,)]
        assert steps == [True] * 3 * clustering.HEADS


def test_features_are_mapped_where_they_are():
    with fake_gpu() as gpu:
        head = nn.Linear(WIDTH, 64).to("cuda")
        f = Features(*(make(n) for n in (500, 100, 200) for make in (rows, labels)))
        gpu.clear()
        assert f.map(head).test.shape == (200, 64)
        assert gpu.to_host == []


# --- Embeddings ---


def test_retrieval(monkeypatch):
    monkeypatch.setattr(retrieval, "PAIRS", 100)
    with fake_gpu() as gpu:
        images = on_gpu(image_set(600))
        encoder = create("fast", 0).to("cuda")
        options = RetrievalOptions(10, (0, 1), copies=1, episodes=20, queries=5, precision="bf16")
        gpu.clear()
        support = retrieval.embed(encoder, images, torch.arange(300), options)
        test = retrieval.embed(encoder, images, None, options)
        assert gpu.to_host == []
        known = torch.arange(600) % 10
        episodes = sample_episodes(known[:300], known, range(10), shots=5, queries=5, count=20)
        assert len(retrieval.episode_accuracies(support.rows, test.rows, episodes, unit=True)) == 20
        assert len(gpu.to_host) == 1


def test_episodes_and_rankings_need_the_memory_of_a_chunk():
    known = torch.arange(TEST) % 10
    episodes = sample_episodes(known, known, range(10), shots=5, count=2000)
    with fake_gpu() as gpu:
        support, test = rows(TEST), rows(TEST)
        gpu.clear()
        retrieval.episode_accuracies(support, test, episodes, unit=True)
        asked = 4 * WIDTH * 10 * 15 * retrieval.CHUNK
        assert asked <= gpu.largest < 1.1 * asked


def test_deformed_copies_of_each_episode_are_made_on_the_device():
    images = image_set(300)
    episodes = sample_episodes(images.labels, images.labels, range(10), shots=1, queries=2, count=3)
    with fake_gpu() as gpu:
        images = on_gpu(images)
        gpu.clear()
        found = retrieval.deformed_accuracies(images.images, images.images, episodes, seed=0)
        assert found.shape == (3,)
        assert len(gpu.to_host) == 1


# --- From few labels ---


@pytest.mark.parametrize("name", ["knn", "linear", "finetuned", "spread", "self_trained", "consistent"])
def test_methods_of_few_labels(monkeypatch, name):
    """One epoch of each training, and L-BFGS without its line search, which runs on the host."""
    for recipe in ("FINETUNE", "DISTIL", "CONSISTENCY"):
        monkeypatch.setattr(few_labels, recipe, getattr(few_labels, recipe) | {"epochs": 1})
    monkeypatch.setattr(torch.optim.LBFGS, "step", lambda optimizer, closure: closure())
    method, _ = few_labels.method_table(["own"])[f"own-{name}"]
    with fake_gpu():
        images, encoder = on_gpu(image_set(600)), create("fast", 0).to("cuda")
        splits = torch.arange(500), torch.arange(500, 600)
        source = few_labels.Source(few_labels.Study((images, images), splits, "bf16", 2), encoder)
        outputs = method.run(source, torch.arange(0, 500, 50), 0)
        assert (outputs.shape, outputs.device.type) == ((600, 10), "cuda")


def test_pre_training_on_few_labels(monkeypatch):
    monkeypatch.setattr(few_labels, "SUPCON", few_labels.SUPCON | {"epochs": 1})
    with fake_gpu() as gpu:
        images = on_gpu(image_set(300))
        gpu.clear()
        study = few_labels.Study((images, images), (torch.arange(200), torch.arange(200, 300)), max_steps=2)
        encoder = few_labels.train_supcon(study, torch.arange(10), 0)
        assert next(encoder.parameters()).device.type == "cuda"
        assert len(gpu.to_host) == 1


# --- Predictors ---


def test_predictors_answer_on_the_gpu():
    pictures = np.zeros((3, 28, 28), np.uint8)
    with fake_gpu():
        assert load_predictor(device="cuda").scores(pictures).probabilities.shape == (3, 10)
        by_neighbours = knn_predictor(None, on_gpu(image_set(300)), "cuda")
        assert by_neighbours.scores(pictures).probabilities.shape == (3, 10)
