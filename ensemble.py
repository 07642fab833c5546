"""Train a library of classifiers, or take finished runs, combine them, and evaluate every combination.

    python ensemble.py --members 10 --model lenet          ten seeds of one model
    python ensemble.py --members 8 --model linear,mlp,lenet,cnn
    python ensemble.py --model lenet --mode bagging        or snapshot, fusion, boosting, soft-boosting
    python ensemble.py --model fast --mode adversarial     two that a discriminator keeps apart
    python ensemble.py --from results/ensemble/lenet results/cnn/cnn
    python ensemble.py --from ensemble/pool-cnn --members 10 --runs 3     three libraries from one pool
    python ensemble.py --from cnn/all                      members that train_cnn.py --val-fraction 0 made
    torchrun --nproc-per-node=4 ensemble.py --members 16 --model cnn

Every choice (the best member, weights, temperatures) is made on the validation images, which all members
share and none is trained on; members that trained on all images can only be averaged or vote. Results go to
results/ensemble/<name>/, one run per library: metrics.json has the metrics of every combination, those of
--combine also under the plain names. Every member is a run of its own, in member-*/. The default, ten `cnn`,
takes 80 minutes on one CPU core.
"""

from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from data import Data, ImageSet, bootstrap, split, writers_for
from evaluation.cnn import evaluate_classifier
from evaluation.ensemble import selection
from evaluation.ensemble.library import Library, evaluate_library, member_history, read_library
from models import ENCODERS, RECIPES, Classifier, create, read_model
from models.ensemble import Boosted, Fusion, Separated, boosting_losses
from utils import cli, distributed
from utils.arguments import LARGEST_SEED, Number, any_path, list_of
from utils.console import score
from utils.errors import UserError
from utils.plots import cnn
from utils.plots.history import plot_history
from utils.runs.folder import RunFolder, open_run
from utils.runs.repeat import repeat, share_out, train_part
from utils.training.cnn import ClassifierConfig, fit_classifier, save_classifier
from utils.training.fit import Step, classification_step
from utils.training.flags import VAL_FRACTION, recipe_flags, training_flags
from utils.training.size import with_recipe

# The modes whose members are one training, or build on each other: one process trains them.
JOINT = ("fusion", "soft-boosting", "adversarial")
TOGETHER = ("snapshot", "boosting", *JOINT)
MODES = ("voting", "bagging", *TOGETHER)
# Those whose outputs are averaged or added up as logits.
OF_LOGITS = ("fusion", "boosting", "soft-boosting")
MEMBERS, STRENGTH = 10, 0.03
# What --from, which trains nothing, can't be combined with.
TRAINING = ["models", "mode", "val_fraction", "split", "split_seed", "shifts"]
TRAINING += ["compile", "dry_run", *RECIPES["cnn"]]


