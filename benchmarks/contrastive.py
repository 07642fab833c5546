"""Contrastive pre-training: two views per image, training steps and the loss, against the usual way."""

import copy
from argparse import Namespace
from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import Subset

import train_moco
import train_simclr
from benchmarks import measure
from benchmarks.cnn import standard_affine
from benchmarks.measure import rate_of
from data import load, view_augment
from models import ContrastiveModel, create
from utils.training.contrastive import make_views
from utils.training.fit import FitConfig

# Without elastic deformation on either side: torchvision has no fast one for PIL images.
VIEWS = "affine,blur"
STANDARD_VIEWS = f"torchvision.transforms of PIL images, one view at a time, {measure.LOADER}"
STANDARD_SIMCLR = f"the same network with AdamW in float32 and a loss with masks; {STANDARD_VIEWS}"
STANDARD_MOCO = (
    "the same networks with AdamW in float32, without shuffling, one parameter at a time in the momentum "
    f"update; {STANDARD_VIEWS}"
)


def simclr(data_dir, device, repeats, images=4096):
    """SimCLR: images per second of views and of training, against PIL views from a DataLoader.

    Both sides train the default encoder and head with AdamW on batches of the same size, augmented by the
    same ranges.
    """
    standard = standard_simclr, STANDARD_SIMCLR
    return pretraining("SimCLR", train_simclr, standard, data_dir, device, repeats, images)


def moco(data_dir, device, repeats, images=4096):
    """MoCo: images per second of views and of training, against PIL views from a DataLoader.

    Both sides train the default encoder and head with AdamW and the same queue, on batches of the same size,
    augmented by the same ranges.
    """
    return pretraining("MoCo", train_moco, (standard_moco, STANDARD_MOCO), data_dir, device, repeats, images)


def pretraining(name: str, script, standard: tuple[Callable, str], data_dir, device, repeats, images) -> dict:
    """Compare a script's training, and its views alone. standard: the usual step, and a line about it."""
    args = script.parse(["--device", device.type, "--views", VIEWS, "--quiet"])[0]
    train_set, _ = load("mnist", data_dir, device)
    images = min(images, len(train_set.labels))
    args.batch_size = min(args.batch_size, images // 2)
    batches = make_views(args, train_set, torch.arange(images), seed=0)
    dataset = Subset(measure.standard_dataset(data_dir, True, TwoViews()), range(images))
    loader = measure.standard_loader(dataset, args.batch_size, device)
    model, step = script.build(args)
    ours = measure.training_rate(model, step, FitConfig.from_values(vars(args)), batches, images, device)
    their_step = standard[0](args)
    sides = {
        "views, ours": ("images/s", lambda repeat: rate_of(batches.epoch(repeat), device)),
        "views, standard way": ("images/s", lambda repeat: rate_of(loader, device)),
        "training, ours": ("images/s", ours),
        "training, standard way": ("images/s", lambda repeat: rate_of(loader, device, their_step)),
    }
    ratios = []
    for what, text, goal in (("training", standard[1], 3), ("views", STANDARD_VIEWS, 8)):
        facts = f"{what}, ours", f"{what}, standard way", text, goal if device.type == "cpu" else None
        ratios.append((f"{what}, ours / standard way", *facts))
    settings = {key: getattr(args, key) for key in ("batch_size", "queue") if key in args}
    settings |= {"images": images, "views": VIEWS, "precision": {"ours": args.precision, "standard": "fp32"}}
    content = measure.compare(name.lower(), repeats, sides, ratios)
    return {"what": f"{name}: images per second of training, and of views alone.", **content, **settings}


class TwoViews:
    """A transform that makes two views of a PIL image, (2, 1, 28, 28), with the ranges of VIEWS."""

    def __init__(self):
        from torchvision import transforms  # here, because importing it takes seconds

        ranges = view_augment(VIEWS.split(","))
        blur = transforms.GaussianBlur(7, (0.01, ranges.blur))
        self.view = measure.standard_transform(standard_affine(ranges), blur)

    def __call__(self, image):
        return torch.stack([self.view(image), self.view(image)])


def standard_simclr(args: Namespace) -> Callable:
    """Return a step on the same network, in float32 with the loss that builds masks."""
    model = ContrastiveModel(create(args.model, 0), args.head).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), args.lr)

    def step(images, labels):
        features = model(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        measure.descend(optimizer, masked_nt_xent(features, args.temperature))

    return step


def masked_nt_xent(features: torch.Tensor, temperature: float) -> torch.Tensor:
    """NT-Xent of (B, 2, D) features by (2B, 2B) masks that pick positives and negatives out of all pairs."""
    count = len(features)
    rows = normalize(torch.cat([features[:, 0], features[:, 1]]), dim=1)
    image = torch.arange(count, device=rows.device).repeat(2)
    same = image.unsqueeze(0) == image.unsqueeze(1)
    self_pairs = torch.eye(2 * count, dtype=torch.bool, device=rows.device)
    similarity = rows @ rows.T
    positives = similarity[same & ~self_pairs].view(2 * count, 1)
    negatives = similarity[~same].view(2 * count, -1)
    logits = torch.cat([positives, negatives], 1) / temperature
    return cross_entropy(logits, torch.zeros(2 * count, dtype=torch.long, device=rows.device))


def standard_moco(args: Namespace) -> Callable:
    """Return the usual step: query, momentum update in a loop, key, logits of one positive and the queue."""
    encoder_q = ContrastiveModel(create(args.model, 0), args.head).to(args.device)
    encoder_k = copy.deepcopy(encoder_q).requires_grad_(False)
    queue = normalize(torch.randn(args.queue, 128, device=args.device), dim=1)
    optimizer = torch.optim.AdamW(encoder_q.parameters(), args.lr)
    pointer = 0

    def step(images, labels):
        nonlocal pointer
        first, second = images.unbind(1)
        q = normalize(encoder_q(first), dim=1)
        with torch.no_grad():
            for key, query in zip(encoder_k.parameters(), encoder_q.parameters(), strict=True):
                key.copy_(args.momentum * key + (1 - args.momentum) * query)
            k = normalize(encoder_k(second), dim=1)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / args.temperature
        measure.descend(
            optimizer, cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))
        )
        rows = torch.arange(pointer, pointer + len(k), device=k.device) % len(queue)
        queue[rows] = k
        pointer = (pointer + len(k)) % len(queue)

    return step
