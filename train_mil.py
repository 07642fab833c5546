"""Multiple instance learning: is there a 9 in this bag of digits?

    python train_mil.py                                     200 bags of about 10 digits, half of them positive
    python train_mil.py --method loss-attention --train-bags 50 --repeats 20
    python train_mil.py --val-bags 0                        no validation bags: last epoch, threshold 0.5
    python train_mil.py --builder natural --epochs 20 --bags-per-epoch 0
    python train_mil.py --builder shortcut --sweep 200      which poolings fall for a false cue?
    python train_mil.py --builder exclusive --target 3,5,9  four classes: one target each, or none
    python train_mil.py --encoder results/simclr/simclr/encoder.pt --train-bags 50
    python train_mil.py --sweep --repeats 20                all methods, five numbers of training bags
    torchrun --nproc-per-node=2 train_mil.py --sweep --repeats 20

A repeat (--repeats, the same as --runs) has its own seed, and with it new bags from new pools of images and a
new network. Metrics of different builders are not comparable. Test bags come from the test images and are
scored once; epoch and threshold are chosen on validation bags.

With --builder shortcut one digit of every negative bag of training and validation is of the first class but
the target, which no other bag has. test_auc is of such bags; test_clean_auc, test_both_auc and
test_poisoned_auc are of the same bags when no, every, or only a positive bag carries that digit.

Results go to results/mil/<name>/: metrics.json, history.jsonl, predictions.npz, figures and checkpoints.
Those of a sweep go to one file, sweep.json, and its figures. A training takes a minute on one CPU core, the
default sweep 35.
"""

from argparse import Namespace

import torch

from data import POLICIES, Data, split, writers_for
from data.images import class_number
from data.mil import BUILDERS, BagLoader, Bags, build
from evaluation import mil as evaluation
from models import load_encoder
from models.mil import MIL, MIL_ENCODERS, POOLINGS, create_mil, mil_loss
from utils import cli, distributed
from utils.arguments import LARGEST_SEED, Number, any_path, list_of, with_commas
from utils.console import score
from utils.errors import UserError
from utils.plots import mil
from utils.plots.history import plot_history
from utils.runs.folder import RunFolder, open_run
from utils.runs.repeat import collect, jobs, parts, repeat, report_sweep
from utils.training.fit import FitConfig, Step, fit
from utils.training.flags import optimizer_flags, training_flags

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
# The share of the training images that only validation bags are built of.
VAL_FRACTION = 1 / 6
# About one standard error of the AUC of 200 bags (Hanley and McNeil, 1982: 0.007 at 0.99, 0.012 at 0.97).
# Among epochs that validation can't tell apart, the last one is a better choice than the luckiest one.
AUC_ERROR = 0.01
SWEEP_BAGS = [50, 100, 150, 200, 500]
ENCODER_RATE = 0.1  # learning rate of an encoder that was trained before, as a share of that of the rest
MOST_BAGS = 10_000
# Which test bags carry the shortcut, by the name of their metric.
TEST_CARRIERS = {"test_clean": "none", "test_both": "both", "test_poisoned": "positive"}


