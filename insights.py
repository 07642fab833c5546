"""Which labels are probably wrong, and which images are hard for all models?

    python insights.py --label-errors --dataset my/pictures     suspects among your own labels, a minute
    python insights.py --label-errors --flip 0.01               of 1 % wrong labels, how many are found?
    python insights.py --hard --networks lenet,fast --epochs 5 --models simclr=1.pt,2.pt,4.pt mil=mil.pt
    python insights.py --halves results/insights/hard --networks fast

A training image is scored by networks that did not train on it. Results go to results/insights/<name>/:
metrics.json, predictions.npz, figures and, of --label-errors, suspects.csv, the least probable label first.
"""

import csv
import io
from argparse import Namespace
from collections.abc import Sequence

import numpy as np
import torch

from data import Data, folds
from data.images import class_number
from data.robustness import flip_labels
from evaluation import insights as evaluation
from evaluation.robustness import is_reviewed
from inference.predictor import load_scorers
from models import ENCODERS, RECIPES, create
from utils import cli, distributed
from utils.arguments import Number, any_path, list_of, named_path
from utils.console import aligned
from utils.errors import UserError
from utils.plots import robustness as plots
from utils.runs.folder import RunFolder, open_run
from utils.runs.repeat import parts, repeat
from utils.training.cnn import ClassifierConfig, fit_classifier
from utils.training.flags import EPOCHS
from utils.training.forward import predict, surprise
from utils.training.size import with_recipe

SHOWN, SHOWN_HARD, SHOWN_ALONE = 24, 40, 8  # suspects, hard images, and those of each paradigm


def make_parser() -> cli.Parser:
    parser = cli.Parser(prog="insights.py", description=__doc__, parents=[cli.run_flags()])
    add = parser.add_argument_group("insights").add_argument
    add("--label-errors", action="store_true", help="rank the labels that are probably wrong")
    add("--hard", action="store_true", help="compare what --networks and --models get wrong")
    add("--halves", type=any_path, metavar="RUN", help="train on hard and easy images of this run of --hard")
    names = f"networks to train: {', '.join(ENCODERS)}"
    add("--networks", type=list_of(known=ENCODERS), metavar="A,B,...", default=["sprint"], help=names)
    add("--epochs", type=EPOCHS, help="passes over the training data (default: the recipe's)")
    rounds = "folds of the training images, each scored by networks of the others"
    add("--folds", dest="rounds", type=Number(int, 2, 100), default=3, metavar="K", help=rounds)
    add("--runs", type=Number(int, 1, 1000), default=1, help="repeats, with seeds --seed, --seed + 1, ...")
    flip = "replace this share of the training labels, and measure how many are found"
    add("--flip", type=Number(float, 0.0001, 0.5), metavar="X", help=flip)
    between = "replace only labels of these classes, by each other (default: all)"
    add("--between", type=list_of(least=2), metavar="A,B,...", help=between)
    models = "other models, several files by growing training; those of cnn_NAME are of the paradigm cnn"
    add("--models", type=named_path, nargs="+", default=[], metavar="NAME=FILE[,FILE]", help=models)
    return parser


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments and the command."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if sum(map(bool, (args.label_errors, args.hard, args.halves))) != 1:
        parser.error("choose one of --label-errors, --hard and --halves")
    if args.between and not args.flip:
        parser.error("--between needs --flip")
    names = model_names(args)
    if doubles := [name for name in names if names.count(name) > 1]:
        parser.error(f"--models: {doubles[0]} is the name of two models")
    command = cli.command_line(parser, args)
    cli.resolve_machine(args)
    return args, command


def model_names(args: Namespace) -> list[str]:
    return [*args.networks, *(text.partition("=")[0] for text in args.models)]


def paradigms(args: Namespace) -> list[str]:
    return ["cnn" if name in ENCODERS else name.partition("_")[0] for name in model_names(args)]


def make_configs(args: Namespace, labels: torch.Tensor) -> list[ClassifierConfig]:
    """Return the settings of --networks for training images with these labels."""
    values = [with_recipe(args, {**RECIPES[name], "shifts": 0}, name, labels) for name in args.networks]
    return [ClassifierConfig.from_values(value) for value in values]


