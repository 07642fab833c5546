"""Multiple instance learning: is there a 9 in this bag of digits?

    python train_mil.py                                     200 bags of about 10 digits, half of them positive
    python train_mil.py --method loss-attention --train-bags 50 --repeats 20
    python train_mil.py --builder natural --epochs 20 --bags-per-epoch 0
    python train_mil.py --encoder results/simclr/simclr/encoder.pt --train-bags 50
    python train_mil.py --sweep --repeats 20                all methods, five numbers of training bags
    python train_mil.py --sweep --method attention          this method alone
    torchrun --nproc-per-node=2 train_mil.py --sweep --repeats 20

A repeat (--repeats, the same as the shared --runs) has a seed of its own, and by it new bags from new pools
of images as well as a new network. Figures from bags of one builder are not comparable with the other's.
Test bags come from the test images and are scored once; epoch and threshold are chosen on validation bags.

Results go to results/mil/<name>/: metrics.json, history.jsonl, predictions.npz, plots and checkpoints; those
of a sweep into one file, sweep.json, and its plots.
"""

import argparse
import contextlib
import math
import re

import numpy as np
import torch

from data import POLICIES, split
from data.bags import BUILDERS, BagLoader, build
from models import load_encoder, save_model
from models.mil import MIL, MIL_ENCODERS, POOLINGS, create_mil, mil_loss
from utils import distributed, plots, plots_mil, track
from utils.bags import auc, bag_loss, best_threshold, predict_bags, score_bags
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
from utils.errors import Fault
from utils.fit import fit
from utils.repeat import parts, repeat
from utils.results import read_references
from utils.run import Run, open_run
from utils.sweep import collect

# Chosen on validation bags, one recipe for every method and number of training bags.
RECIPE = {
    "epochs": 5,
    "batch_size": 16,
    "optimizer": "adamw",
    "lr": 6e-3,
    "weight_decay": 0.02,
    "schedule": "one-cycle",
    "ema": 0.99,
    "clip_norm": 0.0,
    "augment": "affine",
    "patience": 0,
}
METHOD = "attention"
# The share of the training images whose digits fill the validation bags, and nothing else.
VAL_FRACTION = 1 / 6
# About a standard error of the AUC of 200 bags (Hanley and McNeil, 1982: 0.007 at 0.99, 0.012 at 0.97). Of
# epochs that validation doesn't tell apart the last one is the best choice, not the luckiest one.
AUC_ERROR = 0.01
SWEEP_BAGS = "50,100,150,200,500"
# The published figures of the plot hold for these bags only.
PUBLISHED_BAGS = {"target": 9, "mean_length": 10, "std_length": 2, "builder": "balanced"}


def bag_counts(text):
    """An argparse type: whole numbers with commas between them; stays a text, so that it can be shown."""
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
        raise argparse.ArgumentTypeError(f"expected numbers of bags as in 50,100, not {text!r}")
    return text


def make_parser():
    parser = Parser(prog="train_mil.py", description=__doc__, parents=[shared_flags(), optimizer_flags()])
    add = parser.add_argument
    add("--repeats", dest="runs", type=number(int, 1), metavar="RUNS", help="the same as --runs")
    add(
        "--sweep",
        nargs="?",
        const=SWEEP_BAGS,
        type=bag_counts,
        metavar="BAGS,BAGS,...",
        help=f"--method, or else every one, with each number of training bags; default: {SWEEP_BAGS}",
    )
    add = parser.add_argument_group("bags").add_argument
    add("--target", type=number(int, 0, 9), default=9, help="the digit that makes a bag positive; default: 9")
    add("--mean-length", type=number(float, 1), default=10, help="of a bag; default: 10")
    add("--std-length", type=number(float, 0), default=2, help="standard deviation; default: 2")
    add("--builder", choices=BUILDERS, default="balanced", help="default: balanced")
    add("--train-bags", type=number(int, 1), default=200, help="default: 200")
    add("--val-bags", type=number(int, 2), default=200, help="default: 200")
    add("--test-bags", type=number(int, 2), default=1000, help="default: 1000")
    add = parser.add_argument_group("method (defaults chosen on validation bags)").add_argument
    add("--method", choices=tuple(POOLINGS), help=f"default: {METHOD}; of a sweep all of them")
    add("--model", choices=tuple(MIL_ENCODERS), default="fast", help="instance encoder; default: fast")
    add("--encoder", metavar="PATH", help="an encoder or classifier that another script saved")
    add("--freeze", action="store_true", help="keep --encoder as it is")
    share = number(float, 0, 1, open_low=True)
    add("--encoder-rate", type=share, default=0.1, help="of --encoder's learning rate; default: 0.1")
    share = number(float, 0, 1, open_high=True)
    add("--dropout", type=share, default=0.0, help="of the features; default: 0")
    add("--augment", choices=tuple(POLICIES), help="default: the recipe's")
    add("--instance-weight", type=number(float, 0), default=1.0, help="in loss-attention; default: 1")
    add("--bags-per-epoch", type=number(int, 0), default=1800, help="default: 1800; 0: every bag once")
    return parser


