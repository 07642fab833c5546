"""Metric learning: mining and the triplet loss against the usual ways, and training against a DataLoader."""

import functools
import importlib.util
import random
from collections.abc import Callable
from pathlib import Path

import torch
import torch.multiprocessing as mp
from torch.utils.data import Dataset

import train_triplet
from benchmarks import measure
from benchmarks.measure import SameBatch, alternate, clock, ratio, row, standard_dataset, timed_training
from benchmarks.measure import standard_loader as make_standard_loader
from benchmarks.simclr import _peak_megabytes
from data import load
from models import ContrastiveModel, create
from models.triplet import pair_masks, pairwise_distances, triplet_loss
from utils.training.config import FitConfig

MINERS = ("batch-hard", "semi-hard")
# Classes, images of each, dimensions: 1,024 embeddings.
LOSS_SHAPE = (32, 32, 128)
MARGIN, DISTANCE = 0.2, "unit-euclidean"
LOSS_REPEATS = 3
LIBRARY = "pytorch_metric_learning"
ENCODER = "fast"
STANDARD_TRAINING = (
    "the same network with Adam in float32 on random triplets of PIL images, in a DataLoader with "
    f"{measure.WORKERS} worker processes"
)
STANDARD_LOSS = {
    "all triplets": "the losses of all triplets as one (B, B, B) tensor, mined in place without a gradient",
    LIBRARY: "pytorch-metric-learning: BatchHardMiner or TripletMarginMiner, then TripletMarginLoss",
}


def triplet(data_dir, device, repeats, images=4096, loss_shape=LOSS_SHAPE):
    """Time and memory of the loss with its gradient, and images trained per second, side by side.

    pytorch-metric-learning is left out when it is not installed. Neither side of the training augments.
    """
    losses = {"ours": our_loss, "all triplets": cube_loss}
    if importlib.util.find_spec(LIBRARY):
        losses[LIBRARY] = library_loss
    else:
        print(f"triplet: no {LIBRARY}; pip install -r requirements-benchmark.txt", flush=True)
    sides: dict[str, Callable[[int], float]] = {
        "training, ours": our_training(data_dir, device, images),
        "training, standard way": standard_training(data_dir, device, images),
    }
    for mining in MINERS:
        for name, loss in losses.items():
            work = functools.partial(loss_once, loss, mining, loss_shape)
            sides[f"{mining} time, {name}"] = functools.partial(seconds_of, work, device)
            sides[f"{mining} memory, {name}"] = functools.partial(megabytes_of, work, device)
    found = alternate("triplet", repeats, sides)
    units = {"training": "images/s", "time": "s", "memory": "MB"}
    classes, each, width = loss_shape
    return {
        "what": f"Metric learning: the triplet loss of {classes * each:,} x {width} embeddings, forward and "
        "backward, and images trained per second.",
        "rows": [row(side, units[side.split(",")[0].split()[-1]], values) for side, values in found.items()],
        "ratios": all_ratios(found, list(losses)[1:]),
        "images": images,
    }


def all_ratios(found: dict[str, list[float]], others: list[str]) -> list[dict]:
    """The ratios of all measured pairs; the time of mining has a goal."""
    sides = found["training, ours"], found["training, standard way"]
    ratios = [ratio("training, ours / standard way", *sides, STANDARD_TRAINING)]
    for what, target in (("time", 3), ("memory", None)):
        for mining in MINERS:
            for other in others:
                pair = found[f"{mining} {what}, {other}"], found[f"{mining} {what}, ours"]
                ratios.append(ratio(f"{mining} {what}, {other} / ours", *pair, STANDARD_LOSS[other], target))
    return ratios


# --- The loss alone: forward and backward ---


def our_loss(mining, embeddings, labels):
    return triplet_loss(embeddings, labels, MARGIN, mining, DISTANCE)


