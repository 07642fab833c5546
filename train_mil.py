"""Multiple instance learning: is there a 9 in this bag of digits?

    python train_mil.py                                     200 bags of about 10 digits, half of them positive
    python train_mil.py --method loss-attention --train-bags 50 --repeats 20
    python train_mil.py --val-bags 0                        no validation bags: last epoch, threshold 0.5
    python train_mil.py --builder natural --epochs 20 --bags-per-epoch 0
    python train_mil.py --builder shortcut --sweep 200      which poolings fall for a false cue?
    python train_mil.py --encoder results/simclr/simclr/encoder.pt --train-bags 50
    python train_mil.py --sweep --repeats 20                all methods, five numbers of training bags
    python train_mil.py --sweep --method attention          this method only
    python train_mil.py --show-bags bags.png                draw the bags, train nothing
    torchrun --nproc-per-node=2 train_mil.py --sweep --repeats 20

A repeat (--repeats, the same as --runs) has its own seed, and with it new bags from new pools of images and a
new network. Metrics on bags of one builder are not comparable with those of the other. Test bags come from
the test images and are scored once; epoch and threshold are chosen on validation bags.

With --builder shortcut every negative bag of training and validation carries one more digit, of the class
--shortcut, which no other bag has. test_auc is of such bags; test_clean_auc, test_both_auc and
test_poisoned_auc are of the same bags when no, every, or only a positive bag carries that digit.

Results go to results/mil/<name>/: metrics.json, history.jsonl, predictions.npz, figures and checkpoints.
Those of a sweep go to one file, sweep.json, and its figures.
"""

import argparse
import contextlib
from dataclasses import replace

import torch

from data import POLICIES, Data, ImageSet, split
from data.mil import BUILDERS, BagLoader, Bags, build, build_shortcut, statistics
from evaluation.mil import (
    area_scores,
    evaluate_bags,
    roc_points,
    save_bag_predictions,
    validate_bags,
)
from models import load_encoder
from models.mil import MIL, MIL_ENCODERS, POOLINGS, create_mil, mil_loss
from report.results import published_bags
from utils import distributed
from utils.arguments import Number, any_path, number_list, with_commas
from utils.cli import (
    Parser,
    choice,
    command,
    command_line,
    fill,
    load_data,
    optimizer_flags,
    recipe_table,
    resolve_machine,
    training_flags,
)
from utils.errors import UserError
from utils.plots import cnn as plots
from utils.plots import mil as mil_plots
from utils.runs.folder import RunFolder, open_run
from utils.runs.repeat import jobs, parts, repeat
from utils.runs.sweep import collect
from utils.training.config import FitConfig
from utils.training.fit import Step, fit

# One recipe for every method and number of training bags, chosen on validation bags.
RECIPE = {
    "method": "attention",
    "model": "fast",
    "epochs": 5,
    "batch_size": 16,
    "optimizer": "adamw",
    "lr": 6e-3,
    "weight_decay": 0.02,
    "schedule": "one-cycle",
    "ema": 0.99,
    "clip_norm": 0.0,
    "augment": "affine",
}
# The share of the training images that fills the validation bags, and nothing else.
VAL_FRACTION = 1 / 6
# About one standard error of the AUC of 200 bags (Hanley and McNeil, 1982: 0.007 at 0.99, 0.012 at 0.97).
# Among epochs that validation can't tell apart, the last one is a better choice than the luckiest one.
AUC_ERROR = 0.01
SWEEP_BAGS = [50, 100, 150, 200, 500]
MOST_BAGS = 10_000
# The published metrics in the figure hold only for these bags.
PUBLISHED_BAGS = {"target": 9, "mean_length": 10, "std_length": 2, "builder": "balanced"}
# Which test bags carry the shortcut, see data.mil.CARRIERS, by the name of their metric.
SHORTCUT_TESTS = {"clean": "none", "both": "both", "poisoned": "positive"}


