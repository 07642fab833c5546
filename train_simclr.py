"""Pre-train an encoder by contrastive learning, and measure what its frozen features are worth.

    python train_simclr.py                               SimCLR: no labels
    python train_simclr.py --method supcon               SupCon: with the labels
    python train_simclr.py --encoder resnet18 --batch-size 1024 --chunk 256
    python train_simclr.py --views affine,erase --strength 0.5
    python train_simclr.py --distill                     and self-training from few labels
    torchrun --nproc-per-node=4 train_simclr.py --batch-size 2048

Results go to results/simclr/<name>/: metrics.json, history.jsonl, figures, and encoder.pt, which
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
from models import ContrastiveModel, contrastive_metrics, create, nt_xent, supcon
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
from utils.plots import contrastive as plots
from utils.runs import tracking
from utils.runs.folder import RunFolder
from utils.runs.opening import open_run
from utils.runs.repeat import parts, repeat
from utils.training.config import FitConfig
from utils.training.contrastive import make_views
from utils.training.fit import Step, fit

# Everything that is a method's default, chosen on validation images.
SIMCLR = {
    "encoder": "compact",
    "head": "mlp",
    "temperature": 0.5,
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
SUPCON = {
    **SIMCLR,
    "encoder": "cnn",
    "temperature": 0.1,
    "views": ["affine"],
    "strength": 0.6,
    "epochs": 12,
    "ema": 0.998,
}
RECIPES = {"simclr": SIMCLR, "supcon": SUPCON}
VAL_FRACTION = 0.1


def make_parser() -> Parser:
    parser = Parser(
        prog="train_simclr.py",
        description=__doc__,
        parents=[training_flags(), optimizer_flags(), view_flags(), evaluation_flags()],
        epilog=recipe_table(RECIPES, "recipes"),
    )
    add = parser.add_argument_group("SimCLR and SupCon").add_argument
    choice(add, "--method", RECIPES, "loss (default: simclr)", default="simclr")
    choice(add, "--head", HEADS, "projection head (default: the recipe's)")
    add(
        "--chunk",
        type=Number(int, 2, 65536),
        default=0,
        metavar="N",
        help="images forwarded at a time, to save memory (default: 0, the whole batch)",
    )
    return parser


def contrastive_step(network: nn.Module, method: str, temperature: float) -> Step:
    """Return the step for `fit`: the loss over the views of all ranks, and its metrics."""

    def step(images, labels):
        features = network(images.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        features = distributed.gather(features.float().unflatten(0, images.shape[:2]))
        if method == "supcon":
            loss = supcon(features, distributed.gather(labels), temperature)
        else:
            loss = nt_xent(features, temperature)
        return loss, contrastive_metrics(features.detach())

    return step


def pretrain(
    args: Namespace,
    train_set: ImageSet,
    splits: tuple[torch.Tensor, torch.Tensor],
    seed: int,
    run: RunFolder,
) -> tuple[ContrastiveModel, dict]:
    """Train encoder and head; return the model and the facts of the training."""
    batches = make_views(args, train_set, splits[0], seed)
    torch.manual_seed(seed)
    model = ContrastiveModel(create(args.encoder, 0), args.head, chunk=2 * args.chunk)
    model = model.to(args.device).to(memory_format=torch.channels_last)
    step = contrastive_step(distributed.data_parallel(model), args.method, args.temperature)
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
    options = EncoderOptions.from_args(args)
    head = model.head if args.head != "none" else None
    scores = evaluate_encoder(encoder, data, splits, options, job["seed"], head)
    save_predictions(run, scores, splits)
    counts = {"train_images": len(splits[0]), "seconds": facts["train_seconds"]}
    return {**job, **facts, **scores.record, **counts}


def plot_figures(run: RunFolder, args: Namespace, data: tuple[ImageSet, ImageSet]) -> None:
    """Draw the figures of a run: curves of all trainings, features of the first."""
    plots.plot_contrastive_curves(run.history(), math.log(2 * args.batch_size - 1), run.path("curves.png"))
    draw_views(run, args, data[0])
    draw_encoder(run, parts(run, args)[0], data, f"features of {args.method}")


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments, filled in from the recipe, and the command."""
    parser = make_parser()
    args = parser.parse_args(argv)
    shown = command_line(parser, args)
    fill(args, RECIPES[args.method])
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
    run = distributed.on_rank_zero(lambda: open_run("train_simclr", args, args.method, shown))
    metrics = repeat(lambda job, part: train(args, data, job, part), args, run, together=True)
    if distributed.rank() == 0:
        plot_figures(run, args, data)
        report_encoder(metrics, run)
    return metrics


if __name__ == "__main__":
    main()
