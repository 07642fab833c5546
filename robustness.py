"""How much accuracy is left when the digits are corrupted, and which labels do all good models dispute?

    python robustness.py --models compact=weights/classifier.safetensors simclr=weights/simclr.safetensors
    python robustness.py --models lenet=results/cnn/lenet ten_lenet=results/ensemble/lenet-10
    python robustness.py --models cnn=results/cnn/cnn --images 1000 --trainings 1
    python robustness.py --unknown --models lenet=results/cnn/lenet fast=results/cnn/fast

Nine corruptions at five strengths, see data/robustness.py, in the manner of MNIST-C. A model is a file, or
the folder of a run with its weights: a classifier, an ensemble, or an encoder, which gets a linear probe on
all training images. Nothing else is trained, and nothing is chosen. Results go to results/robustness/<name>/:
metrics.json, predictions.npz of the clean images, and figures. On one CPU core 1,000 images take up to a
minute for a model.

With --unknown nothing is corrupted: how well do classifiers tell images of no digit from test images?
"""

from argparse import Namespace

import numpy as np
import torch

from data import Data, ImageSet, split
from data.robustness import CORRUPTIONS, LABEL_ERRORS, LEVELS, corrupt, unknown_images
from evaluation import robustness as evaluation
from evaluation.doubt import unknown_metrics
from inference.predictor import load_scorers, model_files, read_network, renormalised
from models import Classifier
from utils import cli, distributed
from utils.arguments import Number, named_path
from utils.console import aligned, percent
from utils.errors import UserError
from utils.plots import robustness as plots
from utils.runs.folder import RunFolder, open_run
from utils.runs.repeat import repeat

SHOWN_DIGIT = 2  # of the figure of examples: its class
SHOWN_MISTAKES = 24
SEEN = 10_000  # training images among which --unknown looks for the nearest