def make_bags(args, data, seed):
    """Training, validation and test Bags of one repeat, from disjoint images."""
    train_set, test_set = data
    kind = {"target": args.target, "mean_length": args.mean_length, "std_length": args.std_length}
    kind["builder"] = args.builder
    train_pool, val_pool = split(train_set.labels, VAL_FRACTION, seed)
    test_pool = torch.arange(len(test_set.labels))
    try:
        return (
            build(train_set.labels, train_pool, args.train_bags, seed=(seed, 0), **kind),
            build(train_set.labels, val_pool, args.val_bags, seed=(seed, 1), **kind),
            build(test_set.labels, test_pool, args.test_bags, seed=(seed, 2), **kind),
        )
    except ValueError as error:  # a data set without the target
        raise Fault(f"cannot make such bags: {error}") from error


def make_model(args):
    """The network that the arguments describe, freshly initialised but for a given encoder."""
    if not args.encoder:
        return create_mil(args.model, args.method, args.dropout)
    model = MIL(load_encoder(args.encoder), args.method, args.dropout, standardise=True)
    if args.freeze:
        model.freeze()
    for parameter in model.encoder.parameters():
        parameter.rate = args.encoder_rate
    return model


def mil_step(model, method, instance_weight=1.0):
    """The step for `fit`: the loss of a batch of bags, and its accuracy."""

    def step(mask, images, labels):
        pooled = model(images, mask)
        loss = mil_loss(pooled, labels, method, instance_weight)
        return loss, {"accuracy": ((pooled.logits > 0) == (labels > 0)).float().mean()}

    return step


def fit_bags(args, data, job, run):
    """One training: (model, record, {"val": ..., "test": ...}), the last what is said of which bags."""
    train_set, test_set = data
    seed = job["seed"]
    train_bags, val_bags, test_bags = make_bags(args, data, seed)
    val_labels = val_bags.labels.numpy()
    batches = BagLoader(
        train_set,
        train_bags,
        args.batch_size,
        seed=seed,
        augment=POLICIES[args.augment],
        bags_per_epoch=args.bags_per_epoch,
    )
    torch.manual_seed(seed)
    model = make_model(args).to(args.device, memory_format=torch.channels_last)
    step = mil_step(model, args.method, args.instance_weight)

    def validate(model):
        p = predict_bags(model, train_set, val_bags, args.precision)["probabilities"]
        found, area = {"val_loss": bag_loss(p, val_labels)}, auc(p, val_labels)
        return found if area is None else {**found, "val_auc": area, "val_error": 1 - area}

    # The loss would prefer early epochs: a network gets surer of itself before its ranking gets worse.
    facts = fit(model, step, batches, args, run, validate, criterion="val_error", tolerance=AUC_ERROR)
    val = predict_bags(model, train_set, val_bags, args.precision)
    test = predict_bags(model, test_set, test_bags, args.precision)
    threshold = best_threshold(val["probabilities"], val_labels)
    record = {
        **job,
        **facts,
        "train_bags": len(train_bags),
        "train_instances": len(train_bags.indices),
        "threshold": threshold,
        **score_bags(val, val_bags, "val", threshold),
        **score_bags(test, test_bags, "test", threshold),
        "seconds": facts["train_seconds"],
    }
    return model, record, {"val": (val, val_bags), "test": (test, test_bags)}


def train(args, data, job, run):
    """One training: returns its record, leaves its files in `run`."""
    model, record, said = fit_bags(args, data, job, run)
    options = {"method": args.method, "dropout": args.dropout, "standardise": bool(args.encoder)}
    save_model(run.path("best.pt"), model, model.encoder.name, **options)
    saved = {}
    for part, (found, bags) in said.items():
        arrays = {**found, "labels": bags.labels, **bags._asdict()}
        saved |= {f"{part}_{key}": np.asarray(value) for key, value in arrays.items()}
    run.save_predictions(**saved)
    return record


