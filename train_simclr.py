"""Pre-train an encoder by contrastive learning, and measure what its frozen features are worth.

    python train_simclr.py                               SimCLR: no labels
    python train_simclr.py --method supcon               SupCon: with the labels
    python train_simclr.py --views affine,erase --strength 0.5
    python train_simclr.py --head mlp3                   also saves encoders with layers of the head
    torchrun --nproc-per-node=4 train_simclr.py --batch-size 2048

Results go to results/simclr/<name>/: metrics.json, history.jsonl, figures, and encoder.pt, which
models.load_encoder opens. Every choice is made on validation images, which are not trained on; the test
images are scored once, at the end. The default takes 4 minutes on one CPU core in bf16, SupCon 20.
"""

import math
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from data import BatchLoader, Data, ImageSet, split, view_augment, writers_for
from evaluation.contrastive.encoder import evaluate_encoder, map_table, watch_knn
from models import ContrastiveModel, contrastive_metrics, create, load_encoder, nt_xent, supcon
from utils import cli, distributed
from utils.console import score
from utils.errors import UserError
from utils.plots import contrastive as plots
from utils.plots.history import plot_history
from utils.runs.folder import RunFolder, open_run
from utils.runs.repeat import parts, repeat
from utils.training.fit import FitConfig, Step, fit
from utils.training.flags import VAL_FRACTION, contrastive_flags, training_flags
from utils.training.size import fit_to_size

# The defaults of each method, chosen on validation images.
SIMCLR = {
    "model": "compact",
    "head": "mlp",
    "temperature": 0.5,
    "views": ["affine", "elastic", "blur", "stroke"],
    "strength": 1.0,
    "epochs": 4,
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
    "model": "cnn",
    "temperature": 0.1,
    "views": ["affine"],
    "strength": 0.6,
    "epochs": 12,
    "ema": 0.998,
}
RECIPES = {"simclr": SIMCLR, "supcon": SUPCON}
SHOWN_PAIRS = 24  # pairs of views in a figure


def make_parser() -> cli.Parser:
    parser = cli.Parser(
        prog="train_simclr.py",
        description=__doc__,
        parents=[cli.run_flags(), training_flags(), contrastive_flags()],
        epilog=cli.recipe_table(RECIPES, "recipes"),
    )
    method = parser.add_argument_group("SimCLR and SupCon")
    method.add_argument("--method", choices=RECIPES, default="simclr", help="loss")
    return parser


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments, filled in from the recipe, and the command."""
    parser = make_parser()
    args = parser.parse_args(argv)
    command = cli.command_line(parser, args)
    cli.fill(args, RECIPES[args.method])
    check_head(args)
    cli.resolve_machine(args)
    return args, command


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


def build(args: Namespace) -> tuple[ContrastiveModel, Step]:
    """Create the model and its step."""
    model = ContrastiveModel(create(args.model, 0), args.head)
    model = model.to(args.device).to(memory_format=torch.channels_last)
    return model, contrastive_step(distributed.data_parallel(model), args.method, args.temperature)


# --- What MoCo shares ---


def check_head(args: Namespace) -> None:
    """Raise UserError where a network without weights has no projection head, either."""
    if args.head == "none" and not any(True for _ in create(args.model, 0).parameters()):
        raise UserError(f"--head none leaves nothing to train of --model {args.model}")


def choose_images(args: Namespace, labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return training and validation indices of one training, by --split-seed or else by its seed."""
    seed = seed if args.split_seed is None else args.split_seed
    return split(labels, VAL_FRACTION, seed, writers_for(args.split, labels))


def load_data(args: Namespace, command: str) -> Data:
    """Load the images and adapt the arguments to their number; fail before a folder is made or replaced."""
    data = cli.load_data(args)
    fit_to_size(args, command, data[0].labels[choose_images(args, data[0].labels, args.seed)[0]])
    return data


