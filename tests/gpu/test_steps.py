"""Every training step: on a GPU that isn't there, see tests/fake_gpu.py, and compiled on the CPU.

Graphs are traced, forward and backward, but not turned into machine code: that takes minutes.
"""

import itertools
from argparse import Namespace
from functools import partial, partialmethod

import pytest
import torch
from fake_gpu import on_gpu
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import train_mil
import train_moco
import train_simclr
import train_triplet
from data import POLICIES, VIEW_PARTS, BatchLoader, ImageSet, view_augment
from data.mil import BagLoader, build
from data.triplet import CLASS_AUGMENTS
from evaluation.few_labels import AnchoredBatches, anchored_step
from models import ENCODERS, ContrastiveModel, Fusion, MoCo, create
from models.contrastive import HEADS
from models.mil import MIL, MIL_ENCODERS, POOLINGS, create_mil
from models.triplet import DISTANCES, LOSSES, MINERS, TRIPLET_ENCODERS, triplet_loss, triplet_metrics
from utils.training.fit import FitConfig, classification_step, fit

COUNT, BATCH = 70, 64  # the last batch is small
EVERYTHING = torch.arange(COUNT)
IMAGES = ImageSet(torch.zeros(COUNT, 1, 28, 28, dtype=torch.uint8), EVERYTHING % 10, 0.13, 0.3)


# --- Trainings: model, step and batches. to: moves the images to a device ---


def classifier(to, model="fast", augment="affine"):
    model = Fusion([create("fast") for _ in range(3)]) if model == "fusion" else create(model)
    batches = BatchLoader(to(IMAGES), EVERYTHING, BATCH, augment=POLICIES[augment])
    return model, classification_step(model, 0.05), batches


def distillation(to):
    taught = to(IMAGES._replace(labels=torch.full((COUNT, 10), 0.1)))
    batches = BatchLoader(taught, EVERYTHING, BATCH, augment=POLICIES["strong"])
    return *classifier(to)[:2], batches


def anchored(to):
    model = create("fast")
    batches = AnchoredBatches(to(IMAGES), EVERYTHING[:10], EVERYTHING, (32, 16), POLICIES["strong"])
    return model, anchored_step(model), batches


def contrastive(to, method="supcon", head="mlp"):
    model = ContrastiveModel(create("fast", 0), head)
    batches = BatchLoader(to(IMAGES), EVERYTHING, BATCH, augment=view_augment(list(VIEW_PARTS)), views=2)
    return model, train_simclr.contrastive_step(model, method, 0.1), batches


def momentum(to):
    model = MoCo(create("fast", 0), "mlp-plain", queue=128, momentum=0.99, splits=2)
    augment = view_augment(["affine", "elastic", "blur"])
    batches = BatchLoader(to(IMAGES), EVERYTHING, BATCH, augment=augment, views=2)
    return model, train_moco.moco_step(model, 2, 0.2), batches


def bags(to, method="attention", encoder="fast", standardise=False, freeze=False):
    model = create_mil(encoder, method, standardise)
    if freeze:
        model.freeze()
    batches = BagLoader(to(IMAGES), build(IMAGES.labels, EVERYTHING, 14), 5, augment=POLICIES["affine"])
    return model, train_mil.mil_step(model, method), batches


def embedding(to, encoder="fast", class_augment="none", head="none", **flags):
    defaults = {"loss": "triplet", "mining": "random", "margin": 0.2, "distance": "squared", "seed": 0}
    defaults |= {"model": encoder, "encoder": None, "head": head, "device": "cpu"}
    shape = {"batch_classes": 4, "batch_images": 3, "class_augment": class_augment, "glyphs": 5, "steps": 2}
    args = Namespace(**{**defaults, **shape, "temperature": 0.1, "views": VIEW_PARTS, "strength": 1, **flags})
    model, step, batches = train_triplet.build_training(args, IMAGES, EVERYTHING)
    batches.set = to(batches.set)
    return model, step, batches


def each(training, **values):
    """Return the training with every value at least once: a shorter list starts again."""
    count = max(map(len, values.values()))
    columns = [itertools.islice(itertools.cycle(column), count) for column in values.values()]
    return [partial(training, **dict(zip(values, row, strict=True))) for row in zip(*columns, strict=True)]


def name(training):
    return "-".join([training.func.__name__, *map(str, training.keywords.values())])