def draw(run, args, test_set):
    """The run's figures, from its saved predictions and history."""
    each = [part.predictions() for part in parts(run, args)]
    plots.learning_curves(run.history(), run.path("curves.png"), metric="auc")
    roc = [plots_mil.roc_points(saved["test_probabilities"], saved["test_labels"]) for saved in each]
    plots_mil.roc_curves({args.method: roc}, run.path("roc.png"), "ROC on test bags")
    first = each[0]
    images = test_set.images[torch.from_numpy(first["test_indices"]).to(test_set.images.device)]
    plots_mil.bag_rows(
        images.cpu().numpy(),
        first["test_lengths"],
        first["test_keys"],
        first["test_attention"],
        first["test_probabilities"],
        run.path("bags.png"),
        f"{args.method}: test bags, each digit with its attention",
    )


def sweep_jobs(args):
    """Every cell: repeats outermost, so that a sweep that was stopped has all of the first ones."""
    return [
        {"method": method, "train_bags": count, "seed": args.seed + repeat}
        for repeat in range(args.runs)
        for count in map(int, args.sweep.split(","))
        for method in args.methods
    ]


def sweep(args, data, run, resume):
    """Train every cell that is not there yet; writes sweep.json and its plots."""

    def cell(job):
        own = argparse.Namespace(**{**vars(args), **job, "quiet": True})
        _, record, said = fit_bags(own, data, job, Run(run.folder, writes=False))
        found, bags = said["test"]
        return {**record, "test_roc": plots_mil.roc_points(found["probabilities"], bags.labels.numpy())}

    return collect(cell, sweep_jobs(args), args, run, resume, group=("method", "train_bags"))


def draw_sweep(run, args, content):
    references = []
    if all(getattr(args, key) == value for key, value in PUBLISHED_BAGS.items()):
        with contextlib.suppress(Fault):  # a results folder without a list of them
            references = published(read_references(args.results_dir))
    plots_mil.sweep_curves(content["cells"], run.path("auc.png"), references)
    plots_mil.sweep_roc(content["cells"], run.path("roc.png"))


def published(references):
    """The figures mil-<bags> and mil-attention-<bags> of references.json as points of the plot."""
    found = {}
    for key, reference in references.items():
        name, _, bags = key.rpartition("-")
        if name in ("mil", "mil-attention") and bags.isdigit():
            points = found.setdefault(name, {"name": reference["task"].partition(", ")[2], "points": []})
            points["points"].append([int(bags), reference["value"]])
    return [{**line, "name": f"{line['name']}, published"} for line in found.values()]


def parse(argv=None):
    """The arguments, checked, with every default filled in from the recipe."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.freeze and not args.encoder:
        parser.error("--freeze needs --encoder, the file of the encoder to keep")
    shown, resume = command_lines(parser, args)
    args.methods = [args.method] if args.method else list(POOLINGS)  # of a sweep
    fill(args, RECIPE | {"method": METHOD})
    if args.dry_run:
        args.val_bags, args.test_bags = 20, 20
    resolve_machine(args)
    return args, shown, resume


@command
def main(argv=None):
    args, shown, resume = parse(argv)
    track.check(args.track)
    data = load_data(args)
    make_bags(args, data, args.seed)  # faults now, before a folder is made or replaced
    make_model(args)
    run = distributed.first(
        lambda: open_run("train_mil", args, "sweep" if args.sweep else args.method, shown)
    )
    if args.sweep:
        content = sweep(args, data, run, resume(run))
        if distributed.rank() == 0:
            draw_sweep(run, args, content)
        return content
    metrics = repeat(lambda job, part: train(args, data, job, part), args, run, resume(run))
    if distributed.rank() == 0:
        draw(run, args, data[1])
        report(metrics, run)
    return metrics


def report(metrics, run):
    mean, std, runs = metrics["mean"], metrics["std"], metrics["runs"]
    text = f"test AUC {mean.get('test_auc', math.nan):.4f}, accuracy {mean['test_accuracy']:.2%}"
    if len(runs) > 1:
        text += f" (+- {std['test_auc']:.4f}, {std['test_accuracy']:.2%}) over {len(runs)} repeats"
    print(f"{text}, {metrics['seconds']:.0f} s of training; plots and metrics in {run.folder}/")


if __name__ == "__main__":
    main()