def prepare(args: Namespace, data: Data) -> dict:
    """Return what the question needs besides the data; what is wrong fails here, before a folder is made."""
    folds(data[0].labels, args.rounds, args.seed)
    if args.label_errors:
        return {"classes": [class_number(data[0].classes, "between", name) for name in args.between or ()]}
    if args.hard:
        named = (text.partition("=") for text in args.models)
        return {name: [load_scorers(f, data[0], 1)[0] for f in files.split(",")] for name, _, files in named}
    known = RunFolder(args.halves).predictions("agreement", "loss")
    if len(known.get("agreement", ())) != len(data[0].labels):
        raise UserError(f"--halves {args.halves}: no run of --hard on these images")
    return known


# --- Labels ---


def find_label_errors(args: Namespace, data: Data, between: dict, job: dict, part: RunFolder) -> dict:
    """Rank the suspects of a data set; return the record and leave suspects.csv in `part`."""
    true, labels = data[0].labels.cpu().numpy(), data[0].labels
    if args.flip:
        labels = flip_labels(labels, args.flip, job["seed"], between["classes"])
    data = data[0]._replace(labels=labels), data[1]
    cuts = folds(labels, args.rounds, job["seed"])
    configs = make_configs(args, labels[cuts[0][0]])
    answers = [evaluation.out_of_fold(config, data, cuts, job["seed"]) for config in configs]
    train_p = np.mean([held[-1] for held, _ in answers], 0)
    test_p = np.mean([test[:, -1].mean(0) for _, test in answers], 0)
    train_y, test_y = (images.labels.cpu().numpy() for images in data)
    given = {"train_labels": train_y, "test_labels": test_y}
    part.save_predictions(train=train_p, test=test_p, true_labels=true, **given)
    part.write_text("suspects.csv", suspects_table(data, (train_p, test_p)))
    order, _, disputed = evaluation.suspects(train_p, train_y)
    test_order, _, test_disputed = evaluation.suspects(test_p, test_y)
    record: dict = {"train_disputed": int(disputed.sum()), "test_disputed": int(test_disputed.sum())}
    record |= evaluation.detection(order, disputed, train_y != true) if args.flip else {}
    return record | (evaluation.reviewed_found(test_order) if is_reviewed(test_y) else {})