TRAININGS = [
    *each(classifier, model=[*ENCODERS, "fusion"], augment=POLICIES),
    *map(partial, (distillation, anchored, momentum)),
    *each(contrastive, method=["simclr", "supcon"], head=HEADS),
    *each(bags, method=POOLINGS),
    *[partial(bags, encoder="lenet-mil", standardise=True), partial(bags, freeze=True)],
    *each(embedding, mining=MINERS, distance=DISTANCES),
    *each(embedding, encoder=["siamese"], loss=[loss for loss in LOSSES if loss != "triplet"]),
    *each(embedding, class_augment=CLASS_AUGMENTS, head=["mlp"]),
]


@pytest.mark.parametrize("training", TRAININGS, ids=name)
def test_no_step_waits_for_the_host(gpu, training):
    """One copy to the host, the metrics; all copies to the device are started and not waited for.

    Every layer computes in bf16, except what pools bags and decides about them.
    """
    model, step, batches = training(on_gpu)
    model.to("cuda").to(memory_format=torch.channels_last)
    groups, fp32, types = None, (), {}
    if isinstance(model, MIL):
        groups, fp32 = model.parameter_groups(0.1), ("pooling", "head")
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and not name.startswith(fp32):
            module.register_forward_hook(lambda *call, name=name: types.update({name: call[2].dtype}))
    gpu.clear()
    config = FitConfig(1, 0.1, schedule="one-cycle", precision="bf16", ema=0.99, clip_norm=1.0, quiet=True)
    fit(model, step, batches, config, groups=groups)
    assert len(gpu.to_host) == 1, gpu.to_host
    assert all(non_blocking for _, non_blocking in gpu.to_device), gpu.to_device
    assert types
    assert {name: dtype for name, dtype in types.items() if dtype != torch.bfloat16} == {}


@pytest.mark.parametrize("mining", MINERS)
def test_triplet_losses_and_metrics_need_the_memory_of_all_pairs_not_of_all_triplets(gpu, mining):
    rows, labels = torch.empty(64, 8, device="cuda"), torch.empty(64, dtype=torch.int64, device="cuda")
    triplet_loss(rows, labels, 0.2, mining)
    triplet_metrics(rows, labels, 0.2, "squared")
    assert gpu.largest <= 8 * 64 * 64


@pytest.fixture
def graphs(monkeypatch):
    """Let Module.compile count its graphs, and raise where it would need two for one call."""
    torch._dynamo.reset()
    counter, compile_module = CompileCounterWithBackend("aot_eager"), nn.Module.compile
    strict = partialmethod(compile_module, fullgraph=True, backend=counter)
    monkeypatch.setattr(nn.Module, "compile", strict)
    yield counter
    torch._dynamo.reset()


COMPILED = [partial(classifier, model="wide"), *map(partial, (contrastive, momentum, bags))]


@pytest.mark.parametrize("training", COMPILED, ids=name)
def test_a_network_is_one_graph_and_one_more_for_a_smaller_last_batch(graphs, training):
    model, step, batches = training(lambda images: images)
    sizes = {len(batch[0]) for batch in batches.epoch(0)}
    assert len(sizes) == 2
    fit(model, step, batches, FitConfig(1, lr=0.01, compile=True, quiet=True))
    assert 1 <= graphs.frame_count <= 2


# --- channels_last is kept through every network, where it is given to the weights, as the scripts do ---


@pytest.mark.parametrize("encoder", {**ENCODERS, **TRIPLET_ENCODERS, **MIL_ENCODERS})
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_map_of_a_network_is_channels_last(encoder, dtype):
    model = create(encoder, 0, {**TRIPLET_ENCODERS, **MIL_ENCODERS}).to(memory_format=torch.channels_last)
    maps = []

    def record(module, inputs, output):
        if output.ndim == 4 and min(output.shape[1:]) > 1:  # else there is one layout only
            maps.append((module, output))

    for module in model.modules():
        module.register_forward_hook(record)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        model(torch.rand(4, 1, 28, 28))
    assert [m for m, output in maps if not output.is_contiguous(memory_format=torch.channels_last)] == []
    assert maps or encoder.startswith(("linear", "mlp"))
    assert all(output.dtype == dtype for module, output in maps if isinstance(module, nn.Conv2d))
