"""Two ranks on one machine: together they compute what one process computes."""

import os

import torch
import torch.multiprocessing as mp
from helpers import free_port
from torch import nn

from models import ContrastiveModel, nt_xent, supcon
from utils import distributed


def _case():
    """A small model with batch norm and a batch of 11 images, two views each."""
    torch.manual_seed(1)
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3, 2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    encoder.num_features = 4 * 13 * 13
    model = ContrastiveModel(encoder, "mlp", dimensions=8)
    return model, torch.randn(11, 2, 1, 28, 28), torch.arange(11) % 4


def _losses_and_gradients(model, network, images, labels):
    found = []
    for loss_of in (lambda z, y: nt_xent(z, 0.2), lambda z, y: supcon(z, y, 0.2)):
        model.zero_grad()
        features = distributed.gather(network(images.flatten(0, 1)).unflatten(0, images.shape[:2]))
        loss = loss_of(features, distributed.gather(labels))
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in model.parameters())])
    return found, [b.clone() for b in model.buffers()]


def _rank(rank, port, path):
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT=port)
    torch.set_num_threads(1)
    distributed.start(torch.device("cpu"))
    model, images, labels = _case()
    # Seven images here, four there: the last batch of an epoch may be uneven.
    mine = slice(0, 7) if rank == 0 else slice(7, 11)
    result = _losses_and_gradients(model, distributed.data_parallel(model), images[mine], labels[mine])
    assert distributed.gather_objects({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
    torch.save(result, f"{path}/{rank}.pt")


def test_two_ranks_give_the_loss_the_gradients_and_the_statistics_of_one_process(tmp_path):
    mp.spawn(_rank, (free_port(), str(tmp_path)), nprocs=2)
    model, images, labels = _case()
    one, one_buffers = _losses_and_gradients(model, model, images, labels)
    for rank in (0, 1):
        found, buffers = torch.load(tmp_path / f"{rank}.pt")
        for mine, expected in zip(found, one, strict=True):
            for a, b in zip(mine, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        for a, b in zip(buffers, one_buffers, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