def suspects_table(data: Data, p: Sequence[np.ndarray]) -> str:
    """Return suspects.csv: a line for every disputed label, training images first."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["part", "position", "source", "label", "suggested", "probability"])
    for name, images, answers in zip(("train", "test"), data, p, strict=True):
        labels, sources = images.labels.tolist(), images.sources or range(len(images.labels))
        order, suggested, disputed = evaluation.suspects(answers, np.array(labels))
        for i in order[disputed[order]].tolist():
            names = images.classes[labels[i]], images.classes[suggested[i]]
            table.writerow([name, i, sources[i], *names, f"{answers[i, labels[i]]:.2g}"])
    return file.getvalue()


def plot_label_errors(run: RunFolder, args: Namespace, data: Data) -> None:
    """Plot the first suspects of the training and of the test images."""
    saved, classes = run.predictions(), plots.style.labels(data[0].classes)
    for name, images, true in zip(("train", "test"), data, ("true_labels", "test_labels"), strict=True):
        labels, pixels = saved[f"{name}_labels"], images.images.squeeze(1).cpu().numpy()
        order, suggested, _ = evaluation.suspects(saved[name], labels)
        tiles = []
        for i in order[:SHOWN].tolist():
            text = f"#{i}: {classes[labels[i]]}\nor {classes[suggested[i]]}?"
            tiles.append((pixels[i], text, labels[i] != saved[true][i]))
        note = "; orange: replaced on purpose" if args.flip and name == "train" else ""
        title = f"{images.name}: the most suspicious {name} labels, position and suggestion{note}"
        plots.plot_labels(tiles, run.path(f"suspects-{name}.png"), title)


# --- Hard images ---


def find_hard(args: Namespace, data: Data, models: dict, job: dict, part: RunFolder) -> dict:
    """Compare what all models get wrong; return the record and leave the facts of each image in `part`."""
    cuts = folds(data[0].labels, args.rounds, job["seed"])
    train_y, test_y = (images.labels.cpu().numpy() for images in data)
    held, losses, steps = [], [], {}
    record: dict = {}
    for config in make_configs(args, data[0].labels[cuts[0][0]]):
        p, test = evaluation.out_of_fold(config, data, cuts, job["seed"])
        right = p.argmax(2) == train_y
        held.append(right[-1])
        losses.append(surprise(p[-1, np.arange(len(train_y)), train_y]))
        record[f"{config.model}_forgotten"] = float((right[:-1] & ~right[1:]).sum(0).mean())
        record[f"{config.model}_held_accuracy"] = float(right[-1].mean())
        steps[config.model] = test[0].argmax(2) == test_y
    for name, scorers in models.items():
        steps[name] = np.stack([score(data[1]).argmax(1) == test_y for score in scorers])
    right = np.stack([each[-1] for each in steps.values()])
    orders = {name: evaluation.learned_at(each) for name, each in steps.items() if len(each) > 1}
    part.save_predictions(agreement=np.mean(held, 0), loss=np.mean(losses, 0), right=right, **orders)
    record |= {f"{name}_accuracy": float(each[-1].mean()) for name, each in steps.items()}
    alone = evaluation.right_alone(right, paradigms(args))
    record |= {f"{kind}_alone": len(images) for kind, images in alone.items()}
    record |= {"all_right": int(right.all(0).sum()), "none_right": int((~right).all(0).sum())}
    record["overlaps"] = evaluation.overlaps(right).round(4).flatten().tolist()
    if orders:
        table = evaluation.rank_correlations(list(orders.values()))
        record["order_correlations"] = table.round(4).flatten().tolist()
    return record


def plot_hard(run: RunFolder, args: Namespace, data: Data) -> None:
    """Plot what errors and orders of learning have in common, and the images that are hard for all."""
    record, saved, names = run.records()[0], run.predictions(), model_names(args)
    maps = {"Share of the better model's errors that the other makes": (names, record["overlaps"])}
    if learners := [name for name in names if name in saved]:
        maps["Order of learning: rank correlation"] = learners, record["order_correlations"]
    plots.plot_maps(maps, run.path("overlap.png"))
    right, pixels, labels = saved["right"], data[1].images.squeeze(1).cpu().numpy(), data[1].labels.tolist()
    hardest = np.argsort(right.sum(0), kind="stable")[:SHOWN_HARD].tolist()
    tiles = [(pixels[i], f"label {labels[i]}\n{right[:, i].sum()} right", False) for i in hardest]
    for kind, images in evaluation.right_alone(right, paradigms(args)).items():
        others = [i for i in images if i not in hardest][:SHOWN_ALONE]
        tiles += [(pixels[i], f"label {labels[i]}\nonly {kind}", True) for i in others]
    title = f"Test images that the fewest of {len(right)} models read; orange: others, by one paradigm alone"
    plots.plot_labels(tiles, run.path("hard.png"), title)


def train_halves(args: Namespace, data: Data, known: dict, job: dict, part: RunFolder) -> dict:
    """Train on the hardest, the easiest and a random half of the images; return the record."""
    (train_set, test_set), record = data, {}
    labels = train_set.labels.cpu().numpy()
    for half, indices in evaluation.halves(known["agreement"], known["loss"], labels, job["seed"]).items():
        for config in make_configs(args, train_set.labels[indices]):
            torch.manual_seed(job["seed"])
            model = create(config.model, len(train_set.classes))
            fit_classifier(model, config, train_set, (indices, indices[:0]), job["seed"])
            p, y = predict(model, test_set)
            record[f"{config.model}_{half}_accuracy"] = float((p.argmax(1) == y).mean())
    part.save_predictions(labels=labels)  # a finished training has a file of predictions
    return record


@cli.command
def main(argv: list[str] | None = None) -> dict:
    args, command = parse(argv)
    data = cli.load_data(args)
    needed = prepare(args, data)
    work = find_label_errors if args.label_errors else find_hard if args.hard else train_halves
    plot = {find_label_errors: plot_label_errors, find_hard: plot_hard}.get(work)
    name = work.__name__.split("_", 1)[1].replace("_", "-")
    run = distributed.on_rank_zero(lambda: open_run("insights", args, name, command))

    metrics = repeat(lambda job, part: job | work(args, data, needed, job, part), args, run)
    if distributed.rank() == 0:
        run.write_history([])  # nothing is kept of the trainings
        if plot:
            cli.draw(plot, parts(run, args)[0], args, data)
        print(*aligned([[key, f"{value:.4f}"] for key, value in metrics["mean"].items()]), sep="\n")
        print(f"figures and metrics in {run.folder}/")
    return metrics


if __name__ == "__main__":
    main()
