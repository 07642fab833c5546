"""Train an embedding in which images of one class are close, also those of classes it has never seen.

    python train_triplet.py                                          all digits
    python train_triplet.py --classes 0,1,2 --images-per-class 100   three digits teach ten
    python train_triplet.py --classes 0,1,2 --images-per-class 100 --encoder simclr --lr 0.001
    python train_triplet.py --loss triplet --mining semi-hard --margin 0.2
    python train_triplet.py --loss bce                               are two images of one class?
    python train_triplet.py --recipe original --classes 0,1,2 --images-per-class 100
    python train_triplet.py --sweep --images-per-class 100           accuracy against the training data

Results go to results/triplet/<name>/: metrics.json, history.jsonl, figures, and encoder.pt, which
models.load_encoder opens. The embedding is scored by N-way k-shot episodes (support images from the training
set, queries from the test set), by retrieval and by verification, on seen and on unseen digits. The default
takes 16 minutes on one CPU core, 100 images of three digits 5 minutes.
"""

import re
from argparse import Namespace

import torch
from torch import nn

from data import ClassBatches, Data, ImageSet, few_labels, generator, of_classes, split, view_augment
from data.images import class_number
from data.triplet import CLASS_AUGMENTS, GlyphBatches, symmetric_copies
from data.writers import writers_for
from evaluation import triplet as evaluation
from evaluation.contrastive.clustering import tsne_map
from models import ContrastiveModel, create, load_encoder, supcon, triplet
from models.contrastive import HEADS
from utils import cli, distributed
from utils.arguments import Number, any_path, list_of
from utils.console import score
from utils.plots import contrastive
from utils.plots.history import plot_history
from utils.runs.folder import RunFolder, open_run
from utils.runs.repeat import collect, parts, repeat, report_sweep
from utils.training.fit import FitConfig, Step, fit
from utils.training.flags import VAL_FRACTION, optimizer_flags, training_flags, view_flags
from utils.training.size import fit_to_size

# The defaults of the recipes. "few" was tuned by the accuracy on printed letters (data/triplet.py)
# after training on 0, 1, 2; "all" by P@1 on validation images.
RECIPE_NAMES = ("all", "few", "original")
DEFAULTS = {
    "model": ("cnn", "compact", "siamese"),
    "head": ("none", "none", "none"),
    "loss": ("supcon", "supcon", "triplet"),
    "temperature": (0.1, 0.05, 0.1),
    "mining": ("semi-hard", "semi-hard", "random"),
    "margin": (0.2, 0.2, 1.0),
    "distance": ("unit-squared", "unit-squared", "squared"),
    "class_augment": ("none", "glyphs", "none"),
    "glyphs": (28, 28, 28),
    "batch_classes": (0, 8, 0),
    "batch_images": (26, 6, 32),
    "views": (["affine"], ["affine", "elastic", "blur"], ["affine"]),
    "strength": (0.6, 1.0, 0.0),
    "epochs": (12, 12, 50),
    "steps": (0, 50, 1),
    "optimizer": ("adamw", "adamw", "adam"),
    "lr": (3e-3, 3e-3, 1e-3),
    "weight_decay": (0.02, 0.02, 0.0),
    "schedule": ("warm-up-cosine", "warm-up-cosine", "none"),
    "ema": (0.998, 0.998, 0.0),
    "clip_norm": (0.0, 0.0, 0.0),
    "copies": (0, 4, 0),
}
RECIPES = {name: {flag: row[i] for flag, row in DEFAULTS.items()} for i, name in enumerate(RECIPE_NAMES)}
# A sweep trains on the first so many digits, and on so many images of each of the digits 0, 1, 2.
SWEEP_DIGITS, SWEEP_IMAGES = range(2, 11), (10, 30, 100, 300, 1000, 3000)
MAPPED = 2000  # test images on the map


