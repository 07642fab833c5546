"""Contrastive pre-training: two views a image, whole steps, and the loss, against the usual way of each."""

import re
import resource
import sys
from pathlib import Path

import torch
import torch.multiprocessing as mp
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

import train_simclr
from benchmarks import measure
from benchmarks.augment import standard_affine
from benchmarks.measure import clock, ratio, row, standard_dataset
from data import load, view_augment
from models import ContrastiveModel, create, nt_xent
from utils.training.config import FitConfig
from utils.training.fit import Training

# torchvision has no fast elastic deformation of PIL images: both sides go without.
VIEWS = "affine,blur"
LOSS_SHAPE = (4096, 128)
LOSS_REPEATS = 5


def simclr(data_dir, device, repeats, images=4096, loss_shape=LOSS_SHAPE):
    """Images per second of the views alone and of training, and the loss's time and memory, side by side.

    Both sides train the default encoder and head with AdamW on batches of the same size, augmented by the
    same ranges. The usual way loads PIL images in worker processes, one view at a time, and trains in
    float32; its loss builds masks of all pairs, as most repositories do.
    """
    flags = [
        "--device",
        device.type,
        "--data-dir",
        str(data_dir),
        "--views",
        VIEWS,
        "--epochs",
        "1",
        "--quiet",
    ]
    args = train_simclr.parse(flags)[0]
    train_set, _ = load("mnist", data_dir, device)
    images = min(images, len(train_set.labels))
    args.batch_size = min(args.batch_size, images // 2)
    loader = train_simclr.make_views(args, train_set, torch.arange(images), seed=0)
    standard_set = Subset(TwoViews(standard_dataset(data_dir, True, *standard_views())), range(images))
    options = {"shuffle": True, "num_workers": measure.WORKERS, "pin_memory": device.type == "cuda"}
    standard_loader = DataLoader(standard_set, args.batch_size, **options)
    ours, standard = our_training(args, len(loader)), StandardTraining(args)
    rates = {"views": ([], []), "training": ([], [])}
    losses = {"time": ([], []), "memory": ([], [])}
    for repeat in range(repeats):
        rates["views"][0].append(rate_of(loader.epoch(repeat), device))
        rates["views"][1].append(rate_of(views_to(device, standard_loader), device))
        rates["training"][0].append(rate_of(loader.epoch(repeat), device, ours))
        rates["training"][1].append(rate_of(views_to(device, standard_loader), device, standard))
        for i, loss in enumerate((nt_xent, masked_nt_xent)):
            losses["time"][i].append(loss_seconds(loss, loss_shape, device))
            losses["memory"][i].append(loss_megabytes(loss, loss_shape, device))
        print(
            f"simclr, repeat {repeat + 1}:",
            {k: [round(v[-1]) for v in both] for k, both in rates.items()},
            flush=True,
        )
    on_cpu = device.type == "cpu"
    count, width = loss_shape
    rows = [
        row(f"{name}, {side}", "images/s", values)
        for name, both in rates.items()
        for side, values in zip(("ours", "standard way"), both, strict=True)
    ]
    for kind, unit in (("time", "s"), ("memory", "MB")):
        for side, values in zip(("ours", "with masks"), losses[kind], strict=True):
            rows.append(row(f"loss {kind}, {side}", unit, values))
    return {
        "what": f"SimCLR: images per second, and the loss of {count:,} x {width} features.",
        "rows": rows,
        "ratios": [
            ratio("two views alone, ours / standard way", *rates["views"], target=8 if on_cpu else None),
            ratio("training, ours / standard way", *rates["training"], target=3 if on_cpu else None),
            ratio("loss time, with masks / ours", *reversed(losses["time"])),
            ratio("loss memory, with masks / ours", *reversed(losses["memory"])),
        ],
        "images": images,
        "batch_size": args.batch_size,
        "views": VIEWS,
        "workers": measure.WORKERS,
        "precision": {"ours": args.precision, "standard": "fp32"},
    }


def rate_of(batches, device, step=None):
    """Images per second over the batches from the second on, the first being a warm-up."""
    start, count = None, 0
    for images, labels in batches:
        if step:
            step(images, labels)
        if start is None:
            start = clock(device)
        else:
            count += len(images)
    return count / (clock(device) - start)


def our_training(args, steps):
    """A function that makes one training step of train_simclr.py."""
    model = ContrastiveModel(create(args.encoder, 0), args.head).to(
        args.device, memory_format=torch.channels_last
    )
    training = Training(model, FitConfig.from_args(args), steps)
    step = train_simclr.contrastive_step(model, args.method, args.temperature)

    class Batch:
        def epoch(self, number):
            yield self.content

    batch = Batch()

    def take(images, labels):
        batch.content = (images, labels)
        training.train_epoch(step, batch, 1, tqdm(disable=True))

    return take


# --- The usual way ---


class TwoViews(torch.utils.data.Dataset):
    """Each image of a data set twice, transformed each time it is asked for."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        (first, label), (second, _) = self.dataset[index], self.dataset[index]
        return torch.stack([first, second]), label


def standard_views():
    """torchvision's per-image transforms with the ranges of VIEWS."""
    from torchvision import transforms  # here, because importing it takes seconds

    ranges = view_augment(VIEWS.split(","))
    return standard_affine(ranges), transforms.GaussianBlur(7, (0.01, ranges.blur))


def views_to(device, loader):
    return ((images.to(device), labels) for images, labels in loader)


class StandardTraining:
    """The same network, trained in float32 with the loss that builds masks."""

    def __init__(self, args):
        self.model = ContrastiveModel(create(args.encoder, 0), args.head).to(args.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), args.lr)
        self.temperature = args.temperature

    def __call__(self, images, labels):
        features = self.model(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        loss = masked_nt_xent(features, self.temperature)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def masked_nt_xent(features, temperature):
    """NT-Xent by boolean (2B, 2B) masks that pick positives and negatives out of all pairs."""
    count = len(features)
    rows = normalize(torch.cat([features[:, 0], features[:, 1]]), dim=1)
    which = torch.cat([torch.arange(count)] * 2).to(rows.device)
    same = which.unsqueeze(0) == which.unsqueeze(1)
    self_pairs = torch.eye(2 * count, dtype=torch.bool, device=rows.device)
    similarity = rows @ rows.T
    positives = similarity[same & ~self_pairs].view(2 * count, 1)
    negatives = similarity[~same].view(2 * count, -1)
    logits = torch.cat([positives, negatives], 1) / temperature
    return cross_entropy(logits, torch.zeros(2 * count, dtype=torch.long, device=rows.device))


# --- The loss alone: features of so many views, forward and backward ---


def loss_once(loss, shape, device):
    views, width = shape
    features = torch.randn(views // 2, 2, width, device=device, requires_grad=True)
    loss(features, 0.2).backward()


def loss_seconds(loss, shape, device):
    loss_once(loss, shape, device)  # warm-up
    start = clock(device)
    for _ in range(LOSS_REPEATS):
        loss_once(loss, shape, device)
    return (clock(device) - start) / LOSS_REPEATS


def loss_megabytes(loss, shape, device):
    """Peak memory of one forward and backward pass, MB; on a CPU that of a process of its own."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss_once(loss, shape, device)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with mp.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_rise, (loss, shape))


def _peak_rise(loss, shape):
    torch.set_num_threads(1)
    loss_once(loss, (8, shape[1]), "cpu")  # load what every call needs
    before = _peak_megabytes()
    loss_once(loss, shape, "cpu")
    return _peak_megabytes() - before


def _peak_megabytes():
    """The most memory that this process ever had. On Linux ru_maxrss begins at that of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