def make_parser() -> Parser:
    parser = Parser(
        prog="train_mil.py",
        description=__doc__,
        parents=[training_flags(least_batch=1), optimizer_flags()],
        epilog=recipe_table({"default": RECIPE}, "recipe"),
    )
    share, bags = Number(float, 0, 1, open_low=True), Number(int, 1, MOST_BAGS)
    # fmt: off
    add = parser.add_argument_group("repeats and sweeps").add_argument
    add("--repeats", dest="runs", type=Number(int, 1, 1000), metavar="N", help="the same as --runs")
    add("--sweep", nargs="?", const=SWEEP_BAGS, type=number_list(1, MOST_BAGS), metavar="N,N,...",
        help=f"train every --method with each number of training bags (default: {with_commas(SWEEP_BAGS)})")
    add = parser.add_argument_group("bags").add_argument
    add("--target", default=9, metavar="CLASS",
        help="name or number of the class that makes a bag positive (default: 9)")
    add("--mean-length", type=Number(float, 1, 500), default=10, metavar="X", help="of a bag (default: 10)")
    add("--std-length", type=Number(float, 0, 500), default=2, metavar="X", help="of the length (default: 2)")
    choice(add, "--builder", (*BUILDERS, "shortcut"), "how bags are drawn (default: balanced)",
           default="balanced")
    add("--shortcut", metavar="CLASS",
        help="name or number of the class that only negative bags carry (default: the first but the target)")
    add("--train-bags", type=bags, default=200, metavar="N", help="default: 200")
    add("--val-bags", type=Number(int, 0, MOST_BAGS), default=200, metavar="N",
        help="bags that choose epoch and threshold (default: 200), 0 for none")
    add("--test-bags", type=Number(int, 2, MOST_BAGS), default=1000, metavar="N", help="default: 1000")
    add("--show-bags", type=any_path, metavar="FILE", help="draw the first training bags, train nothing")
    add = parser.add_argument_group("method").add_argument
    choice(add, "--method", POOLINGS, "pooling (default: attention; in a sweep all of them)")
    choice(add, "--model", MIL_ENCODERS, "instance encoder (default: fast)")
    add("--encoder", type=any_path, metavar="FILE",
        help="start from an encoder or classifier that another script saved")
    add("--freeze", action="store_true", help="don't train --encoder")
    add("--encoder-rate", type=share, default=0.1, metavar="X",
        help="learning rate of --encoder as a share of --lr (default: 0.1)")
    add("--dropout", type=Number(float, 0, 0.9), default=0.0, metavar="X",
        help="share of dropped features (default: 0)")
    choice(add, "--augment", POLICIES, "augmentation policy (default: affine)")
    add("--instance-weight", type=Number(float, 0, 1000), default=1.0, metavar="X",
        help="weight of the instance loss in loss-attention (default: 1)")
    add("--bags-per-epoch", type=Number(int, 0, 1000000), default=1800, metavar="N",
        help="default: 1800; 0: every bag once")
    # fmt: on
    return parser


def find_class(flag: str, name: str | int, classes: tuple[str, ...]) -> int:
    """Return the number of the class that a flag names; UserError for an unknown one."""
    name = str(name)
    if name in classes:
        return classes.index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise UserError(f"{flag} {name}: no such class; choose from {', '.join(classes)}")


def find_classes(args: argparse.Namespace, classes: tuple[str, ...]) -> None:
    """Set --target and, for the builder shortcut, --shortcut to the numbers of the classes they name."""
    args.target = find_class("--target", args.target, classes)
    if args.builder == "shortcut":
        other = next(i for i in range(len(classes)) if i != args.target)
        args.shortcut = other if args.shortcut is None else find_class("--shortcut", args.shortcut, classes)


def make_bags(args: argparse.Namespace, data: Data, job: dict) -> tuple[Bags, Bags | None, Bags]:
    """Build training, validation and test bags of one repeat from disjoint images."""
    train_set, test_set = data
    seed, train_bags = job["seed"], job.get("train_bags", args.train_bags)
    train_pool, val_pool = split(train_set.labels, VAL_FRACTION, seed)
    train = build_bags(args, train_set.labels, train_pool, train_bags, (seed, 0))
    val = None
    if args.val_bags:
        val = both_kinds(build_bags(args, train_set.labels, val_pool, args.val_bags, (seed, 1)), "validation")
    return train, val, both_kinds(make_test_bags(args, test_set, seed), "test")


def both_kinds(bags: Bags, what: str) -> Bags:
    """Return the bags; UserError when all are positive or all negative, because an AUC compares the two."""
    positive = int(bags.labels.sum())
    if positive in (0, len(bags)):
        raise UserError(
            f"{'all' if positive else 'none'} of the {len(bags)} {what} bags hold the target: take more "
            "bags, shorter or longer ones, or --builder balanced"
        )
    return bags


def make_test_bags(
    args: argparse.Namespace, test_set: ImageSet, seed: int, carriers: str = "negative"
) -> Bags:
    """Build the test bags of one repeat. carriers: of the builder shortcut."""
    pool = torch.arange(len(test_set.labels))
    return build_bags(args, test_set.labels, pool, args.test_bags, (seed, 2), carriers)