def make_parser() -> cli.Parser:
    parser = cli.Parser(
        prog="train_triplet.py",
        description=__doc__,
        parents=[
            cli.run_flags(),
            training_flags(least_batch=None),
            optimizer_flags(validated=False),
            view_flags(triplet.TRIPLET_ENCODERS),
        ],
        epilog=cli.recipe_table(RECIPES, "recipes"),
    )
    count = Number(int, 0, 1000)
    add = parser.add_argument_group("images to train on").add_argument
    classes = "classes to train on, by name or number (default: all)"
    add("--classes", type=list_of(least=2), metavar="A,B,...", help=classes)
    add("--images-per-class", type=Number(int, 3, 100000), help="images of each class (default: all)")
    add("--encoder", type=any_path, metavar="FILE", help="start from a saved encoder, e.g. simclr")
    add("--recipe", choices=RECIPES, help="set of defaults (default: few with --images-per-class, else all)")
    add("--class-augment", choices=CLASS_AUGMENTS, help="synthetic classes made from the given ones")
    add("--glyphs", type=Number(int, 1, 1000), help="glyphs in a batch, with --class-augment glyphs")
    add("--batch-classes", type=count, help="classes in a batch; 0 for all")
    add("--batch-images", type=Number(int, 2, 1000), help="images of each class in a batch")
    add("--steps", type=Number(int, 0, 1000000), help="steps in an epoch; 0 for one pass over the images")
    add("--sweep", action="store_true", help="train on 2 to 10 digits, and on 10 to 3,000 images of three")
    add = parser.add_argument_group("metric learning (defaults: the recipe's)").add_argument
    add("--loss", choices=triplet.LOSSES, help="loss")
    add("--mining", choices=triplet.MINERS, help="which triplets the triplet loss takes")
    add("--margin", type=Number(float, 0, 1000), help="margin of the triplet, contrastive and ArcFace loss")
    add("--head", choices=HEADS, help="projection head, for the training only")
    add = parser.add_argument_group("evaluation").add_argument
    add("--copies", type=count, help="number of deformed copies to average an embedding over")
    add("--episodes", type=Number(int, 2, 10000), default=1000, help="number of episodes of each kind")
    add("--floors", action="store_true", help="also score pixels, deformed pixels and an untrained encoder")
    add("--compare", type=any_path, metavar="FILE", help="also score this encoder, e.g. encoder.pt of SimCLR")
    return parser


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments, filled in from the recipe, and the command."""
    parser = make_parser()
    args = parser.parse_args(argv)
    command = cli.command_line(parser, args)
    if args.sweep and (args.classes or not args.images_per_class):
        parser.error("--sweep chooses the digits itself: give --images-per-class and no --classes")
    if args.encoder and args.model:
        parser.error("--encoder brings its own network: leave out --model")
    args.model = load_encoder(args.encoder).name if args.encoder else args.model
    args.recipe = args.recipe or ("few" if args.images_per_class else "all")
    cli.fill(args, RECIPES[args.recipe])
    if args.loss == "arcface" and args.class_augment == "glyphs":
        parser.error("--loss arcface needs classes that all batches share: add --class-augment symmetries")
    cli.resolve_machine(args)
    return args, command


def choose_images(args: Namespace, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the (training, validation) indices that the flags ask for; DataError if there are none."""
    chosen = of_classes(labels, args.classes or labels.unique().tolist())
    if args.images_per_class:
        chosen = chosen[few_labels(labels[chosen], args.images_per_class, args.seed)]
    writers = writers_for(args.split, labels)
    parts = split(labels[chosen], VAL_FRACTION, args.seed, None if writers is None else writers[chosen])
    return chosen[parts[0]], chosen[parts[1]]


def make_batches(args: Namespace, images: ImageSet, indices: torch.Tensor) -> ClassBatches:
    """Return P x K batches, with the classes that --class-augment adds; DataError for a wrong P or K."""
    shape = args.batch_classes or len(images.labels[indices].unique()), args.batch_images
    augment = view_augment(args.views, args.strength) if args.strength else None
    options = {"batches_per_epoch": args.steps or None, "seed": args.seed, "augment": augment}
    if args.class_augment != "none":
        images = symmetric_copies(images, indices)
        indices = torch.arange(len(images.labels))
    if args.class_augment == "glyphs":
        return GlyphBatches(images, indices, *shape, glyphs=args.glyphs, **options)
    return ClassBatches(images, indices, *shape, **options)