def make_views(args: Namespace, images: ImageSet, indices: torch.Tensor, seed: int) -> BatchLoader:
    """Return batches of two augmented views, see `flags.view_flags`; this rank's piece of each batch."""
    how: dict = {"seed": seed, "augment": view_augment(args.views, args.strength), "views": 2}
    how |= {"rank": distributed.rank(), "world": distributed.world(), "passes": getattr(args, "passes", 1)}
    return BatchLoader(images, indices, args.batch_size, **how)


def train(
    args: Namespace, data: Data, job: dict, run: RunFolder, build: Callable[[Namespace], tuple[Any, Step]]
) -> dict | None:
    """Pre-train once and evaluate the encoder; return the record (None on ranks that write nothing).

    With the head "mlp3", encoder-1.pt and encoder-2.pt hold the encoder and one or two layers of the head.
    """
    images, seed = data[0], job["seed"]
    splits = choose_images(args, images.labels, seed)
    batches = make_views(args, images, splits[0], seed)
    torch.manual_seed(seed)
    model, step = build(args)
    validate = watch_knn(images, splits, args.knn_every, args.epochs, args.precision)
    facts = fit(model, step, batches, FitConfig.from_values(vars(args)), run, validate)
    if not run.writes:
        return None
    run.save_model("encoder.pt", model.encoder, args.model, images.description, num_classes=0)
    # Loaded, it has no synchronised layers, which wait for other ranks.
    encoder = load_encoder(run.path("encoder.pt")).to(args.device).to(memory_format=torch.channels_last)
    for layers in (1, 2) if args.head == "mlp3" else ():
        part, name = nn.Sequential(model.encoder, *model.head[: 3 * layers]), f"{args.model}+{layers}"
        run.save_model(f"encoder-{layers}.pt", part, name, images.description, num_classes=0)
    scores, arrays = evaluate_encoder(encoder, data, splits, args.precision, seed)
    if args.dry_run:  # the map takes longer than all the rest
        arrays |= {key: arrays[key][:100] for key in ("mapped", "map_features")}
    run.save_predictions(**arrays)
    counts = {"train_images": len(splits[0]), "seconds": facts["train_seconds"]}
    return {**job, **facts, **scores, **counts}


def plot_figures(run: RunFolder, args: Namespace, data: Data, chance: float) -> None:
    """Plot the curves of all trainings and pairs of views; write the map of the first training's features."""
    plot_history(run.history(), run.path("curves.png"), chance=chance)
    first = torch.arange(min(SHOWN_PAIRS, len(data[0].labels)))
    augment = view_augment(args.views, args.strength)
    pairs = BatchLoader(data[0], first, SHOWN_PAIRS, seed=args.seed, augment=augment, views=2)
    plots.plot_views(next(pairs.epoch())[0].squeeze(2).cpu().numpy(), run.path("views.png"))
    run.write_text("map.csv", map_table(parts(run, args)[0].predictions(), data[1]))


def pretrain(args: Namespace, data: Data, run: RunFolder, build: Callable, chance: float) -> dict:
    """Pre-train and evaluate with every seed, plot and report; return the metrics.

    build(args): returns a model, which has an encoder and a head, and its step. chance: of the loss.
    """
    metrics = repeat(lambda job, part: train(args, data, job, part, build), args, run, together=True)
    if distributed.rank() == 0:
        cli.draw(plot_figures, run, args, data, chance)
        linear, knn = score(metrics, "test_linear_accuracy"), score(metrics, "test_knn_accuracy")
        print(
            f"test accuracy on frozen features: linear {linear}, k-NN {knn}; {metrics['seconds']:.0f} s of "
            f"pre-training; figures and metrics in {run.folder}/"
        )
    return metrics


@cli.command
def main(argv: list[str] | None = None) -> dict:
    args, command = parse(argv)
    data = load_data(args, command)
    run = distributed.on_rank_zero(lambda: open_run("train_simclr", args, args.method, command))
    return pretrain(args, data, run, build, chance=math.log(2 * args.batch_size - 1))


if __name__ == "__main__":
    main()
