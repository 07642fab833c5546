"""Every training step on a GPU that isn't there: devices, types, layout, and what waits for the host.

`fit` runs one epoch of each, with optimiser, schedule, clipping and moving average; see tests/fake_gpu.py.
"""

from argparse import Namespace

import pytest
import torch
from fake_gpu import fake_gpu, on_gpu
from torch import nn

import train_mil
import train_moco
import train_simclr
import train_triplet
from data import POLICIES, VIEW_PARTS, BatchLoader, ImageSet, view_augment, view_batches
from data.mil import BagLoader, build
from data.triplet import CLASS_AUGMENTS
from models import ENCODERS, ContrastiveModel, Fusion, MoCo, create
from models.contrastive import HEADS
from models.mil import POOLINGS, create_mil
from models.triplet import DISTANCES, LOSSES, MINERS, TRIPLET_ENCODERS
from utils.training.cnn import validate_classifier
from utils.training.config import FitConfig
from utils.training.few_labels import ConsistencyBatches, consistency_step
from utils.training.fit import classification_step, fit

GPU = "cuda"
COUNT, BATCH = 70, 64  # the last batch is small
EVERYTHING = torch.arange(COUNT)
# All parts of an augmentation at once.
ALL_PARTS = view_augment(list(VIEW_PARTS))


@pytest.fixture(scope="module")
def images():
    """Images on the CPU, of all classes."""
    pixels = torch.zeros(COUNT, 1, 28, 28, dtype=torch.uint8)
    return ImageSet(pixels, EVERYTHING % 10, 0.13, 0.3)


def place(model):
    return model.to(GPU).to(memory_format=torch.channels_last)


def check(gpu, model, step, batches, groups=None, fp32=(), **settings):
    """Train for an epoch; assert what makes it fast on a GPU.

    One copy to the host, the metrics; all copies to the device are started and not waited for; every layer
    computes in bf16, except the modules `fp32`.
    """
    types = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and not name.startswith(fp32 or "?"):
            module.register_forward_hook(lambda *found, name=name: types.update({name: found[2].dtype}))
    gpu.clear()
    options = {"lr": 0.1, "schedule": "one-cycle", "precision": "bf16", "quiet": True, **settings}
    fit(model, step, batches, FitConfig(1, **options), groups=groups)
    assert len(gpu.to_host) == 1, gpu.to_host
    assert all(non_blocking for _, non_blocking in gpu.to_device), gpu.to_device
    assert types
    assert {name: dtype for name, dtype in types.items() if dtype != torch.bfloat16} == {}


def check_classifier(images, name="fast", augment="affine", **settings):
    with fake_gpu() as gpu:
        model = place(create(name))
        batches = BatchLoader(on_gpu(images), EVERYTHING, BATCH, augment=POLICIES[augment])
        check(gpu, model, classification_step(model, 0.05), batches, **settings)


@pytest.mark.parametrize("name", ENCODERS)
def test_classifiers(images, name):
    check_classifier(images, name, "none")


@pytest.mark.parametrize("augment", POLICIES)
def test_policies(images, augment):
    check_classifier(images, augment=augment)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_optimisers(images, optimizer):
    check_classifier(images, optimizer=optimizer, ema=0.99, clip_norm=1.0)


@pytest.mark.parametrize("method", ["simclr", "supcon"])
@pytest.mark.parametrize("head", HEADS)
def test_contrastive_learning(images, method, head):
    with fake_gpu() as gpu:
        model = place(ContrastiveModel(create("fast", 0), head))
        batches = view_batches(on_gpu(images), EVERYTHING, BATCH, list(VIEW_PARTS))
        check(gpu, model, train_simclr.contrastive_step(model, method, 0.1), batches, ema=0.99)


def test_momentum_contrast(images):
    with fake_gpu() as gpu:
        model = place(MoCo(create("fast", 0), queue=128, splits=4))
        batches = view_batches(on_gpu(images), EVERYTHING, BATCH, ["affine", "elastic", "blur"])
        check(gpu, model, train_moco.moco_step(model, 4, 0.2), batches)


def check_bags(images, method, encoder="fast", standardise=False, freeze=False):
    with fake_gpu() as gpu:
        model = create_mil(encoder, method, dropout=0.2, standardise=standardise)
        if freeze:
            model.freeze()
        model = place(model)
        bags = build(images.labels, EVERYTHING, 12)
        batches = BagLoader(on_gpu(images), bags, 8, augment=POLICIES["affine"])
        groups = model.parameter_groups(0.1)
        step = train_mil.mil_step(model, method)
        check(gpu, model, step, batches, groups, fp32=("pooling", "head"), ema=0.99)


@pytest.mark.parametrize("method", POOLINGS)
def test_multiple_instance_learning(images, method):
    check_bags(images, method)


def test_multiple_instance_learning_on_a_saved_encoder(images):
    check_bags(images, "attention", "lenet-mil", standardise=True)
    check_bags(images, "attention", freeze=True)


def check_embedding(images, encoder="fast", class_augment="none", head="none", **how):
    defaults = {"loss": "triplet", "mining": "random", "margin": 0.2, "distance": "euclidean", "seed": 0}
    shape = {"batch_classes": 4, "batch_images": 3, "class_augment": class_augment, "glyphs": 5, "steps": 2}
    args = Namespace(**{**defaults, **shape, "temperature": 0.1, "views": VIEW_PARTS, "strength": 1, **how})
    batches = train_triplet.make_batches(args, images, EVERYTHING)
    with fake_gpu() as gpu:
        batches.set = on_gpu(batches.set)
        model = place(ContrastiveModel(create(encoder, 0, TRIPLET_ENCODERS), head))
        check(gpu, model, train_triplet.embedding_step(model, args), batches)


@pytest.mark.parametrize("mining", MINERS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_the_triplet_loss_and_its_miners(images, mining, distance):
    check_embedding(images, mining=mining, distance=distance)


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "triplet"])
def test_other_losses_of_embeddings(images, loss):
    check_embedding(images, "siamese", loss=loss)


@pytest.mark.parametrize("class_augment", CLASS_AUGMENTS)
def test_class_augmentation(images, class_augment):
    check_embedding(images, class_augment=class_augment, head="mlp")


def test_the_fusion_of_members(images):
    with fake_gpu() as gpu:
        network = place(Fusion([create("fast") for _ in range(3)]))
        batches = BatchLoader(on_gpu(images), EVERYTHING, BATCH, augment=POLICIES["affine"])
        check(gpu, network, classification_step(network, 0.05), batches)
        validate = validate_classifier(on_gpu(images), EVERYTHING[:10], 0.05)
        assert set(validate(network, 1)) == {"val_loss", "val_accuracy"}


def test_consistency_training(images):
    with fake_gpu() as gpu:
        model = place(create("fast"))
        labelled, unlabelled = EVERYTHING[:10], EVERYTHING[10:]
        both = POLICIES["shift"], ALL_PARTS
        batches = ConsistencyBatches(on_gpu(images), labelled, unlabelled, 32, 16, *both)
        check(gpu, model, consistency_step(model, 0.95), batches, ema=0.99)


def test_distillation(images):
    with fake_gpu() as gpu:
        model = place(create("fast"))
        taught = on_gpu(images._replace(labels=torch.full((COUNT, 10), 0.1)))
        batches = BatchLoader(taught, EVERYTHING, BATCH, augment=POLICIES["strong"])
        check(gpu, model, classification_step(model), batches, ema=0.99)