def embedding_step(model: ContrastiveModel, args: Namespace) -> Step:
    """Return the step for `fit`: the loss of a batch of embeddings, and what to watch."""

    def step(images, labels):
        embeddings = model(images.contiguous(memory_format=torch.channels_last)).float()
        if args.loss == "supcon":
            loss = supcon(embeddings.unsqueeze(1), labels, args.temperature)
        elif args.loss == "triplet":
            loss = triplet.triplet_loss(embeddings, labels, args.margin, args.mining, args.distance)
        elif args.loss == "contrastive":
            loss = triplet.contrastive_loss(embeddings, labels, args.margin, args.distance)
        else:
            loss = model.loss(triplet.prepare_embeddings(embeddings, args.distance), labels)
        return loss, triplet.triplet_metrics(embeddings, labels, args.margin, args.distance)

    return step


def build_training(
    args: Namespace, images: ImageSet, indices: torch.Tensor
) -> tuple[ContrastiveModel, Step, ClassBatches]:
    """Create the model, its step and its batches of the images at `indices`."""
    batches = make_batches(args, images, indices)
    torch.manual_seed(args.seed)
    encoder = load_encoder(args.encoder) if args.encoder else create(args.model, 0, triplet.TRIPLET_ENCODERS)
    model = ContrastiveModel(encoder, args.head)
    if args.loss == "bce":
        model.loss = triplet.PairLoss(model.dimensions)
    elif args.loss == "arcface":
        sizes = model.dimensions, len(batches.set.classes)
        model.loss = triplet.ArcFace(*sizes, args.margin, args.temperature)
    model = model.to(args.device).to(memory_format=torch.channels_last)
    return model, embedding_step(model, args), batches


def reference_encoders(args: Namespace) -> dict[str, nn.Module]:
    """Return what the trained encoder has to beat: --floors, and the encoder that --compare names."""
    encoders: dict[str, nn.Module] = {}
    if args.floors:
        torch.manual_seed(args.seed)
        encoders = {"pixels": nn.Flatten(), "untrained": create(args.model, 0, triplet.TRIPLET_ENCODERS)}
    if args.compare:
        encoders["other"] = load_encoder(args.compare)
    return {name: encoder.to(args.device) for name, encoder in encoders.items()}


def train(args: Namespace, data: Data, run: RunFolder | None = None) -> dict:
    """Train and evaluate one embedding from --seed; return the record and leave the files in `run`."""
    train_set, test_set = data
    train_idx, val_idx = choose_images(args, train_set.labels)
    model, step, batches = build_training(args, train_set, train_idx)
    validate = evaluation.watch_precision(train_set, val_idx, args.knn_every, args.epochs, args.precision)
    facts = fit(model, step, batches, FitConfig.from_values(vars(args)), run, validate)

    seen = sorted(set(train_set.labels[train_idx].tolist()))
    unit = args.loss in ("supcon", "arcface") or args.distance == "unit-squared"
    weights, order = (model.loss.weights.detach(), 1) if args.loss == "bce" else (None, 2)
    sizes = {"copies": args.copies, "episodes": args.episodes, "precision": args.precision}
    options = evaluation.RetrievalOptions(
        len(test_set.classes), seen, args.seed, unit, weights, order, **sizes
    )
    scores, arrays = evaluation.evaluate_retrieval(model.encoder, data, val_idx, options)
    if args.floors or args.compare:
        scores |= evaluation.evaluate_floors(reference_encoders(args), args.floors, data, options)
    if run:
        run.save_model("encoder.pt", model.encoder, args.model, train_set.description, num_classes=0)
        run.save_predictions(**arrays)
    counts = {"train_images": len(train_idx), "val_images": len(val_idx)}
    return {"seed": args.seed, **facts, **counts, **scores, "seconds": facts["train_seconds"]}