def make_parser() -> cli.Parser:
    parser = cli.Parser(prog="robustness.py", description=__doc__, parents=[cli.run_flags(precision=False)])
    add = parser.add_argument_group("robustness").add_argument
    files = "models to compare: each a name, and a file or the folder of a run"
    add("--models", type=named_path, nargs="+", required=True, metavar="NAME=FILE", help=files)
    baseline = "model that the mean corruption error is relative to (default: the first)"
    add("--baseline", metavar="NAME", help=baseline)
    images = "number of test images to corrupt, a sample by class (default: all)"
    add("--images", type=Number(int, 10, 10**6), help=images)
    unknown = "score how well classifiers tell images of no digit; corrupt nothing"
    add("--unknown", action="store_true", help=unknown)
    add("--trainings", type=Number(int, 1, 1000), help="take the first N trainings of a run (default: all)")
    return parser


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments and the command."""
    parser = make_parser()
    args = parser.parse_args(argv)
    names = [text.partition("=")[0] for text in args.models]
    if doubles := [name for name in names if names.count(name) > 1]:
        parser.error(f"--models names {doubles[0]} twice")
    taken = {f"{name}_{word}" for name in names for word in ("corrupted", "relative")}
    if clashes := taken.intersection(names):
        parser.error(f"--models: rename {min(clashes)}: a metric of another model would have the same name")
    if args.baseline is not None and args.baseline not in names:
        parser.error(f"--baseline {args.baseline}: choose from {', '.join(names)}")
    command = cli.command_line(parser, args)
    args.baseline = args.baseline or names[0]
    cli.resolve_machine(args)
    return args, command


def load_models(args: Namespace, train_set: ImageSet) -> dict[str, list[evaluation.Scorer]]:
    """Load all models; print a line for each, because fitting a probe takes a while."""
    models = {}
    for text in args.models:
        name, _, path = text.partition("=")
        models[name] = load_scorers(path, train_set, args.trainings)
        if not args.quiet:
            count = len(models[name])
            print(f"{name}: {path}, {count} training{'s' if count > 1 else ''}", flush=True)
    return models


def load_networks(args: Namespace, data: Data) -> dict[str, list[tuple]]:
    """Load the classifiers of --unknown, each with the images that they score, as it was trained on."""
    seen = data[0]._replace(images=data[0].images[:SEEN], labels=data[0].labels[:SEEN])
    kinds = {"training": seen, "digits": data[1], **unknown_images(data[1], args.data_dir, args.seed)}
    models: dict[str, list[tuple]] = {}
    for name, _, path in (text.partition("=") for text in args.models):
        for file in model_files(path)[: args.trainings]:
            network, facts, _ = read_network(file, args.device, Classifier)
            sets = {kind: renormalised(images, facts) for kind, images in kinds.items()}
            models.setdefault(name, []).append((network, sets))
    return models


def choose_images(args: Namespace, labels: torch.Tensor) -> np.ndarray:
    """Return the positions of the test images to corrupt, sampled by class; UserError for too many."""
    if args.images is None or args.images == len(labels):
        return np.arange(len(labels))
    if args.images > len(labels):
        raise UserError(f"--images {args.images}: there are {len(labels)} test images")
    share = (args.images - 0.5) / len(labels)  # the split rounds up
    return split(labels, share, args.seed)[1].numpy()


def evaluate(args: Namespace, test_set: ImageSet, models: dict, run: RunFolder) -> dict:
    """Score all models; return the record, leave the predictions of the clean images in `run`."""
    subset = choose_images(args, test_set.labels)
    scored = evaluation.score_models(models, test_set, subset, args.seed, args.quiet)
    labels = test_set.labels.cpu().numpy()
    clean = {name: scores.clean for name, scores in scored.items()}
    run.save_predictions(labels=labels, **{f"{name}_probabilities": p for name, p in clean.items()})
    record: dict = {"corrupted_images": len(subset)}
    record |= {f"{name}_trainings": len(p) for name, p in clean.items()}
    record |= evaluation.robustness_record(scored, labels, args.baseline)
    if verdicts := evaluation.judge_labels(clean, labels):
        record |= evaluation.label_record(verdicts, labels)
    return record


# --- Figures ---


def plot_figures(run: RunFolder, test_set: ImageSet, record: dict, names: list[str]) -> None:
    """Plot error maps, examples of all corruptions and, on MNIST, the disputed labels."""
    errors = {name.replace("_", " "): record[f"{name}_errors"] for name in names}
    plots.plot_errors(errors, run.path("errors.png"))
    first = int((test_set.labels == SHOWN_DIGIT).int().argmax())  # the first image where there is none
    one, seed = test_set.images.cpu()[[first]], record["seed"]
    rows = [[one, *(corrupt(one, name, i + 1, seed) for i in range(LEVELS))] for name in CORRUPTIONS]
    examples = torch.stack([torch.cat(row).squeeze(1) for row in rows]).numpy()
    plots.plot_examples(examples, run.path("examples.png"))
    saved = run.predictions()
    clean = {name: saved[f"{name}_probabilities"] for name in names}
    if verdicts := evaluation.judge_labels(clean, saved["labels"]):
        plot_labels(run, verdicts, test_set)


def plot_labels(run: RunFolder, verdicts: evaluation.Verdicts, test_set: ImageSet) -> None:
    """Plot the digits that all good models get wrong, and the labels that reviewers did not confirm."""
    images, labels = test_set.images.cpu().squeeze(1).numpy(), test_set.labels.cpu().numpy()
    tiles = []
    for i in verdicts.shared[:SHOWN_MISTAKES].tolist():
        tiles.append((images[i], f"label {labels[i]}\nread as {verdicts.answer[i]}", i in LABEL_ERRORS))
    if tiles:
        title = f"{len(verdicts.shared)} of {len(labels):,} test digits are misread by all {verdicts.models} "
        title += "good models\norange: human reviewers did not confirm the label, either"
        plots.plot_labels(tiles, run.path("shared.png"), title, plots.style.FRONT)
    tiles = []
    for i, review in LABEL_ERRORS.items():
        people = "?" if review.verdict is None else review.verdict
        answer = f"models {verdicts.answer[i]}, {verdicts.confidence[i]:.0%}"
        tiles.append((images[i], f"label {labels[i]}, people {people}\n{answer}", i in verdicts.shared))
    title = f"Labels that reviewers did not confirm; orange: all {verdicts.models} models get them wrong, too"
    plots.plot_labels(tiles, run.path("labels.png"), title)


def report(record: dict, names: list[str], baseline: str, run: RunFolder) -> None:
    rows = [["model", "clean", "corrupted", "mCE", f"relative, against {baseline}"]]
    for name in names:
        keys = ("accuracy", "corrupted_accuracy", "mce", "relative_mce")
        values = [record.get(f"{name}_{key}") for key in keys]
        rows.append([name, *("none" if value is None else percent(value) for value in values)])
    unknown = [[key, f"{record[key]:.4f}"] for key in record if key.endswith("_auc")]
    print(*aligned(unknown or rows), sep="\n")
    corrupted = f"{record.get('corrupted_images', 0):,} corrupted images; figures and "
    print(f"{'' if unknown else corrupted}metrics in {run.folder}/")


@cli.command
def main(argv: list[str] | None = None) -> dict:
    args, command = parse(argv)
    train_set, test_set = data = cli.load_data(args)
    choose_images(args, test_set.labels)  # fail now, before a folder is made
    models: dict = load_networks(args, data) if args.unknown else load_models(args, train_set)
    run = distributed.on_rank_zero(lambda: open_run("robustness", args, "models", command))

    def work(job, part):
        if not args.unknown:
            return job | evaluate(args, test_set, models, part)
        scores = {name: unknown_metrics(trainings) for name, trainings in models.items()}
        return job | {f"{name}_{key}": value for name, own in scores.items() for key, value in own.items()}

    metrics = repeat(work, args, run)
    if distributed.rank() == 0:
        run.write_history([])  # nothing is trained
        if not args.unknown:
            cli.draw(plot_figures, run, test_set, metrics["runs"][0], list(models))
        report(metrics["runs"][0], list(models), args.baseline, run)
    return metrics


if __name__ == "__main__":
    main()
