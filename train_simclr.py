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
import math

import torch
from torch import nn

from data import VIEW_PARTS, BatchLoader, generator, split, view_augment
from models import (
    ENCODERS,
    ContrastiveModel,
    contrastive_metrics,
    create,
    load_encoder,
    nt_xent,
    save_model,
    supcon,
)
from models.contrastive import HEADS
from utils import distributed, track
from utils import plots_representation as figures
from utils.cli import (
    Parser,
    command,
    command_lines,
    fill,
    load_data,
    number,
    optimizer_flags,
    resolve_machine,
    shared_flags,
)
from utils.evaluate import in_order, outputs
from utils.few import few_label_scores, finetuned_score, spread_cluster_scores
from utils.fit import fit
from utils.repeat import parts, repeat
from utils.representation import (
    accuracy,
    augmented_probe_scores,
    cluster,
    clustering_scores,
    encode,
    frozen_scores,
    knn,
    neighbour_graph,
    neighbours,
    plane,
)
from utils.run import open_run

METHODS = ("simclr", "supcon")
# Chosen on validation images.
RECIPE = {
    "epochs": 16,
    "batch_size": 256,
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
# What the figures show: test images on the map, neighbours of a digit, pairs of views.
MAPPED, SHOWN_NEIGHBOURS, SHOWN_PAIRS = 2000, 10, 24
MAP_HEADER = "digit,x,y,pixels_x,pixels_y\n"


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
    add("--temperature", type=number(float, 0, open_low=True), default=0.5, help="default: 0.5")
    add("--views", type=view_parts, default="affine,elastic,blur", help="default: affine,elastic,blur")
    add("--strength", type=number(float, 0), default=1.0, help="scales the views' augmentation")
    add("--chunk", type=number(int, 2), default=0, help="images forwarded at a time, when memory is short")
    add(
        "--draws",
        type=number(int, 1),
        default=10,
        help="draws of 1, 10 and 100 labels a class; default: 10",
    )
    add(
        "--distill",
        action="store_true",
        help="self-training without labels, and from 1 and 10 a class",
    )
    add("--student", choices=tuple(ENCODERS), default="fast", help="network to distil into; default: fast")
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


def view_batches(args, images, indices, seed):
    """Two differently augmented views of every image; this rank's piece of each batch."""
    return BatchLoader(
        images,
        indices,
        args.batch_size,
        seed=seed,
        augment=view_augment(args.views.split(","), args.strength),
        views=2,
        rank=distributed.rank(),
        world=distributed.world(),
    )


def pretrain(args, train_set, train_idx, val_idx, seed, run):
    """Train encoder and head; returns the ContrastiveModel and the facts of the training."""
    batches = view_batches(args, train_set, train_idx, seed)
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


def evaluate(args, data, splits, encoder, head, seed, run):
    """Every score of the pre-trained encoder; of a random one and of raw pixels as the floor."""
    torch.manual_seed(seed)
    floor = create(args.encoder, 0).to(args.device, memory_format=torch.channels_last)
    features = {
        "": encode(encoder, data, *splits, args.precision),
        "random_": encode(floor, data, *splits, args.precision),
        "pixels_": encode(nn.Flatten(), data, *splits, "fp32"),
    }
    encoders = {"": encoder, "random_": floor}
    record, probes = {}, {}
    for prefix in features:
        found, probes[prefix] = frozen_scores(features[prefix])
        record |= with_prefix(prefix, found)
    save_predictions(run, features[""], probes[""], splits)
    clusters = cluster(features[""].train, features[""].test)
    record |= clustering_scores(features[""], clusters)
    graph = neighbour_graph(features[""].train)
    record |= spread_cluster_scores(args, data, splits[0], features[""], graph, clusters[0], seed)
    record |= augmented_probe_scores(encoder, features[""], data[0], splits[0], args.precision)
    for prefix, network in encoders.items():
        found = finetuned_score(network, probes[prefix], data, splits[0], args, seed)
        record |= with_prefix(prefix, found)
    if args.head != "none":
        after = features[""].map(head.eval())
        found = frozen_scores(after)[0] | clustering_scores(after, cluster(after.train, after.test))
        record |= with_prefix("head_", found)
    return record | few_label_scores(args, data, splits[0], features, graph, encoders, seed)


def save_predictions(run, f, probe, splits):
    """The probe's probabilities, like any classifier's, and what the figures show of the features."""
    train_idx, val_idx = splits
    mapped = torch.randperm(len(f.test), generator=generator(0))[:MAPPED]
    queries = torch.stack([(f.test_labels == digit).nonzero()[0, 0] for digit in range(10)])
    nearest = neighbours(f.test[queries], f.train, SHOWN_NEIGHBOURS)[1]
    saved = {
        "test_probabilities": probe(f.test).softmax(1),
        "test_labels": f.test_labels,
        "val_probabilities": probe(f.val).softmax(1),
        "val_labels": f.val_labels,
        "val_indices": val_idx,
        "queries": queries,
        "nearest": train_idx[nearest.cpu()],
        "mapped": mapped,
        "map_features": f.test[mapped],
    }
    run.save_predictions(**{key: value.cpu().numpy() for key, value in saved.items()})


def with_prefix(prefix, scores):
    """test_knn_accuracy -> test_random_knn_accuracy."""
    return {key.replace("_", f"_{prefix}", 1): value for key, value in scores.items()}


def train(args, data, job, run):
    """One pre-training and the evaluation of what it learned: its record."""
    train_set = data[0]
    splits = split(train_set.labels, VAL_FRACTION, job["seed"])
    model, facts = pretrain(args, train_set, *splits, job["seed"], run)
    if not run.writes:
        return None
    save_model(run.path("encoder.pt"), model.encoder, args.encoder, num_classes=0)
    # A fresh copy: under torchrun the trained one has synchronised layers, which wait for the other ranks.
    encoder = load_encoder(run.path("encoder.pt")).to(args.device, memory_format=torch.channels_last)
    record = evaluate(args, data, splits, encoder, model.head, job["seed"], run)
    return {**job, **facts, **record, "train_images": len(splits[0]), "seconds": facts["train_seconds"]}


def draw(run, args, data):
    """The figures of a run: learning curves of all trainings, the rest from the first one's features."""
    train_set, test_set = data
    found = parts(run, args)[0].predictions()
    figures.contrastive_curves(run.history(), math.log(2 * args.batch_size - 1), run.path("curves.png"))
    views, _ = next(view_batches(args, train_set, torch.arange(SHOWN_PAIRS), args.seed).epoch())
    figures.view_pairs(views.squeeze(2).cpu().numpy(), run.path("views.png"))
    queries, nearest = torch.from_numpy(found["queries"]), torch.from_numpy(found["nearest"])
    figures.nearest_neighbours(
        test_set.images.cpu()[queries].squeeze(1).numpy(),
        train_set.images.cpu()[nearest].squeeze(2).numpy(),
        test_set.labels.cpu()[queries].numpy(),
        train_set.labels.cpu()[nearest].numpy(),
        run.path("neighbours.png"),
    )
    mapped = torch.from_numpy(found["mapped"])
    digits = test_set.labels.cpu()[mapped].numpy()
    pixels = plane(test_set.images.cpu()[mapped].flatten(1).float())
    features = plane(torch.from_numpy(found["map_features"]))
    rows = zip(digits.tolist(), features.tolist(), pixels.tolist(), strict=True)
    lines = (f"{digit},{x:.1f},{y:.1f},{px:.1f},{py:.1f}\n" for digit, (x, y), (px, py) in rows)
    run.write_text("map.csv", MAP_HEADER + "".join(lines))
    maps = (("raw pixels", pixels), (f"features of {args.method}", features))
    maps = [{"title": title, "points": points, "labels": digits} for title, points in maps]
    figures.feature_maps(maps, run.path("map.png"))


def parse(argv=None):
    parser = make_parser()
    args = parser.parse_args(argv)
    shown, resume = command_lines(parser, args)
    fill(args, RECIPE)
    if args.batch_size < 2:
        parser.error("--batch-size must be at least 2: a contrastive loss compares images")
    if args.schedule == "plateau":
        parser.error("--schedule plateau needs a validation loss, which pre-training doesn't have")
    resolve_machine(args)
    return args, shown, resume


@command
def main(argv=None):
    args, shown, resume = parse(argv)
    track.check(args.track)
    data = load_data(args)
    run = distributed.first(lambda: open_run("train_simclr", args, args.method, shown))
    metrics = repeat(lambda job, part: train(args, data, job, part), args, run, resume(run), together=True)
    if distributed.rank() == 0:
        draw(run, args, data)
        report(metrics, run)
    return metrics


def report(metrics, run):
    mean = metrics["mean"]
    print(
        f"test accuracy on frozen features: linear {mean['test_linear_accuracy']:.2%}, k-NN "
        f"{mean['test_knn_accuracy']:.2%}; {metrics['seconds']:.0f} s of pre-training; plots and metrics in "
        f"{run.folder}/"
    )


if __name__ == "__main__":
    main()