def make_parser() -> cli.Parser:
    parser = cli.Parser(
        prog="train_mil.py",
        description=__doc__,
        parents=[cli.run_flags(), training_flags(least_batch=1), optimizer_flags()],
        epilog=cli.recipe_table({"default": RECIPE}, "recipe"),
    )
    add = parser.add_argument_group("repeats and sweeps").add_argument
    add("--repeats", dest="runs", type=Number(int, 1, 1000), help="the same as --runs")
    sweep = f"train every --method with each number of training bags (default: {with_commas(SWEEP_BAGS)})"
    numbers = list_of(Number(int, 1, MOST_BAGS))
    add("--sweep", nargs="?", const=SWEEP_BAGS, type=numbers, metavar="N,N,...", help=sweep)
    add = parser.add_argument_group("bags").add_argument
    count = Number(int, 0, MOST_BAGS)
    target = "name or number of the class to find (default: the last); of --builder exclusive several"
    add("--target", type=list_of(), metavar="CLASS", help=target)
    add("--mean-length", type=Number(float, 1, 500), default=10, help="mean number of digits in a bag")
    add("--std-length", type=Number(float, 0, 500), default=2, help="standard deviation of that number")
    add("--builder", choices=BUILDERS, default="balanced", help="how bags are built")
    add("--train-bags", type=Number(int, 1, MOST_BAGS), help="number of bags to train on (default: 200)")
    add("--val-bags", type=count, default=200, help="bags to choose epoch and threshold on; 0 for none")
    add("--test-bags", type=Number(int, 2, MOST_BAGS), default=1000, help="number of bags to test on")
    seed = "seed of the bags: equal bags for several networks (default: that of the network)"
    add("--bags-seed", type=Number(int, 0, LARGEST_SEED), metavar="N", help=seed)
    add = parser.add_argument_group("method").add_argument
    add("--method", choices=POOLINGS, help="how a bag is pooled (default: attention; in a sweep all)")
    add("--model", choices=MIL_ENCODERS, help="network of the instances (default: the recipe's)")
    add("--encoder", type=any_path, metavar="FILE", help="start from a saved encoder or classifier")
    add("--freeze", action="store_true", help="keep the weights of --encoder as they are")
    add("--augment", choices=POLICIES, help="random changes of the images (default: the recipe's)")
    count = Number(int, 0, 1_000_000)
    add("--bags-per-epoch", type=count, default=1800, help="bags in an epoch; 0 for each once")
    return parser


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments, filled in from the recipe, and the command."""
    parser = make_parser()
    args = parser.parse_args(argv)
    broken = {
        "--freeze needs --encoder, the file of the encoder to keep": args.freeze and not args.encoder,
        "--encoder brings its own network: leave out --model": args.encoder and args.model,
        "--sweep has its own numbers of bags: leave out --train-bags": args.sweep and args.train_bags,
        "--val-bags must be 0 or at least 2: an AUC compares bags": args.val_bags == 1,
    }
    for message in filter(broken.get, broken):
        parser.error(message)
    command = cli.command_line(parser, args)
    if args.sweep:
        args.methods = [args.method] if args.method else list(POOLINGS)
    cli.fill(args, RECIPE | {"train_bags": 200})
    if not args.val_bags and FitConfig.from_values(vars(args)).needs_validation:
        parser.error("--schedule plateau needs --val-bags above 0")
    if args.dry_run:
        args.val_bags, args.test_bags = min(args.val_bags, 20), 20
    cli.resolve_machine(args)
    return args, command


def find_classes(args: Namespace, classes: tuple[str, ...]) -> None:
    """Set --target to the numbers of the classes that it names, and the shortcut to the first other class."""
    targets = [class_number(classes, "target", name) for name in args.target or classes[-1:]]
    if (len(targets) > 1) != (args.builder == "exclusive"):
        raise UserError("--builder exclusive needs several classes, --target 3,5,9; other builders one")
    if len(targets) > 1 and "instance-max" in getattr(args, "methods", [args.method]):
        raise UserError("instance-max has one logit, for one target: choose another --method")
    args.target = targets if args.builder == "exclusive" else targets[0]
    args.shortcut = int(args.target == 0) if args.builder == "shortcut" else None


def make_bags(args: Namespace, data: Data) -> dict[str, Bags]:
    """Build the bags of one repeat from disjoint images: "train", "test", and "val" unless --val-bags is 0.

    With the builder shortcut also "test_<name>" for every name in TEST_CARRIERS.
    """
    names = ("target", "mean_length", "std_length", "builder", "shortcut")
    kind = {name: getattr(args, name) for name in names}
    train, test = (images.labels for images in data)
    seed = args.seed if args.bags_seed is None else args.bags_seed
    train_pool, val_pool = split(train, VAL_FRACTION, seed, writers_for(args.split, train))
    bags = {"train": build(train, train_pool, args.train_bags, seed=(seed, 0), **kind)}
    if args.val_bags:
        bags["val"] = build(train, val_pool, args.val_bags, seed=(seed, 1), **kind)
    carriers = {"test": "negative"} | (TEST_CARRIERS if args.builder == "shortcut" else {})
    for name, value in carriers.items():
        pool = torch.arange(len(test))
        bags[name] = build(test, pool, args.test_bags, seed=(seed, 2), carriers=value, **kind)
    for name, part in bags.items():
        if name != "train" and len(part.labels.unique()) == 1:  # an AUC compares the two kinds
            raise UserError(
                f"all or none of the {len(part)} {name} bags hold the target: take more bags, shorter or "
                "longer ones, or --builder balanced"
            )
    return bags


def bag_classes(args: Namespace) -> int:
    """Return the number of classes of bags: one for each target, and that of bags without one."""
    return 1 + (len(args.target) if args.builder == "exclusive" else 1)


def make_model(args: Namespace) -> MIL:
    """Create the network, with fresh weights or on top of --encoder."""
    if not args.encoder:
        return create_mil(args.model, args.method, num_classes=bag_classes(args))
    model = MIL(load_encoder(args.encoder), args.method, True, bag_classes(args))
    if args.freeze:
        model.freeze()
    return model


def check_pooling(model: MIL) -> None:
    """Raise UserError for a pooling, maybe the user's own, that returns anything but logits and attention."""
    features, mask = torch.zeros(2, 3, model.head.in_features), torch.ones(2, 3, dtype=torch.bool)
    found = model.pooling(features, mask, model.head)
    shapes = [tuple(part.shape) for part in found] if isinstance(found, tuple) else type(found).__name__
    if shapes != [(2, model.head.out_features), (2, 3)]:
        asked = f"logits (B, {model.head.out_features}) and attention (B, N)"
        raise UserError(f"pooling {model.method!r} must return {asked}; for B = 2, N = 3 it gave {shapes}")


