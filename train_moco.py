"""Pre-train an encoder by momentum contrast (MoCo v2): no labels, and a queue in place of large batches.

    python train_moco.py                                 compare with train_simclr.py: the same encoder
    python train_moco.py --queue 1024 --momentum 0.996 --temperature 0.1
    python train_moco.py --splits 1                      without shuffled batch normalisation
    python train_moco.py --encoder resnet50 --batch-size 128
    torchrun --nproc-per-node=4 train_moco.py --batch-size 1024

Results go to results/moco/<name>/: metrics.json, history.jsonl, figures, and encoder.pt, which
models.load_encoder opens. Every choice is made on validation images, which are not trained on; the test
images are scored once, at the end.
"""

import math
from argparse import Namespace

import torch
from torch import nn

from data import ImageSet, split
from evaluation.contrastive.encoder import (
    draw_encoder,
    draw_views,
    evaluate_encoder,
    report_encoder,
    save_encoder,
    save_predictions,
    watch_knn,
)
from evaluation.contrastive.options import EncoderOptions
from models import MoCo, across, contrastive_metrics, create, info_nce
from models.contrastive import HEADS
from utils import distributed
from utils.arguments import Number
from utils.cli import (
    Parser,
    choice,
    command,
    command_line,
    evaluation_flags,
    fill,
    load_data,
    optimizer_flags,
    recipe_table,
    resolve_machine,
    training_flags,
    view_flags,
)
from utils.plots.moco import plot_moco_curves
from utils.runs import tracking
from utils.runs.folder import RunFolder
from utils.runs.opening import open_run
from utils.runs.repeat import parts, repeat
from utils.training.config import FitConfig
from utils.training.contrastive import make_views
from utils.training.fit import Step, fit

# MoCo v2's head, stronger views and cosine schedule, with a warm-up; momentum, temperature and schedule were
# compared on validation images, with the encoder `fast`.
RECIPE = {
    "encoder": "compact",
    "head": "mlp-plain",
    "queue": 4096,
    "momentum": 0.99,
    "splits": 4,
    "temperature": 0.2,
    "views": ["affine", "elastic", "blur"],
    "strength": 1.0,
    "epochs": 16,
    "batch_size": 256,
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 0.02,
    "schedule": "warm-up-cosine",
    "ema": 0.0,
    "clip_norm": 0.0,
}
VAL_FRACTION = 0.1


def make_parser() -> Parser:
    parser = Parser(
        prog="train_moco.py",
        description=__doc__,
        parents=[training_flags(), optimizer_flags(), view_flags(), evaluation_flags()],
        epilog=recipe_table({"default": RECIPE}, "recipe"),
    )
    add = parser.add_argument_group("MoCo (defaults: the recipe's)").add_argument
    choice(add, "--head", HEADS, "projection head")
    add("--queue", type=Number(int, 2, 1000000), metavar="K", help="keys to tell the right one from")
    share = Number(float, 0, 1, open_high=True)
    add("--momentum", type=share, metavar="M", help="share of the key encoder that a step keeps")
    add(
        "--splits",
        type=Number(int, 1, 1024),
        metavar="N",
        help="groups of a batch with batch statistics of their own, shuffled between queries and keys, "
        "1 for none",
    )
    return parser


def moco_step(model: MoCo, splits: int, temperature: float) -> Step:
    """Return the step for `fit`: the loss over the queries of all ranks, and its metrics.

    Every rank computes all of the loss, and every rank's queue gets the keys of all ranks. batch_accuracy is
    the contrastive accuracy against the other keys of the batch. A query that knows its key by something that
    the batch shares, its statistics or the state of the key encoder, is right more often among the keys of
    other batches, however many they are.
    """
    network = distributed.data_parallel(model, synchronise=False)

    def step(views, _):
        queries, keys = views.unbind(1)
        model.update_key()
        q = distributed.gather(network(queries.contiguous(memory_format=torch.channels_last)))
        k = shuffled_keys(model, keys, splits)
        loss, accuracy = info_nce(q, k, model.queue.clone(), temperature, model.filled.clone())
        model.enqueue(k)
        q = q.detach()
        metrics = contrastive_metrics(torch.stack([q, k], 1)) | {"contrastive_accuracy": accuracy}
        with torch.autocast(q.device.type, enabled=False):  # bf16 would make ties
            found = (q @ k.T).argmax(1)
        metrics["batch_accuracy"] = (found == torch.arange(len(q), device=q.device)).float().mean()
        return loss, metrics

    return step