def make_parser() -> cli.Parser:
    parser = cli.Parser(
        prog="ensemble.py",
        description=__doc__,
        parents=[cli.run_flags(), training_flags(), recipe_flags()],
        epilog=cli.recipe_table(RECIPES, "recipes"),
    )
    add = parser.add_argument_group("ensemble").add_argument
    count = f"number of members of a library (default: {MEMBERS}, of --mode adversarial 2, or all of --from)"
    add("--members", type=Number(int, 2, 1000), help=count)
    names = f"networks of the members, in turn: {', '.join(ENCODERS)} (default: cnn)"
    add("--model", dest="models", type=list_of(known=ENCODERS), metavar="A[,B,...]", help=names)
    runs = "combine these finished runs, train nothing"
    add("--from", dest="sources", type=any_path, nargs="+", metavar="RUN", help=runs)
    add("--mode", choices=MODES, help="how members are trained (default: voting)")
    share = f"share of the training images to validate on (default: {VAL_FRACTION})"
    add("--val-fraction", type=Number(float, 0.0001, 0.9999), help=share)
    seed = "seed of the choice of validation images"
    add("--split-seed", type=Number(int, 0, LARGEST_SEED), default=0, help=seed)
    apart = f"how hard --mode adversarial pushes features apart; below 0 together (default: {STRENGTH})"
    add("--strength", type=Number(float, -100, 100), help=apart)
    headline = "combination that is the headline (default: average; of fusion and boosting log_average)"
    add("--combine", choices=selection.COMBINATIONS, help=headline)
    return parser


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments and the command; recipe values stay None."""
    parser = make_parser()
    args = parser.parse_args(argv)
    given = [key for key in TRAINING if getattr(args, key) != parser.get_default(key)]
    if args.sources and given:
        flag = given[0].replace("models", "model").replace("_", "-")
        parser.error(f"--from trains nothing: leave out --{flag}")
    if args.sources and args.runs > 1 and not args.members:
        parser.error("--runs with --from samples libraries: it needs --members")
    command = cli.command_line(parser, args)
    combine = "log_average" if args.mode in OF_LOGITS else "average"
    cli.fill(args, {"models": ["cnn"], "mode": "voting", "val_fraction": VAL_FRACTION, "combine": combine})
    if args.mode in TOGETHER and len(args.models) > 1:
        parser.error(f"--mode {args.mode} is for one model")
    pair = args.mode == "adversarial"
    if args.strength is not None and not pair or pair and args.members not in (None, 2):
        parser.error("--strength is for --mode adversarial, which has 2 --members")
    if pair:
        cli.fill(args, {"members": 2, "strength": STRENGTH})
    if not args.sources:
        cli.fill(args, {"members": MEMBERS})
        if len(args.models) > args.members:
            parser.error(f"--members {args.members} is fewer than the {len(args.models)} names of --model")
    cli.resolve_machine(args)
    return args, command


# --- Training members ---


def training_units(args: Namespace) -> list[list[dict]]:
    """Return lists of jobs, each for one process: single members, or libraries of the modes TOGETHER.

    Every member has its own seed, counted from --seed; with several models they take turns in a library.
    """
    models, units = args.models, []
    for first in range(args.seed, args.seed + args.runs * args.members, args.members):
        library = [{"seed": first + i, "model": models[i % len(models)]} for i in range(args.members)]
        units += [library] if args.mode in TOGETHER else [[job] for job in library]
    return units


def member_config(args: Namespace, model: str, labels: torch.Tensor) -> ClassifierConfig:
    """Return the settings of one member: its model's recipe where no flag overrides it, see `for_size`.

    labels: of the training images. Snapshots share its epochs, a cosine each (Huang et al., 2017).
    """
    recipe = RECIPES[model]
    if args.mode == "snapshot":
        cycle = max(2, recipe["epochs"] // args.members)  # one epoch would learn too little
        recipe = {**recipe, "epochs": cycle, "schedule": "cosine", "plain_epochs": 0, "ema": 0.0}
    return ClassifierConfig.from_values(with_recipe(args, recipe, model, labels))


def choose_images(args: Namespace, labels: torch.Tensor, job: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (training, validation) indices of one member; all members share the validation images."""
    train, val = split(labels, args.val_fraction, args.split_seed, writers_for(args.split, labels))
    return (bootstrap(train, job["seed"]) if args.mode == "bagging" else train), val


def create_member(classes: int, job: dict, previous: RunFolder | None = None) -> nn.Module:
    """Return a member's network: fresh from its seed, or with the weights of the snapshot run `previous`."""
    model = read_model(previous.path("best.pt")).model if previous else None
    torch.manual_seed(job["seed"])
    return model or create(job["model"], classes)


def build(args: Namespace, networks: list, smoothing: float) -> tuple[nn.Module, Step]:
    """Return what is trained as one network, and its step. networks: of one member, or of all together."""
    if args.mode == "adversarial":
        pair = Separated(networks)
        return pair, separation_step(pair, networks, args.strength, smoothing)
    if args.mode in ("boosting", "soft-boosting"):
        boosted = Boosted(networks)
        return boosted, boosting_step(boosted, smoothing)
    model = Fusion(networks) if args.mode == "fusion" else networks[0]
    return model, classification_step(model, smoothing)