def mil_step(model: MIL, method: str) -> Step:
    """Return the step for `fit`: the loss of a batch of bags, and its accuracy."""

    def step(mask, images, labels):
        pooled = model(images, mask)
        loss = mil_loss(pooled, labels, method)
        answers = pooled.logits > 0 if pooled.logits.ndim == 1 else pooled.logits.argmax(1)
        return loss, {"accuracy": (answers == labels).float().mean()}

    return step


def build_training(args: Namespace, data: Data, bags: Bags) -> tuple[MIL, Step, BagLoader]:
    """Create the model, its step and its batches of training bags."""
    options = {"seed": args.seed, "augment": POLICIES[args.augment], "bags_per_epoch": args.bags_per_epoch}
    torch.manual_seed(args.seed)
    model = make_model(args).to(args.device).to(memory_format=torch.channels_last)
    return model, mil_step(model, args.method), BagLoader(data[0], bags, args.batch_size, **options)


def train(args: Namespace, data: Data, run: RunFolder | None = None) -> tuple[MIL, dict]:
    """Train and evaluate once from --seed; return model and record, and leave the files in `run`."""
    bags = make_bags(args, data)
    model, step, batches = build_training(args, data, bags["train"])
    config = FitConfig.from_values(vars(args))
    validate = evaluation.validate_bags(data[0], bags["val"], args.precision) if args.val_bags else None
    groups = model.parameter_groups(ENCODER_RATE if args.encoder else 1.0)
    facts = fit(
        model, step, batches, config, run, validate, groups=groups, criterion="val_error", tolerance=AUC_ERROR
    )
    metrics, predictions = evaluation.evaluate_bags(model, data, bags, args.precision)
    if run:
        options = {"method": args.method, "standardise": bool(args.encoder), "num_classes": bag_classes(args)}
        run.save_model("best.pt", model, str(model.encoder.name), data[0].description, **options)
        run.save_predictions(**predictions)
    counts = {"train_bags": args.train_bags, "val_bags": args.val_bags}
    counts["train_instances"] = len(bags["train"].indices)
    return model, {"seed": args.seed, **facts, **counts, **metrics, "seconds": facts["train_seconds"]}