def shuffled_keys(model: MoCo, images: torch.Tensor, splits: int) -> torch.Tensor:
    """Return the keys of all ranks' images, in the order of the ranks.

    The images change places for it, so that a key's batch statistics come from other images than its query's.
    """
    images = distributed.gather(images)
    order = across(len(images), splits, images.device)
    mine = images[order.tensor_split(distributed.world())[distributed.rank()]]
    keys = distributed.gather(model.keys(mine.contiguous(memory_format=torch.channels_last)))
    return keys[order.argsort()]


def pretrain(
    args: Namespace,
    train_set: ImageSet,
    splits: tuple[torch.Tensor, torch.Tensor],
    seed: int,
    run: RunFolder,
) -> tuple[MoCo, dict]:
    """Train the query encoder; return the model and the facts of the training."""
    batches = make_views(args, train_set, splits[0], seed)
    torch.manual_seed(seed)
    how = {"queue": args.queue, "momentum": args.momentum, "splits": args.splits // distributed.world()}
    model = MoCo(create(args.encoder, 0), args.head, **how)
    model = model.to(args.device).to(memory_format=torch.channels_last)
    step = moco_step(model, args.splits, args.temperature)
    validate = watch_knn(train_set, splits, args.knn_every, args.epochs, args.precision)
    return model, fit(model, step, batches, FitConfig.from_args(args), run, validate)


def train(args: Namespace, data: tuple[ImageSet, ImageSet], job: dict, run: RunFolder) -> dict | None:
    """Pre-train once and evaluate the encoder; return the record (None on ranks that write nothing)."""
    train_set, _ = data
    splits = split(train_set.labels, VAL_FRACTION, job["seed"])
    model, facts = pretrain(args, train_set, splits, job["seed"], run)
    if not run.writes:
        return None
    encoder = save_encoder(run, model.encoder, train_set)
    head: nn.Module | None = model.query.head if args.head != "none" else None
    scores = evaluate_encoder(encoder, data, splits, EncoderOptions.from_args(args), job["seed"], head)
    save_predictions(run, scores, splits)
    counts = {"train_images": len(splits[0]), "seconds": facts["train_seconds"]}
    return {**job, **facts, **scores.record, **counts}


def plot_figures(run: RunFolder, args: Namespace, data: tuple[ImageSet, ImageSet]) -> None:
    """Draw the figures of a run: curves of all trainings, features of the first."""
    plot_moco_curves(run.history(), math.log(1 + args.queue), run.path("curves.png"))
    draw_views(run, args, data[0])
    draw_encoder(run, parts(run, args)[0], data, "features of MoCo")


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments, filled in from the recipe, and the command."""
    parser = make_parser()
    args = parser.parse_args(argv)
    shown = command_line(parser, args)
    fill(args, RECIPE)
    ranks = distributed.world()
    if args.queue < args.batch_size:
        parser.error(
            f"--queue {args.queue} can't hold the keys of a batch: --batch-size is {args.batch_size}"
        )
    if 2 * args.splits > args.batch_size:
        parser.error(f"--splits {args.splits} needs a --batch-size of at least {2 * args.splits}")
    if args.splits % ranks:
        parser.error(f"--splits must be a multiple of the {ranks} ranks, not {args.splits}")
    if args.schedule == "plateau":
        parser.error("--schedule plateau needs a validation loss, which pre-training doesn't have")
    resolve_machine(args)
    return args, shown


@command
def main(argv: list[str] | None = None) -> dict:
    args, shown = parse(argv)
    tracking.check(args.track)
    data = load_data(args)
    split(data[0].labels, VAL_FRACTION, args.seed)  # fail now, before a folder is made or replaced
    run = distributed.on_rank_zero(lambda: open_run("train_moco", args, "moco", shown))
    metrics = repeat(lambda job, part: train(args, data, job, part), args, run, together=True)
    if distributed.rank() == 0:
        plot_figures(run, args, data)
        report_encoder(metrics, run)
    return metrics


if __name__ == "__main__":
    main()