def cube_loss(mining, embeddings, labels):
    """The losses of all triplets as a (B, B, B) tensor: the hardest per anchor, or per anchor and positive.

    It is mined without a gradient and in place, the least memory that this way can do with.
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
    found = (distances[anchor, positive] - distances[anchor, negative] + MARGIN).relu()
    return torch.where(mined, found, 0).sum() / mined.sum().clamp(min=1)


def library_loss(mining, embeddings, labels):
    """pytorch-metric-learning as its documentation puts it together: a miner, and the triplet margin loss."""
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner

    miner = BatchHardMiner() if mining == "batch-hard" else TripletMarginMiner(MARGIN, "semihard")
    return TripletMarginLoss(MARGIN)(embeddings, labels, miner(embeddings, labels))


def loss_once(loss, mining, shape, device):
    classes, each, width = shape
    labels = torch.arange(classes, device=device).repeat_interleave(each)
    # Clusters that overlap: with embeddings of pure noise no miner has much to choose from.
    centres = torch.randn(classes, width, device=device)[labels]
    embeddings = (centres + 1.5 * torch.randn(len(labels), width, device=device)).requires_grad_()
    loss(mining, embeddings, labels).backward()


def seconds_of(work, device, repeat=0):
    work(device)  # warm-up
    start = clock(device)
    for _ in range(LOSS_REPEATS):
        work(device)
    return (clock(device) - start) / LOSS_REPEATS


def megabytes_of(work, device, repeat=0):
    """Peak memory of one forward and backward pass, MB; on a CPU that of a process of its own."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work(device)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with mp.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_rise, (work,))


def _peak_rise(work):
    torch.set_num_threads(1)
    loss, mining, shape = work.args
    loss_once(loss, mining, (2, 4, shape[2]), torch.device("cpu"))  # load what every call needs
    before = _peak_megabytes()
    work(torch.device("cpu"))
    return _peak_megabytes() - before


# --- Training: images per second ---


def our_training(data_dir: Path | str, device: torch.device, images: int) -> Callable[[int], float]:
    """Return a function that trains one epoch as train_triplet.py does and returns the images per second."""
    flags = ["--device", device.type, "--encoder", ENCODER, "--loss", "triplet", "--strength", "0", "--quiet"]
    args = train_triplet.parse(flags)[0]
    train_set, _ = load("mnist", data_dir, device)
    chosen = torch.arange(min(images, len(train_set.labels)))
    args.batch_images = min(args.batch_images, int(train_set.labels[chosen].bincount().min()))
    batches = train_triplet.make_batches(args, train_set, chosen, seed=0)
    model = ContrastiveModel(create(ENCODER, 0), args.head).to(device).to(memory_format=torch.channels_last)
    step = train_triplet.embedding_step(model, args)
    train = timed_training(model, step, FitConfig.from_args(args), len(batches))
    train(SameBatch(next(batches.epoch()), 1))  # warm-up
    count = len(batches) * batches.classes_per_batch * batches.images_per_class
    return lambda repeat: count / train(batches, repeat + 1)


class Triplets(Dataset):
    """An anchor, a random positive and a random negative, transformed each time they are asked for."""

    def __init__(self, dataset, count):
        self.dataset, self.count = dataset, count
        self.members: dict[int, list[int]] = {}
        for i, label in enumerate(dataset.targets[:count].tolist()):
            self.members.setdefault(label, []).append(i)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        anchor, label = self.dataset[index]
        other = random.choice([value for value in self.members if value != label])
        chosen = random.choice(self.members[label]), random.choice(self.members[other])
        return torch.stack([anchor, *(self.dataset[i][0] for i in chosen)])


def standard_training(
    data_dir: Path | str, device: torch.device, images: int, batch_size: int = 85
) -> Callable[[int], float]:
    """Return a function that trains on 3 x batch_size images a step and returns the images per second."""
    dataset = standard_dataset(data_dir, True)
    loader = make_standard_loader(Triplets(dataset, images // 3), batch_size, device)
    model = create(ENCODER, 0).to(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    criterion = torch.nn.TripletMarginLoss(MARGIN)

    def rate(repeat):
        start, count = 0.0, 0
        for number, triplets in enumerate(loader):
            parts = triplets.to(device).unbind(1)
            loss = criterion(*(model(part) for part in parts))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if number == 0:
                start = clock(device)  # the worker processes have started
            else:
                count += 3 * len(triplets)
        return count / (clock(device) - start)

    return rate
