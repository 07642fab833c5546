"""Two ranks against one process: batch norm of the whole batch, contrastive losses, and steps of MoCo."""

import os

import pytest
import torch
import torch.multiprocessing as mp
from helpers import free_port, noise
from torch import nn

import train_moco
from models import ContrastiveModel, MoCo, create, nt_xent, supcon
from models.layers import CpuSyncBatchNorm
from utils import distributed

# Rows of each rank: the last batch of an epoch may be uneven.
ROWS = (7, 4)


def cases():
    """{name: (batch norm with weights of its own, whole batch)}."""
    maps = noise(11, 3, 5, 6)
    batches = {
        "features": noise(11, 3, seed=1),
        "maps": maps,
        "channels last": maps.to(memory_format=torch.channels_last),
        "far from zero": maps + 1000,
        "constant": torch.full((11, 3, 5, 6), 1.7),
    }
    pairs = {}
    for name, x in batches.items():
        norm = nn.BatchNorm1d(3) if x.ndim == 2 else nn.BatchNorm2d(3)
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
            norm.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
        pairs[name] = norm, x
    return pairs


def outcome(norm, x):
    """Output, gradient of the input, gradients of the parameters, statistics, and the output in eval mode."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = norm(x)
    y.sin().sum().backward()
    statistics = [norm.running_mean.clone(), norm.running_var.clone(), norm.num_batches_tracked.clone()]
    return [y.detach(), x.grad], [norm.weight.grad, norm.bias.grad], statistics, norm.eval()(x).detach()


def contrastive_losses():
    """Losses and gradients for 11 images, of which each rank has its ROWS, and the statistics afterwards."""
    torch.manual_seed(1)
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3, 2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    encoder.num_features = 4 * 13 * 13
    model = ContrastiveModel(encoder, "mlp", dimensions=8)
    network, values = distributed.data_parallel(model), []
    images, labels = noise(11, 2, 1, 28, 28), torch.arange(11) % 4
    if distributed.world() == 2:
        images, labels = (x.split(ROWS)[distributed.rank()] for x in (images, labels))
    for loss_of in (lambda z, y: nt_xent(z, 0.2), lambda z, y: supcon(z, y, 0.2)):
        model.zero_grad()
        features = distributed.gather(network(images.flatten(0, 1)).unflatten(0, images.shape[:2]))
        loss = loss_of(features, distributed.gather(labels))
        loss.backward()
        values += [loss.detach(), *(p.grad.clone() for p in model.parameters())]
    return [*values, *model.buffers()]


def moco_steps(splits):
    """Two steps on a batch of 12, of which each rank has half: losses, gradients and what is left behind."""
    torch.manual_seed(1)
    model = MoCo(create("fast", 0), "mlp-plain", dimensions=8, queue=20, momentum=0.5, splits=splits)
    mine = torch.randn(2, 12, 2, 1, 28, 28).tensor_split(distributed.world(), 1)[distributed.rank()]
    step, values = train_moco.moco_step(model, 4, 0.2), []
    for images in mine:
        model.zero_grad()
        loss, metrics = step(images, None)
        loss.backward()
        values += [loss.detach(), *metrics.values(), *(p.grad.clone() for p in model.encoder_q.parameters())]
        with torch.no_grad():
            for p in model.encoder_q.parameters():
                p.sub_(0.1 * p.grad)
    values += [*model.encoder_k.parameters(), model.queue, model.pointer, model.filled]
    return [value.detach() for value in values]


def run_rank(rank, port, path):
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT=port)
    torch.set_num_threads(1)
    distributed.start(torch.device("cpu"))
    values = {
        name: outcome(CpuSyncBatchNorm(norm), x.split(ROWS)[rank]) for name, (norm, x) in cases().items()
    }
    assert distributed.gather_objects({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    values |= {"contrastive": contrastive_losses(), "moco": moco_steps(splits=2)}
    torch.save(values, f"{path}/{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes computed."""
    path = tmp_path_factory.mktemp("ranks")
    mp.start_processes(run_rank, (free_port(), str(path)), nprocs=2, start_method="forkserver")
    return [torch.load(path / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", cases())
def test_two_ranks_compute_what_torch_does_with_the_whole_batch(ranks, name):
    norm, x = cases()[name]
    rows, parameters, statistics, evaluated = outcome(norm.double(), x.double())
    first, second = (values[name] for values in ranks)
    # float32 rounds 1000 by up to 3e-5, and the rounding error of a constant is divided by sqrt(eps).
    atol = 5e-4 if name in ("far from zero", "constant") else 1e-5
    close = {"rtol": 1e-4, "atol": atol, "check_dtype": False}
    joined = [torch.cat(pair) for pair in zip(first[0], second[0], strict=True)]
    torch.testing.assert_close(joined, rows, **close)
    summed = [a + b for a, b in zip(first[1], second[1], strict=True)]
    torch.testing.assert_close(summed, parameters, rtol=1e-4, atol=len(x) * atol, check_dtype=False)
    torch.testing.assert_close(first[2], statistics, rtol=1e-5, atol=1e-6, check_dtype=False)
    torch.testing.assert_close(first[2], second[2], rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([first[3], second[3]]), evaluated, **close)
    assert all(value.isfinite().all() for value in [*joined, *summed])


def test_two_ranks_give_the_losses_the_gradients_and_the_state_of_one_process(ranks):
    for values in ranks:
        torch.testing.assert_close(values["contrastive"], contrastive_losses(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(values["moco"], moco_steps(splits=4), rtol=1e-4, atol=1e-5)