def build_bags(
    args: argparse.Namespace,
    labels: torch.Tensor,
    pool: torch.Tensor,
    count: int,
    seed: tuple[int, int],
    carriers: str = "negative",
) -> Bags:
    """Build bags as the flags say."""
    kind = {"target": args.target, "mean_length": args.mean_length, "std_length": args.std_length}
    if args.builder == "shortcut":
        return build_shortcut(
            labels, pool, count, shortcut=args.shortcut, carriers=carriers, seed=seed, **kind
        )
    return build(labels, pool, count, builder=args.builder, seed=seed, **kind)


def make_model(args: argparse.Namespace, method: str) -> MIL:
    """Create the network, with fresh weights or on top of --encoder."""
    if not args.encoder:
        return create_mil(args.model, method, args.dropout)
    model = MIL(load_encoder(args.encoder), method, args.dropout, standardise=True)
    if args.freeze:
        model.freeze()
    return model


def mil_step(model: MIL, method: str, instance_weight: float = 1.0) -> Step:
    """Return the step for `fit`: the loss of a batch of bags, and its accuracy."""

    def step(mask, images, labels):
        pooled = model(images, mask)
        loss = mil_loss(pooled, labels, method, instance_weight)
        return loss, {"accuracy": ((pooled.logits > 0) == (labels > 0)).float().mean()}

    return step


def fit_bags(
    args: argparse.Namespace, data: Data, job: dict, config: FitConfig, run: RunFolder | None = None
) -> tuple[MIL, dict, dict]:
    """Train once; return the model, the record, and {"val", "test"}: (predictions, bags).

    job: its seed and, in a sweep, its method and number of training bags.
    """
    train_set, test_set = data
    seed, method = job["seed"], job.get("method", args.method)
    train_bags, val_bags, test_bags = make_bags(args, data, job)
    batches = BagLoader(
        train_set,
        train_bags,
        args.batch_size,
        seed=seed,
        augment=POLICIES[args.augment],
        bags_per_epoch=args.bags_per_epoch,
    )
    torch.manual_seed(seed)
    model = make_model(args, method).to(args.device).to(memory_format=torch.channels_last)
    step = mil_step(model, method, args.instance_weight)
    validate = validate_bags(train_set, val_bags, args.precision) if val_bags else None
    groups = model.parameter_groups(args.encoder_rate if args.encoder else 1.0)
    facts = fit(
        model,
        step,
        batches,
        config,
        run,
        validate,
        groups=groups,
        criterion="val_error",
        tolerance=AUC_ERROR,
    )

    metrics, predictions = evaluate_bags(model, data, val_bags, test_bags, args.precision)
    if args.builder == "shortcut":
        tests = {name: make_test_bags(args, test_set, seed, how) for name, how in SHORTCUT_TESTS.items()}
        metrics |= area_scores(model, test_set, tests, args.precision)
    record = {
        **job,
        **facts,
        "train_bags": len(train_bags),
        "val_bags": len(val_bags) if val_bags else 0,
        "train_instances": len(train_bags.indices),
        **metrics,
        "seconds": facts["train_seconds"],
    }
    return model, record, predictions


def train(args: argparse.Namespace, data: Data, job: dict, run: RunFolder) -> dict:
    """Train once; return the record and leave the files in `run`."""
    model, record, predictions = fit_bags(args, data, job, FitConfig.from_args(args), run)
    options = {"method": args.method, "dropout": args.dropout, "standardise": bool(args.encoder)}
    run.save_model("best.pt", model, str(model.encoder.name), data[0].description, **options)
    save_bag_predictions(run, predictions)
    return record


def plot_figures(run: RunFolder, args: argparse.Namespace, test_set: ImageSet) -> None:
    """Draw the figures of a run from its saved predictions and history."""
    folders = [part.predictions() for part in parts(run, args)]
    records = run.records()
    plots.plot_learning_curves(run.history(), run.path("curves.png"), "auc", records)
    roc = [roc_points(saved["test_probabilities"], saved["test_labels"]) for saved in folders]
    mil_plots.plot_roc({args.method: roc}, run.path("roc.png"), "ROC of the test bags")
    first = folders[0]
    images = test_set.images[torch.from_numpy(first["test_indices"]).to(test_set.images.device)]
    title = f"{args.method}: test bags; orange: the target {test_set.classes[args.target]}\n"
    title += f"above each image: {mil_plots.share_name(args.method)}"
    mil_plots.plot_bags(
        images.cpu().numpy(),
        first["test_lengths"],
        first["test_keys"],
        first["test_attention"],
        first["test_probabilities"],
        run.path("bags.png"),
        title,
    )


