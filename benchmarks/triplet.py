"""The triplet loss and its miners, against the usual ways."""

import importlib.util
import itertools
import os
from collections.abc import Callable
from functools import partial

import torch
from torch.profiler import profile

from benchmarks.measure import compare
from models.triplet import pair_masks, pairwise_distances, triplet_loss
from utils.training.forward import clock

MINERS = ("batch-hard", "semi-hard")
MARGIN, DISTANCE = 0.2, "unit-euclidean"
LIBRARY = "pytorch_metric_learning"
STANDARD = {
    "all triplets": "the losses of all triplets as one (B, B, B) tensor, mined in place without a gradient",
    LIBRARY: "pytorch-metric-learning: BatchHardMiner or TripletMarginMiner, then TripletMarginLoss",
}


def triplet(data_dir, device, repeats, shape=(32, 32, 128)):
    """Time and memory of the triplet loss with its miners and its gradient, against two usual ways.

    Those are one tensor of all triplets, and pytorch-metric-learning where it is installed.
    shape: classes, images of each, dimensions; by default 1,024 embeddings.
    """
    classes, each, width = shape
    labels = torch.arange(classes, device=device).repeat_interleave(each)

    def sample():
        # Clusters that overlap: with embeddings of pure noise no miner has much to choose from.
        centres = torch.randn(classes, width, device=device)[labels]
        noise = torch.randn(len(labels), width, device=device)
        return (centres + 1.5 * noise).requires_grad_(), labels

    losses = {"ours": our_loss, "all triplets": cube_loss}
    if importlib.util.find_spec(LIBRARY):
        losses[LIBRARY] = library_loss
    else:
        print(f"triplet: no {LIBRARY}; pip install -r requirements-benchmark.txt", flush=True)
    sides, ratios = {}, []
    for mining, (name, loss) in itertools.product(MINERS, losses.items()):
        work = partial(lambda loss, mining: loss(*sample(), mining).backward(), loss, mining)
        sides[f"{mining} time, {name}"] = "s", partial(seconds, work)
        sides[f"{mining} memory, {name}"] = "MB", partial(peak_megabytes, work)
        for what, target in ((f"{mining} time", 3), (f"{mining} memory", None)) if name in STANDARD else ():
            pair = f"{what}, {name}", f"{what}, ours"
            ratios.append((f"{what}, {name} / ours", *pair, STANDARD[name], target))
    return compare("triplet", repeats, sides, ratios)


def seconds(work: Callable, repeat: int = 0) -> float:
    """Return the time of a call, after one that is not timed."""
    work()
    start = clock()
    work()
    return clock() - start


def peak_megabytes(work: Callable, repeat: int = 0) -> float:
    """Return the peak memory of tensors during work(), in MB, summed over all devices."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silence the profiler
    with profile(profile_memory=True) as profiled:
        work()
    events = profiled.profiler.kineto_results.events()
    sizes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max(itertools.accumulate(size for _, size in sizes)) / 1e6


def our_loss(embeddings: torch.Tensor, labels: torch.Tensor, mining: str) -> torch.Tensor:
    return triplet_loss(embeddings, labels, MARGIN, mining, DISTANCE)


def cube_loss(embeddings: torch.Tensor, labels: torch.Tensor, mining: str) -> torch.Tensor:
    """The losses of all triplets as a (B, B, B) tensor: the hardest per anchor, or per anchor and positive.

    Mining in place and without a gradient keeps its memory as low as it can be.
    """
    distances = pairwise_distances(embeddings, DISTANCE)
    positives, negatives = pair_masks(labels)
    count = len(labels)
    with torch.no_grad():
        losses = distances.unsqueeze(2) - distances.unsqueeze(1) + MARGIN
        losses.masked_fill_(~(positives.unsqueeze(2) & negatives.unsqueeze(1)), -torch.inf)
        if mining == "batch-hard":
            highest, where = losses.flatten(1).max(1)
            anchor, positive, negative = torch.arange(count), where // count, where % count
            mined = highest > -torch.inf
        else:
            highest, negative = losses.masked_fill_(losses >= MARGIN, -torch.inf).max(2)
            anchor, positive = torch.arange(count).unsqueeze(1), torch.arange(count)
            mined = highest > 0
    hinge = (distances[anchor, positive] - distances[anchor, negative] + MARGIN).relu()
    return torch.where(mined, hinge, 0).sum() / mined.sum().clamp(min=1)


def library_loss(embeddings: torch.Tensor, labels: torch.Tensor, mining: str) -> torch.Tensor:
    """pytorch-metric-learning as its documentation combines it: a miner and the triplet margin loss."""
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner

    miner = BatchHardMiner() if mining == "batch-hard" else TripletMarginMiner(MARGIN, "semihard")
    return TripletMarginLoss(MARGIN)(embeddings, labels, miner(embeddings, labels))
