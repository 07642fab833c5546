"""More than one process: torchrun's ranks. One process is the same code with world size 1."""

import datetime
import os

import torch
import torch.distributed as dist


def rank():
    return int(os.environ.get("RANK", 0))


def world():
    return int(os.environ.get("WORLD_SIZE", 1))


def start(device):
    """Join the process group that torchrun announces, if any; returns this rank's own device."""
    if world() > 1 and not dist.is_initialized():
        # Ranks that share out whole runs meet only at the end, which may be days apart.
        dist.init_process_group("gloo", timeout=datetime.timedelta(days=30))
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        torch.cuda.set_device(device)
    return device


def barrier():
    """Wait until every rank is here."""
    if dist.is_initialized():
        dist.barrier()


def first_then_all(function):
    """Call `function` on rank 0, then on every other rank: for work that fills a cache on disk."""
    if rank() == 0:
        result = function()
    barrier()
    return result if rank() == 0 else function()


def first(function):
    """Call `function` on rank 0 alone and give every rank its (picklable) result or its exception."""
    if not dist.is_initialized():
        return function()
    box = [None, None]
    if rank() == 0:
        try:
            box[0] = function()
        except Exception as error:  # the other ranks wait for an answer, whatever happens here
            box[1] = error
    dist.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]