def plot_figures(run: RunFolder, args: Namespace, data: Data) -> None:
    """Plot the figures of a run from its saved predictions and history."""
    plot_history(run.history(), run.path("curves.png"), records=run.records())
    images, first = data[1].images, parts(run, args)[0].predictions()
    bags = {name: first[f"test_{name}"] for name in ("lengths", "keys", "attention", "probabilities")}
    targets = args.target if args.builder == "exclusive" else [args.target]
    if len(targets) > 1:
        bags["probabilities"] = 1 - bags["probabilities"][:, 0]
    names = with_commas([data[1].classes[number] for number in targets])
    title = f"{args.method}: test bags; orange: the target {names}\n"
    title += "above each image: its weight in the bag"
    pixels = images[torch.from_numpy(first["test_indices"]).to(images.device)].cpu().numpy()
    mil.plot_bags(pixels, bags, run.path("bags.png"), title)


def report(metrics: dict, run: RunFolder) -> None:
    text = f"test accuracy {score(metrics, 'test_accuracy')}"
    if "test_auc" in metrics["mean"]:
        text = f"test AUC {score(metrics, 'test_auc')}, {text.removeprefix('test ')}"
    if len(metrics["runs"]) > 1:
        text += f" over {len(metrics['runs'])} repeats"
    print(f"{text}, {metrics['seconds']:.0f} s of training; figures and metrics in {run.folder}/")


# --- Sweeps ---


def sweep_jobs(args: Namespace) -> list[dict]:
    """Return every training; repeats are outermost, so that a stopped sweep has all of the first ones."""
    cells = [(method, count) for count in args.sweep for method in args.methods]
    seeds = range(args.seed, args.seed + args.runs)
    return [
        {"method": method, "train_bags": count, "seed": seed} for seed in seeds for method, count in cells
    ]


def plot_sweep(run: RunFolder, args: Namespace, content: dict) -> None:
    if args.builder == "exclusive":
        return
    plot = mil.plot_shortcut if args.builder == "shortcut" else mil.plot_auc
    plot(content["cells"], run.path("auc.png"))


@cli.command
def main(argv: list[str] | None = None) -> dict | None:
    args, command = parse(argv)
    data = cli.load_data(args)
    find_classes(args, data[0].classes)
    for job in jobs(args):  # fail now, before a folder is made
        make_bags(Namespace(**vars(args) | job), data)
    for method in args.methods if args.sweep else [args.method]:
        check_pooling(make_model(Namespace(**vars(args) | {"method": method})))
    name = "sweep" if args.sweep else args.method
    run = distributed.on_rank_zero(lambda: open_run("train_mil", args, name, command))
    if args.sweep:

        def train_cell(job):
            return job | train(Namespace(**vars(args) | job | {"quiet": True}), data)[1]

        content = collect(train_cell, sweep_jobs(args), args, run, group=("method", "train_bags"))
        if distributed.rank() == 0:
            cli.draw(plot_sweep, run, args, content)
            second = {"shortcut": ["test_auc", "test_clean_auc"], "exclusive": ["test_accuracy"]}
            report_sweep(content, second.get(args.builder, ["test_auc", "test_accuracy"]), run)
        return content
    metrics = repeat(lambda job, part: train(Namespace(**vars(args) | job), data, part)[1], args, run)
    if distributed.rank() == 0:
        cli.draw(plot_figures, run, args, data)
        report(metrics, run)
    return metrics


if __name__ == "__main__":
    main()
