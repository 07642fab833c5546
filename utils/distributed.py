"""More than one process: torchrun's ranks. One process is the same code with world size 1."""

import atexit
import datetime
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from models.layers import CpuSyncBatchNorm
from utils.errors import UserError

# How long a rank waits for one that hangs; one that dies ends the wait at once. MEETING: for barriers, which
# ranks may reach far apart, after whole trainings.
STEP, MEETING = datetime.timedelta(minutes=30), datetime.timedelta(days=2)
# What gloo and NCCL report when another rank has ended.
LOST = "Connection (closed|reset) by peer|Broken pipe|Timed out waiting|remote process exited or there was"

_meeting: Any = None  # the process group of barriers and objects, on the CPU


def rank() -> int:
    return _of_environment("RANK", 0)


def world() -> int:
    return _of_environment("WORLD_SIZE", 1)


def _of_environment(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"{name}={text} in the environment is no number: torchrun sets it, or unset it")
    return int(text)


def start(device: torch.device) -> torch.device:
    """Join the process group that torchrun announces, if any; return this rank's own device."""
    global _meeting
    if world() > 1 and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        try:
            dist.init_process_group(backend, timeout=STEP)
        except (RuntimeError, ValueError) as error:  # no address, a port in use, a rank too many
            reason = str(error).partition("\n")[0]
            raise UserError(f"the {world()} ranks can't meet, start them with torchrun: {reason}") from error
        _meeting = dist.new_group(backend="gloo", timeout=MEETING)
        atexit.register(_leave)  # while the threads that the groups need still run
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        torch.cuda.set_device(device)
    return device


def _leave() -> None:
    global _meeting
    _meeting = None
    dist.destroy_process_group()


def barrier() -> None:
    """Wait for every rank."""
    if dist.is_initialized():
        dist.barrier(_meeting)


def first_then_all(function: Callable[[], Any]) -> Any:
    """Call `function` on rank 0, then on every other rank: for work that fills a cache on disk."""
    results: list[Any] = []
    on_rank_zero(lambda: results.append(function()))
    return results[0] if results else function()


def on_rank_zero(function: Callable[[], Any]) -> Any:
    """Call `function` on rank 0 only; return its (picklable) result on every rank.

    An exception is raised on rank 0; the other ranks end silently.
    """
    if not dist.is_initialized():
        return function()
    answer: list[Any] = [None, False]
    try:
        if rank() == 0:
            answer = [function(), True]
    finally:  # the other ranks wait for an answer in any case
        dist.broadcast_object_list(answer, group=_meeting)
    if not answer[1]:
        wait_for_the_end()
        sys.exit(2)
    return answer[0]


def is_lost_rank(error: RuntimeError) -> bool:
    """Return whether the error says that another rank has ended or hangs."""
    return dist.is_initialized() and bool(re.search(LOST, str(error)))


def wait_for_the_end() -> None:
    """Let torchrun notice the rank that failed first; it then ends this one."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        time.sleep(10)


def data_parallel(model: nn.Module, synchronise: bool = True) -> nn.Module:
    """Wrap a model so that the ranks train it together, each on its piece of every batch.

    Gradients are averaged over the ranks. synchronise: replace batch norm layers by ones that take their
    statistics over the whole batch, with the same parameters; otherwise each rank uses those of its own
    piece, and the running statistics of rank 0 count. With one process, return `model` itself.
    """
    if world() == 1:
        return model
    if synchronise:
        _synchronise_batch_norm(model)
    device = next(model.parameters()).device
    return nn.parallel.DistributedDataParallel(model, [device] if device.type == "cuda" else None)


def _synchronise_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            to = nn.SyncBatchNorm.convert_sync_batchnorm if child.weight.is_cuda else CpuSyncBatchNorm
            setattr(module, name, to(child))
        else:
            _synchronise_batch_norm(child)


def gather(rows: torch.Tensor) -> torch.Tensor:
    """Concatenate the rows (n, ...) of all ranks in the order of the ranks; n may differ between ranks.

    For a loss over the whole batch that every rank computes in full: each rank gets the gradient of its own
    rows, times the world size, because `data_parallel` averages over the ranks.
    """
    if world() == 1:
        return rows
    # On the CPU: reading a number from a GPU would make the host wait.
    counts = [torch.zeros(1, dtype=torch.int64) for _ in range(world())]
    dist.all_gather(counts, torch.tensor([len(rows)]))
    padded = rows.new_zeros(max(int(count) for count in counts), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    parts = [torch.zeros_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    parts = [part[: int(count)] for part, count in zip(parts, counts, strict=True)]
    if rows.requires_grad:
        parts[rank()] = rows.detach() + world() * (rows - rows.detach())
    return torch.cat(parts)


def gather_objects(value: Any) -> list[Any]:
    """Return the (picklable) values of all ranks, in the order of the ranks."""
    if world() == 1:
        return [value]
    values = [None] * world()
    dist.all_gather_object(values, value)
    return values
