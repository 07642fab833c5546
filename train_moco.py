"""Pre-train an encoder by momentum contrast (MoCo v2): no labels, and a queue in place of large batches.

    python train_moco.py                                 compare with train_simclr.py: the same encoder
    python train_moco.py --queue 1024 --momentum 0.996 --temperature 0.1
    python train_moco.py --splits 1                      without shuffled batch normalisation
    python train_moco.py --model resnet50 --batch-size 128
    torchrun --nproc-per-node=4 train_moco.py --batch-size 1024

Results go to results/moco/<name>/: metrics.json, history.jsonl, figures, and encoder.pt, which
models.load_encoder opens. Every choice is made on validation images, which are not trained on; the test
images are scored once, at the end. The default takes 6 minutes on one CPU core in bf16.
"""

import math
from argparse import Namespace

import torch

from models import MoCo, contrastive_metrics, create, info_nce, shuffled_order
from train_simclr import SIMCLR, check_head, load_data, pretrain
from utils import cli, distributed
from utils.arguments import Number
from utils.errors import UserError
from utils.runs.folder import open_run
from utils.training.fit import Step
from utils.training.flags import SHARE, contrastive_flags, training_flags

# MoCo v2's head, stronger views and cosine schedule, with a warm-up; momentum, temperature and schedule were
# compared on validation images, with the encoder `fast`.
RECIPE = {
    **SIMCLR,
    "head": "mlp-plain",
    "queue": 4096,
    "momentum": 0.99,
    "splits": 4,
    "temperature": 0.2,
    "epochs": 8,
}


def make_parser() -> cli.Parser:
    parser = cli.Parser(
        prog="train_moco.py",
        description=__doc__,
        parents=[cli.run_flags(), training_flags(), contrastive_flags()],
        epilog=cli.recipe_table({"default": RECIPE}, "recipe"),
    )
    add = parser.add_argument_group("MoCo (defaults: the recipe's)").add_argument
    add("--queue", type=Number(int, 2, 1000000), help="number of keys in the queue: the negatives")
    add("--momentum", type=SHARE, help="share of its weights that the key encoder keeps at a step")
    add("--splits", type=Number(int, 1, 1024), help="parts of a batch, shuffled, with own batch statistics")
    return parser


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments, filled in from the recipe, and the command."""
    parser = make_parser()
    args = parser.parse_args(argv)
    command = cli.command_line(parser, args)
    cli.fill(args, RECIPE)
    check_head(args)
    cli.resolve_machine(args)
    return args, command


def check_batches(args: Namespace) -> None:
    """Raise UserError for a batch that doesn't fit the queue, the splits or the ranks."""
    if args.queue < args.batch_size:
        raise UserError(f"--queue {args.queue} can't hold the keys of a batch of {args.batch_size} images")
    if 2 * args.splits > args.batch_size:
        raise UserError(f"--splits {args.splits} needs a --batch-size of at least {2 * args.splits}")
    if args.splits % distributed.world():
        raise UserError(f"--splits must be a multiple of the {distributed.world()} ranks, not {args.splits}")


def moco_step(model: MoCo, splits: int, temperature: float) -> Step:
    """Return the step for `fit`: the loss over the queries of all ranks, and its metrics.

    batch_accuracy: the contrastive accuracy against the other keys of the batch. Where it is far below that
    against the queue, queries recognise their key by what a batch shares: its statistics, or encoder_k.
    """
    network = distributed.data_parallel(model, synchronise=False)

    def step(views, _):
        im_q, im_k = views.unbind(1)
        model.momentum_update()
        q = distributed.gather(network(im_q.contiguous(memory_format=torch.channels_last)))
        k = shuffled_keys(model, im_k, splits)
        loss, accuracy = info_nce(q, k, model.queue.clone(), temperature, model.filled.clone())
        model.enqueue(k)
        q = q.detach()
        metrics = contrastive_metrics(torch.stack([q, k], 1)) | {"contrastive_accuracy": accuracy}
        with torch.autocast(q.device.type, enabled=False):  # bf16 would create ties
            nearest = (q @ k.T).argmax(1)
        metrics["batch_accuracy"] = (nearest == torch.arange(len(q), device=q.device)).float().mean()
        return loss, metrics

    return step


def shuffled_keys(model: MoCo, images: torch.Tensor, splits: int) -> torch.Tensor:
    """Return the keys of all ranks' images, in the order of the ranks; see `shuffled_order`."""
    images = distributed.gather(images)
    order = shuffled_order(len(images), splits, images.device)
    own = images[order.tensor_split(distributed.world())[distributed.rank()]]
    k = distributed.gather(model.keys(own.contiguous(memory_format=torch.channels_last)))
    return k[order.argsort()]


def build(args: Namespace) -> tuple[MoCo, Step]:
    """Create the model and its step."""
    splits = args.splits // distributed.world()
    model = MoCo(create(args.model, 0), args.head, args.queue, args.momentum, splits)
    model = model.to(args.device).to(memory_format=torch.channels_last)
    return model, moco_step(model, args.splits, args.temperature)


@cli.command
def main(argv: list[str] | None = None) -> dict:
    args, command = parse(argv)
    data = load_data(args, command)
    check_batches(args)
    run = distributed.on_rank_zero(lambda: open_run("train_moco", args, "moco", command))
    return pretrain(args, data, run, build, chance=math.log(1 + args.queue))


if __name__ == "__main__":
    main()