def boosting_step(model: Boosted, smoothing: float) -> Step:
    """Return the step that trains the last networks, those that aren't frozen, see `boosting_losses`."""
    trained = sum(any(p.requires_grad for p in network.parameters()) for network in model.networks)

    def step(images, labels):
        outputs = torch.stack([network(images).float() for network in model.networks])
        classes = outputs.shape[2]
        targets = one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
        loss = boosting_losses(outputs, targets)[-trained:].sum()
        return loss, {"accuracy": (outputs.sum(0).argmax(1) == labels).float().mean()}

    return step


def separation_step(pair: Separated, networks: list[Classifier], strength: float, smoothing: float) -> Step:
    """Return the step of a pair: the cross-entropy of each, on the same batch, and of the discriminator."""

    def step(images, labels):
        features = [network.encoder(images) for network in networks]
        logits = torch.stack([net.head(own).float() for net, own in zip(networks, features, strict=True)])
        losses = [cross_entropy(own, labels, label_smoothing=smoothing) for own in logits]
        told, told_right = pair.tell(features, labels, strength)
        right = (logits.argmax(2) == labels).float().mean()
        return sum(losses, told), {"accuracy": right, "discriminator_accuracy": told_right}

    return step


def train_unit(args: Namespace, data: Data, run: RunFolder, jobs: list[dict]) -> None:
    """Train the unfinished members of one of the `training_units`; they share settings and images.

    The JOINT modes train all networks as one, whose checkpoint the first member's folder keeps.
    """
    parts = [run.part(f"member-{job['seed']}") for job in jobs]
    if all(part.finished for part in parts):
        return
    train_set, classes = data[0], len(data[0].classes)
    indices = choose_images(args, train_set.labels, jobs[0])
    config = member_config(args, jobs[0]["model"], train_set.labels[indices[0]])

    def fit(networks, seed, part):
        model, step = build(args, networks, config.label_smoothing)
        return fit_classifier(model, config, train_set, indices, seed, part, step)

    if args.mode in JOINT:
        networks = [create_member(classes, job) for job in jobs]
        shared = fit(networks, jobs[0]["seed"], parts[0])
        shared["train_seconds"] = round(shared["train_seconds"] / len(jobs), 3)

    def train(job, part):
        number = jobs.index(job)
        if args.mode in JOINT:
            model, facts = networks[number], shared
        else:
            previous = parts[number - 1] if args.mode == "snapshot" and number else None
            model = create_member(classes, job, previous)
            before = parts[:number] if args.mode == "boosting" else []
            frozen = [read_model(part.path("best.pt")).model.requires_grad_(False) for part in before]
            facts = fit([*frozen, model], job["seed"], part)
        scores, predictions, calibration = evaluate_classifier(model, data, indices[1], config.shifts)
        save_classifier(part, model, config.model, train_set, calibration, predictions)
        seconds = facts["train_seconds"]
        return {**job, **facts, "train_images": len(indices[0]), **scores, "seconds": seconds}

    for job, part in zip(jobs, parts, strict=True):
        train_part(train, job, part, run, args.quiet)


# --- Combining them ---


def find_run(args: Namespace, name: str) -> Path:
    """Return the folder of a run that --from names: a path, or a name below --results-dir."""
    for folder in (Path(name), Path(args.results_dir) / name):
        if folder.is_dir():
            return folder
    raise UserError(f"--from {name}: no such run; name its folder, or ensemble/pool in {args.results_dir}")


def sample_members(args: Namespace, pool: Library, job: dict) -> Library:
    """Return one library: the members trained for it, or a sample of the pool of --from by the job's seed."""
    if args.sources:
        return pool.sample(args.members or len(pool.members), job["seed"])
    first = (job["seed"] - args.seed) * args.members
    return pool.choose(np.arange(first, first + args.members))