def show_bags(args: argparse.Namespace, data: Data) -> None:
    """Draw the training bags of the first repeat and print their statistics."""
    bags, _, _ = make_bags(args, data, {"seed": args.seed})
    images = data[0].images[bags.indices.to(data[0].images.device)].cpu().numpy()
    try:
        mil_plots.plot_plain_bags(images, bags.lengths.numpy(), bags.keys.numpy(), args.show_bags)
    except OSError as error:
        raise UserError(f"cannot write {args.show_bags}: {error.strerror or error}") from error
    for name, value in statistics(bags).items():
        print(f"{name:32} {value:,.3f}" if isinstance(value, float) else f"{name:32} {value:,}")
    print(f"the first bags: {args.show_bags}")


# --- Sweeps ---


def sweep_jobs(args: argparse.Namespace) -> list[dict]:
    """Return every training; repeats are outermost, so that a stopped sweep has all of the first ones."""
    return [
        {"method": method, "train_bags": count, "seed": args.seed + repeat}
        for repeat in range(args.runs)
        for count in args.sweep
        for method in args.methods
    ]


def sweep(args: argparse.Namespace, data: Data, run: RunFolder) -> dict:
    """Train every cell that has no record yet; write sweep.json and its figures."""
    config = replace(FitConfig.from_args(args), quiet=True, track="none")

    def cell(job):
        _, record, predictions = fit_bags(args, data, job, config)
        test, bags = predictions["test"]
        return {**record, "test_roc": roc_points(test["probabilities"], bags.labels.numpy())}

    return collect(cell, sweep_jobs(args), args, run, group=("method", "train_bags"))


def plot_sweep(run: RunFolder, args: argparse.Namespace, content: dict) -> None:
    if args.builder == "shortcut":
        mil_plots.plot_shortcut(content["cells"], run.path("auc.png"))
        return
    references = []
    if all(getattr(args, key) == value for key, value in PUBLISHED_BAGS.items()):
        with contextlib.suppress(UserError):  # a results folder without references
            references = published_bags(args.results_dir)
    mil_plots.plot_auc(content["cells"], run.path("auc.png"), references)
    mil_plots.plot_sweep_roc(content["cells"], run.path("roc.png"))


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments, filled in from the recipe, and the command."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.freeze and not args.encoder:
        parser.error("--freeze needs --encoder, the file of the encoder to keep")
    if args.shortcut is not None and args.builder != "shortcut":
        parser.error("--shortcut needs --builder shortcut")
    if args.val_bags == 1:
        parser.error("--val-bags must be 0 or at least 2: an AUC compares bags")
    shown = command_line(parser, args)
    args.methods = [args.method] if args.method else list(POOLINGS)  # of a sweep
    fill(args, RECIPE)
    if args.val_bags == 0 and FitConfig.from_args(args).needs_validation:
        parser.error("--schedule plateau needs --val-bags above 0")
    if args.dry_run:
        args.val_bags, args.test_bags = min(args.val_bags, 20), 20
    resolve_machine(args)
    return args, shown


@command
def main(argv: list[str] | None = None) -> dict | None:
    args, shown = parse(argv)
    data = load_data(args)
    find_classes(args, data[0].classes)
    if args.show_bags:
        show_bags(args, data)
        return None
    for job in jobs(args):  # fail now, before a folder is made or replaced
        make_bags(args, data, job)
    make_model(args, args.method)
    name = "sweep" if args.sweep else args.method
    run = distributed.on_rank_zero(lambda: open_run("train_mil", args, name, shown))
    if args.sweep:
        content = sweep(args, data, run)
        if distributed.rank() == 0:
            plot_sweep(run, args, content)
        return content
    metrics = repeat(lambda job, part: train(args, data, job, part), args, run)
    if distributed.rank() == 0:
        plot_figures(run, args, data[1])
        report(metrics, run)
    return metrics


def report(metrics: dict, run: RunFolder) -> None:
    mean, std, runs = metrics["mean"], metrics["std"], metrics["runs"]
    text = f"test AUC {mean['test_auc']:.4f}, accuracy {mean['test_accuracy']:.2%}"
    if len(runs) > 1:
        text += f" (+- {std['test_auc']:.4f}, {std['test_accuracy']:.2%}) over {len(runs)} repeats"
    print(f"{text}, {metrics['seconds']:.0f} s of training; figures and metrics in {run.folder}/")


if __name__ == "__main__":
    main()