def plot_figures(run: RunFolder, args: Namespace, data: Data) -> None:
    """Plot the curves of all trainings, and the embeddings of the first."""
    first = parts(run, args)[0]
    saved = first.predictions()
    labels, seen, classes = saved["test_labels"], saved["seen"].tolist(), data[1].classes
    plot_history(run.history(), run.path("curves.png"))
    rows = torch.from_numpy(saved["embeddings"]).float()
    mapped = torch.randperm(len(rows), generator=generator(0))[: 100 if args.dry_run else MAPPED]
    points, title = tsne_map(rows[mapped]), f"t-SNE of the embeddings of {len(mapped):,} test digits"
    part = {"title": title, "points": points, "labels": labels[mapped], "seen": seen}
    contrastive.plot_maps([part], run.path("map.png"), classes=classes)


def report(metrics: dict, run: RunFolder) -> None:
    names = [
        name for name in metrics["mean"] if re.fullmatch(r"test_(unseen_)?\d+way_\d+shot_accuracy", name)
    ]
    found = [f"{name[5:-9].replace('_', ' ')} {score(metrics, name)}" for name in names]
    text = f"test accuracy over episodes: {', '.join(found)}"
    if "test_precision_at_1" in metrics["mean"]:  # where a class has two test images
        text += f"; P@1 {score(metrics, 'test_precision_at_1')}"
    print(f"{text}; {metrics['seconds']:.0f} s of training; figures and metrics in {run.folder}/")


# --- Sweeps ---


def sweep_jobs(args: Namespace, labels: torch.Tensor) -> list[dict]:
    """Return every training that the data suffice for: on more and more digits, and more images of three."""
    sizes = labels.bincount()
    cells = [(digits, args.images_per_class) for digits in SWEEP_DIGITS if digits <= len(sizes)]
    most = int(sizes[:3].min())
    cells += [(3, images) for images in SWEEP_IMAGES if images != args.images_per_class and images <= most]
    seeds = range(args.seed, args.seed + args.runs)
    return [{"digits": digits, "images": images, "seed": seed} for seed in seeds for digits, images in cells]


def cell_arguments(args: Namespace, command: str, labels: torch.Tensor, job: dict) -> Namespace:
    """Return the arguments of one training of a sweep, whose batches its images can fill."""
    own = {"classes": list(range(job["digits"])), "images_per_class": job["images"], "seed": job["seed"]}
    cell = Namespace(**vars(args) | own | {"quiet": True})
    fit_to_size(cell, command, labels[choose_images(cell, labels)[0]])
    return cell


@cli.command
def main(argv: list[str] | None = None) -> dict:
    args, command = parse(argv)
    data = cli.load_data(args)
    args.classes = args.classes and [class_number(data[0].classes, "classes", word) for word in args.classes]
    labels = data[0].labels
    fit_to_size(args, command, labels[choose_images(args, labels)[0]])
    work = sweep_jobs(args, labels) if args.sweep else []
    for trained in [cell_arguments(args, command, labels, job) for job in work] or [args]:
        make_batches(trained, data[0], choose_images(trained, labels)[0])  # fail now, before a folder is made
    if args.compare:
        load_encoder(args.compare)
    name = "sweep" if args.sweep else args.recipe
    run = distributed.on_rank_zero(lambda: open_run("train_triplet", args, name, command))
    if args.sweep:

        def train_cell(job):
            return job | train(cell_arguments(args, command, labels, job), data)

        content = collect(train_cell, work, args, run, group=("digits", "images"))
        if distributed.rank() == 0:
            names = [f"test_{len(data[0].classes)}way_{shots}shot_accuracy" for shots in evaluation.SHOTS]
            report_sweep(content, [name for name in names if name in content["cells"][0]["mean"]], run)
        return content
    metrics = repeat(lambda job, part: train(Namespace(**vars(args) | job), data, part), args, run)
    if distributed.rank() == 0:
        cli.draw(plot_figures, run, args, data)
        report(metrics, run)
    return metrics


if __name__ == "__main__":
    main()