def read_pool(args: Namespace, folders: list[Path], test_labels: np.ndarray) -> Library:
    """Read all members; UserError when they don't allow the libraries asked for."""
    pool = read_library(folders, args.dataset)
    count = len(pool.members)
    if count < 2:
        places = ", ".join(map(str, folders))
        raise UserError(f"an ensemble has at least 2 members, found {count} in {places}")
    if not np.array_equal(pool.test_y, test_labels):
        raise UserError(f"the members' test labels are not those of {args.dataset} in {args.data_dir}")
    if not pool.validated and args.combine not in selection.FIXED:
        fixed = ", ".join(selection.FIXED)
        raise UserError(f"the members have no validation images to choose on: --combine {fixed}")
    if args.members and args.sources and (args.members > count or args.runs > 1 and args.members == count):
        raise UserError(f"cannot sample {args.runs} libraries of {args.members} from {count} members")
    return pool


def plot_figures(run: RunFolder, args: Namespace, pool: Library, test_set: ImageSet) -> None:
    """Plot the figures of a run; the mistakes are those of its first library."""
    library = sample_members(args, pool, {"seed": args.seed})
    if lines := run.history():
        records = [member.record for member in pool.members]
        if args.mode == "snapshot":  # its cycles are one training
            lines = [{**line, "seed": 0, "epoch": epoch} for epoch, line in enumerate(lines, 1)]
            records = []
        plot_history(lines, run.path("curves.png"), records=records)
    images, p, y = test_set.images.cpu().numpy(), library.test_p, library.test_y
    title = "Test images that every member gets wrong: true → class of the average, index, confidence"
    path, missed = run.path("mistakes.png"), ~selection.oracle(p, y)
    cnn.plot_mistakes(images, y, selection.average(p), path, test_set.classes, missed, title)


def report(metrics: dict, run: RunFolder) -> None:
    """Print the combinations side by side."""
    mean, runs = metrics["mean"], metrics["runs"]
    print("combination          test accuracy       loss     ECE   gain of accuracy over average")
    for name in [name for name in selection.COMBINATIONS if f"{name}_test_loss" in mean]:
        loss, ece, gain = (mean[f"{name}_test_{key}"] for key in ("loss", "ece", "gain"))
        accuracy = score(metrics, f"{name}_test_accuracy")
        print(f"{name:19}  {accuracy:17}  {loss:.4f}  {ece:.4f}  {100 * gain:+.3f} points")
    print(f"mean single member   {score(metrics, 'mean_single_test_accuracy')}")
    print(f"any member right     {score(metrics, 'oracle_test_accuracy')}")
    libraries = f"{len(runs)} libraries" if len(runs) > 1 else "library"
    print(f"{libraries} of {runs[0]['members']} members; figures and metrics in {run.folder}/")


@cli.command
def main(argv: list[str] | None = None) -> dict:
    args, command = parse(argv)
    data = cli.load_data(args)
    folders, test_labels = [find_run(args, name) for name in args.sources or []], data[1].labels.cpu().numpy()
    if args.sources:
        pool = read_pool(args, folders, test_labels)  # fail now, before a folder is made
        default = "from-" + "-".join(folder.name for folder in folders)
    else:
        units = training_units(args)
        choose_images(args, data[0].labels, units[0][0])
        default = "-".join(args.models) + (f"-{args.mode}" if args.mode != "voting" else "")
    run = distributed.on_rank_zero(lambda: open_run("ensemble", args, default, command))
    if not args.sources:
        share_out(lambda *jobs: train_unit(args, data, run, list(jobs)), units)
        pool = read_pool(args, [run.folder], test_labels)

    def evaluate(job, part):
        record, predictions = evaluate_library(sample_members(args, pool, job), args.combine, job)
        part.save_predictions(**predictions)
        return record

    metrics = repeat(evaluate, args, run)
    if distributed.rank() == 0:
        run.write_history([] if args.sources else member_history(pool))
        cli.draw(plot_figures, run, args, pool, data[1])
        report(metrics, run)
    return metrics


if __name__ == "__main__":
    main()
