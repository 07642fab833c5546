"""More than one process: torchrun's ranks. One process is the same code with world size 1."""

import datetime
import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from models.layers import CpuSyncBatchNorm


def rank() -> int:
    return int(os.environ.get("RANK", 0))


def world() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def start(device: torch.device) -> torch.device:
    """Join the process group that torchrun announces, if any; return this rank's own device."""
    if world() > 1 and not dist.is_initialized():
        # Ranks that share out whole runs meet only at the end, which may be days later.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=datetime.timedelta(days=30))
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        torch.cuda.set_device(device)
    return device


def barrier() -> None:
    """Wait until every rank is here."""
    if dist.is_initialized():
        dist.barrier()


def first_then_all(function: Callable[[], Any]) -> Any:
    """Call `function` on rank 0, then on every other rank: for work that fills a cache on disk."""
    if rank() == 0:
        result = function()
    barrier()
    return result if rank() == 0 else function()


def on_rank_zero(function: Callable[[], Any]) -> Any:
    """Call `function` on rank 0 only; every rank gets its (picklable) result or its exception."""
    if not dist.is_initialized():
        return function()
    box: list[Any] = [None, None]
    if rank() == 0:
        try:
            box[0] = function()
        except Exception as error:  # the other ranks wait for an answer in any case
            box[1] = error
    dist.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]


# --- Ranks that share one training ---


def data_parallel(model: nn.Module, synchronise: bool = True) -> nn.Module:
    """Wrap a model so that the ranks train it together, each on its piece of every batch.

    Gradients are averaged over the ranks (DistributedDataParallel). synchronise: take batch statistics over
    the whole batch; the parameters stay those of `model`, but its batch norm layers are replaced: in training
    mode they wait for all ranks. Otherwise each rank has the statistics of its own piece, and rank 0 the
    running ones that count. With one process, returns `model` itself.
    """
    if world() == 1:
        return model
    if synchronise:
        _synchronise_batch_norm(model)
    device = next(model.parameters()).device
    return nn.parallel.DistributedDataParallel(model, [device] if device.type == "cuda" else None)


def gather(rows: torch.Tensor) -> torch.Tensor:
    """Concatenate the rows (n, ...) of all ranks in the order of the ranks; n may differ between ranks.

    It is for a loss over the whole batch that every rank computes in full. Each rank then has the gradient
    of its own rows only, scaled by the world size, because `data_parallel` averages over the ranks.
    """
    if world() == 1:
        return rows
    # On the CPU: numbers on a GPU would have to be waited for.
    counts = [torch.zeros(1, dtype=torch.int64) for _ in range(world())]
    dist.all_gather(counts, torch.tensor([len(rows)]))
    padded = rows.new_zeros(max(int(n) for n in counts), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    parts = [torch.zeros_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    parts = [part[: int(n)] for part, n in zip(parts, counts, strict=True)]
    if rows.requires_grad:
        parts[rank()] = rows.detach() + world() * (rows - rows.detach())
    return torch.cat(parts)


def gather_objects(value: Any) -> list[Any]:
    """Return the (picklable) values of all ranks, in the order of the ranks."""
    if world() == 1:
        return [value]
    found = [None] * world()
    dist.all_gather_object(found, value)
    return found


def _synchronise_batch_norm(module):
    """Replace every batch norm by a synchronised layer with the same parameters and statistics."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            on_gpu = child.weight.is_cuda
            new = nn.SyncBatchNorm.convert_sync_batchnorm(child) if on_gpu else CpuSyncBatchNorm(child)
            setattr(module, name, new)
        else:
            _synchronise_batch_norm(child)
