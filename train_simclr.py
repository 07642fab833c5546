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

import torch

from data import Data
from evaluation.contrastive.encoder import evaluate_encoder, map_table, watch_knn
from models import ContrastiveModel, contrastive_metrics, create, nt_xent, supcon
from utils import cli, distributed
from utils.plots import contrastive as plots
from utils.plots.history import plot_history
from utils.runs.folder import RunFolder, open_run
from utils.runs.repeat import parts, repeat
from utils.training.contrastive import check_head, choose_images, example_views, pretrain, report_encoder
from utils.training.fit import Step
from utils.training.flags import contrastive_flags, training_flags
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


def contrastive_step(network: torch.nn.Module, method: str, temperature: float) -> Step:
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


def plot_figures(run: RunFolder, args: Namespace, data: Data) -> None:
    """Plot the curves of all trainings and pairs of views; write the map of the first training's features."""
    plot_history(run.history(), run.path("curves.png"), chance=math.log(2 * args.batch_size - 1))
    plots.plot_views(example_views(args, data[0]), run.path("views.png"))
    run.write_text("map.csv", map_table(parts(run, args)[0].predictions(), data[1]))


@cli.command
def main(argv: list[str] | None = None) -> dict:
    args, command = parse(argv)
    data = cli.load_data(args)
    labels = data[0].labels  # fail now, before a folder is made or replaced
    fit_to_size(args, command, labels[choose_images(args, labels, args.seed)[0]])
    run = distributed.on_rank_zero(lambda: open_run("train_simclr", args, args.method, command))

    def train(job, part):
        return pretrain(args, data, job, part, build, watch_knn, evaluate_encoder)

    metrics = repeat(train, args, run, together=True)
    if distributed.rank() == 0:
        cli.draw(plot_figures, run, args, data)
        report_encoder(metrics, run)
    return metrics


if __name__ == "__main__":
    main()
