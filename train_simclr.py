"""Pre-train an encoder by contrastive learning, and measure what its frozen features are worth.

    python train_simclr.py                               SimCLR: no labels
    python train_simclr.py --method supcon               SupCon: with the labels
    python train_simclr.py --encoder resnet18 --batch-size 1024 --chunk 256
    python train_simclr.py --views affine,erase --strength 0.5
    python train_simclr.py --distill                     and self-training from few labels
    torchrun --nproc-per-node=4 train_simclr.py --batch-size 2048

Results go to results/simclr/<name>/: metrics.json, history.jsonl, plots, and encoder.pt, which
models.load_encoder opens. Every choice is made on validation images, which the encoder never sees in
training; the test images are scored once, at the end.
"""

import argparse

import torch

from data import VIEW_PARTS, BatchLoader, load, split, view_augment
from models import ENCODERS, ContrastiveModel, contrastive_metrics, create, nt_xent, save_model, supcon
from models.contrastive import HEADS
from utils import distributed, track
from utils.cli import (
    Parser,
    command,
    command_line,
    fill,
    number,
    optimizer_flags,
    resolve_device,
    resolve_precision,
    shared_flags,
)
from utils.evaluate import in_order, outputs
from utils.fit import fit
from utils.repeat import repeat
from utils.representation import accuracy, knn
from utils.run import open_run

METHODS = ("simclr", "supcon")
# Chosen on validation images.
RECIPE = {
    "epochs": 25,
    "batch_size": 512,
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 0.02,
    "schedule": "warm-up-cosine",
    "ema": 0.0,
    "clip_norm": 0.0,
    "patience": 0,
}
VAL_FRACTION = 0.1
# The k-NN accuracy that is watched while training looks for neighbours among so many training images.
WATCHED_REFERENCE = 10_000


def view_parts(text):
    """An argparse type: comma-separated names of VIEW_PARTS."""
    unknown = [part for part in text.split(",") if part not in VIEW_PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown part of the augmentation {unknown[0]!r}: choose from {', '.join(VIEW_PARTS)}"
        )
    return text


def make_parser():
    parser = Parser(prog="train_simclr.py", description=__doc__, parents=[shared_flags(), optimizer_flags()])
    add = parser.add_argument_group("contrastive learning").add_argument
    add("--method", choices=METHODS, default="simclr", help="default: simclr")
    add("--encoder", choices=tuple(ENCODERS), default="compact", help="default: compact")
    add("--head", choices=HEADS, default="mlp", help="projection head; default: mlp")
    add("--temperature", type=number(float, 0, open_low=True), default=0.2, help="default: 0.2")
    add("--views", type=view_parts, default=",".join(VIEW_PARTS), help="parts of the views' augmentation")
    add("--strength", type=number(float, 0), default=1.0, help="scales the views' augmentation")
    add("--chunk", type=number(int, 2), default=0, help="images forwarded at a time, when memory is short")
    add("--knn-every", type=number(int, 1), default=5, help="epochs between k-NN checks; default: 5")
    return parser


def contrastive_step(network, method, temperature):
    """The step for `fit`: the loss over the views of all ranks, its metrics."""

    def step(images, labels):
        features = network(images.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        features = distributed.gather(features.float().unflatten(0, images.shape[:2]))
        if method == "supcon":
            loss = supcon(features, distributed.gather(labels), temperature)
        else:
            loss = nt_xent(features, temperature)
        return loss, contrastive_metrics(features.detach())

    return step


def pretrain(args, train_set, train_idx, val_idx, seed, run):
    """Train encoder and head; returns the ContrastiveModel and the facts of the training."""
    batches = BatchLoader(
        train_set,
        train_idx,
        args.batch_size,
        seed=seed,
        augment=view_augment(args.views.split(","), args.strength),
        views=2,
        rank=distributed.rank(),
        world=distributed.world(),
    )
    torch.manual_seed(seed)
    model = ContrastiveModel(create(args.encoder, 0), args.head, chunk=2 * args.chunk)
    model = model.to(args.device, memory_format=torch.channels_last)
    reference, queries = in_order(train_set, train_idx[:WATCHED_REFERENCE]), in_order(train_set, val_idx)

    def watch(model):
        epoch = len(run.history()) + 1
        if epoch % args.knn_every and epoch < args.epochs:
            return {}
        known, known_labels = outputs(model.encoder, reference, args.precision)
        features, labels = outputs(model.encoder, queries, args.precision)
        return {"val_knn_accuracy": accuracy(knn(known, known_labels, features), labels)}

    step = contrastive_step(distributed.share(model), args.method, args.temperature)
    return model, fit(model, step, batches, args, run, watch)


def train(args, data, job, run):
    train_set, test_set = data
    train_idx, val_idx = split(train_set.labels, VAL_FRACTION, job["seed"])
    model, facts = pretrain(args, train_set, train_idx, val_idx, job["seed"], run)
    if not run.writes:
        return None
    save_model(run.path("encoder.pt"), model.encoder, args.encoder, num_classes=0)
    return {**job, **facts, "seconds": facts["train_seconds"]}


def parse(argv=None):
    parser = make_parser()
    args = parser.parse_args(argv)
    args.quiet |= distributed.rank() > 0
    shown = command_line(parser, args)
    resume = command_line(parser, args, leave_out={"name", "resume", "overwrite"})
    fill(args, RECIPE | {"patience": 0})
    if args.batch_size < 2:
        parser.error("--batch-size must be at least 2: a contrastive loss compares images")
    if args.dry_run:
        args.epochs = 1
    args.device = str(distributed.start(resolve_device(args.device)))
    args.precision = resolve_precision(args.precision, torch.device(args.device))
    return args, shown, resume


@command
def main(argv=None):
    args, shown, resume = parse(argv)
    track.check(args.track)
    data = distributed.first_then_all(lambda: load(args.dataset, args.data_dir, args.device))
    if args.dry_run:
        data = [part._replace(images=part.images[:1000], labels=part.labels[:1000]) for part in data]
    run = distributed.first(lambda: open_run("train_simclr", args, args.method, shown))
    resume += f" --name {run.folder.name} --resume"
    metrics = repeat(lambda job, part: train(args, data, job, part), args, run, resume, together=True)
    return metrics


if __name__ == "__main__":
    main()
