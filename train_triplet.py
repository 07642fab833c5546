"""Train an embedding in which images of one class are close, also those of classes it has never seen.

    python train_triplet.py                                          all digits
    python train_triplet.py --classes 0,1,2 --images-per-class 100   three digits teach ten
    python train_triplet.py --classes 0,1,2,3,4
    python train_triplet.py --loss triplet --mining semi-hard --margin 0.2
    python train_triplet.py --recipe original --classes 0,1,2 --images-per-class 100
    python train_triplet.py --sweep --images-per-class 100           accuracy against the training data

Results go to results/triplet/<name>/: metrics.json, history.jsonl, figures, and encoder.pt, which
models.load_encoder opens. The embedding is scored by N-way k-shot episodes (support images from the training
set, queries from the test set), by retrieval and by verification, on seen and on unseen digits.
"""

import re
from argparse import Namespace
from dataclasses import replace

import torch
from torch import nn

from data import ClassBatches, Data, ImageSet, few_labels, hold_out, split, view_augment
from data.triplet.glyphs import CLASS_AUGMENTS, class_batches
from evaluation.triplet.retrieval import (
    RetrievalOptions,
    draw_retrieval,
    draw_sweep,
    evaluate_retrieval,
    floor_scores,
    watch_precision,
)
from models import ContrastiveModel, create, load_encoder, supcon
from models.contrastive import HEADS
from models.triplet import (
    DISTANCES,
    LOSSES,
    MINERS,
    TRIPLET_ENCODERS,
    contrastive_loss,
    triplet_loss,
    triplet_metrics,
)
from utils import distributed
from utils.arguments import Number, any_path, number_list
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
    view_flags,
)
from utils.runs.folder import RunFolder, open_run
from utils.runs.repeat import jobs, repeat
from utils.runs.sweep import collect
from utils.training.config import FitConfig
from utils.training.contrastive import save_encoder
from utils.training.fit import Step, fit

# Everything that is a recipe's default. "few" was tuned by the accuracy on printed letters,
# data/triplet/letters.py, after training on 0, 1, 2; "all" by P@1 on validation images.
# fmt: off
ALL = {
    "encoder": "cnn", "head": "none", "loss": "supcon", "temperature": 0.1,
    "mining": "semi-hard", "margin": 0.2, "distance": "unit-squared",
    "class_augment": "none", "glyphs": 28, "batch_classes": 0, "batch_images": 26,
    "views": ["affine"], "strength": 0.6, "epochs": 12, "steps": 0,
    "optimizer": "adamw", "lr": 3e-3, "weight_decay": 0.02, "schedule": "warm-up-cosine",
    "ema": 0.998, "clip_norm": 0.0, "copies": 0,
}
FEW = {
    **ALL, "encoder": "compact", "temperature": 0.05, "class_augment": "glyphs", "batch_classes": 8,
    "batch_images": 6, "views": ["affine", "elastic", "blur"], "strength": 1.0, "epochs": 12, "steps": 50,
    "copies": 4,
}
ORIGINAL = {
    **ALL, "encoder": "siamese", "loss": "triplet", "mining": "random", "margin": 1.0, "distance": "squared",
    "batch_images": 32, "strength": 0.0, "epochs": 50, "steps": 1,
    "optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "schedule": "none", "ema": 0.0,
}
# fmt: on
RECIPES = {"all": ALL, "few": FEW, "original": ORIGINAL}
VAL_FRACTION = 0.1
# A sweep trains on the first so many digits, and on so many images of each of the digits 0, 1, 2.
SWEEP_DIGITS, SWEEP_IMAGES = range(2, 11), (10, 30, 100, 300, 1000, 3000)


def make_parser() -> Parser:
    parser = Parser(
        prog="train_triplet.py",
        description=__doc__,
        parents=[training_flags(), optimizer_flags(), view_flags(TRIPLET_ENCODERS)],
        epilog=recipe_table(RECIPES, "recipes"),
    )
    add = parser.add_argument_group("images to train on").add_argument
    add(
        "--classes",
        type=number_list(0, 9999, least=2),
        metavar="A,B,...",
        help="the digits to train on (default: all)",
    )
    add("--images-per-class", type=Number(int, 3, 100000), metavar="N", help="drawn per run (default: all)")
    choice(add, "--recipe", RECIPES, "defaults (default: few with --images-per-class, else all)")
    choice(add, "--class-augment", CLASS_AUGMENTS, "classes made from the given ones")
    add("--glyphs", type=Number(int, 1, 1000), metavar="G", help="synthetic classes per batch, with glyphs")
    add(
        "--batch-classes",
        type=Number(int, 0, 1000),
        metavar="P",
        help="classes per batch, 0: one per digit",
    )
    add("--batch-images", type=Number(int, 2, 1000), metavar="K", help="images per class and batch")
    add(
        "--steps",
        type=Number(int, 0, 1000000),
        metavar="N",
        help="steps per epoch, 0: one pass over the images",
    )
    add("--sweep", action="store_true", help="train on 2 to 10 digits, and on few to many images of three")
    add = parser.add_argument_group("metric learning (defaults: the recipe's)").add_argument
    choice(add, "--loss", LOSSES, "loss")
    choice(add, "--mining", MINERS, "triplets of the triplet loss")
    add("--margin", type=Number(float, 0, 1000), metavar="X", help="of the triplet and the contrastive loss")
    choice(add, "--distance", DISTANCES, "distance of the triplet and the contrastive loss")
    choice(add, "--head", HEADS, "projection head, for the training only")
    add = parser.add_argument_group("evaluation").add_argument
    add(
        "--copies",
        type=Number(int, 0, 1000),
        metavar="N",
        help="deformed copies to average an embedding over",
    )
    add(
        "--episodes",
        type=Number(int, 2, 10000),
        default=1000,
        metavar="N",
        help="of each kind (default: 1000)",
    )
    add("--floors", action="store_true", help="also score pixels, deformed pixels and an untrained encoder")
    add(
        "--compare",
        type=any_path,
        metavar="FILE",
        help="also score the encoder in FILE, e.g. encoder.pt of SimCLR",
    )
    return parser


def choose_images(args: Namespace, labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the (training, validation) indices that the flags ask for; DataError if there are none."""
    chosen, _ = hold_out(labels, args.classes or labels.unique().tolist())
    if args.images_per_class:
        chosen = chosen[few_labels(labels[chosen], args.images_per_class, seed)]
    train, val = split(labels[chosen], VAL_FRACTION, seed)
    return chosen[train], chosen[val]


def make_batches(args: Namespace, images: ImageSet, indices: torch.Tensor, seed: int) -> ClassBatches:
    """Return P x K batches, with the classes that --class-augment adds; DataError for a wrong P or K."""
    augment = view_augment(args.views, args.strength) if args.strength else None
    given = len(images.labels[indices].unique())
    shape = args.batch_classes or given, args.batch_images, args.class_augment, args.glyphs
    steps = args.steps or None
    return class_batches(images, indices, *shape, batches_per_epoch=steps, seed=seed, augment=augment)


def embedding_step(model: nn.Module, args: Namespace) -> Step:
    """Return the step for `fit`: the loss of a batch of embeddings, and what to watch."""

    def step(images, labels):
        embeddings = model(images.contiguous(memory_format=torch.channels_last)).float()
        if args.loss == "supcon":
            loss = supcon(embeddings.unsqueeze(1), labels, args.temperature)
        elif args.loss == "triplet":
            loss = triplet_loss(embeddings, labels, args.margin, args.mining, args.distance)
        else:
            loss = contrastive_loss(embeddings, labels, args.margin, args.distance)
        return loss, triplet_metrics(embeddings, labels, args.margin, args.distance)

    return step


def fit_embedding(
    args: Namespace, data: Data, seed: int, config: FitConfig, run: RunFolder | None = None
) -> tuple[ContrastiveModel, RetrievalOptions, dict, torch.Tensor]:
    """Train an embedding; return model, options of its evaluation, facts and the validation indices."""
    train_set = data[0]
    train_idx, val_idx = choose_images(args, train_set.labels, seed)
    batches = make_batches(args, train_set, train_idx, seed)
    torch.manual_seed(seed)
    model = ContrastiveModel(create(args.encoder, 0, TRIPLET_ENCODERS), args.head)
    model = model.to(args.device).to(memory_format=torch.channels_last)
    validate = watch_precision(train_set, val_idx, args.knn_every, config.epochs, config.precision)
    facts = fit(model, embedding_step(model, args), batches, config, run, validate)
    facts |= {"train_images": len(train_idx), "val_images": len(val_idx), "seconds": facts["train_seconds"]}
    seen = sorted(set(train_set.labels[train_idx].tolist()))
    return model, RetrievalOptions.from_args(args, seen), facts, val_idx


def train(args: Namespace, data: Data, job: dict, run: RunFolder) -> dict:
    """Train one embedding, evaluate it, save encoder and predictions; return the record."""
    seed = job["seed"]
    model, options, facts, val_idx = fit_embedding(args, data, seed, FitConfig.from_args(args), run)
    encoder = save_encoder(run, model.encoder, data[0])
    retrieval = evaluate_retrieval(encoder, data, val_idx, options, seed)
    floors = floor_scores(args, data, options, seed) if args.floors or args.compare else {}
    run.save_predictions(**retrieval.arrays)
    return {**job, **facts, **retrieval.record, **floors}


def sweep(args: Namespace, data: Data, run: RunFolder) -> dict:
    """Train on more and more digits, and on more and more images of three; write sweep.json."""
    config = replace(FitConfig.from_args(args), quiet=True, track="none")
    classes = len(data[0].classes)
    cells = [(digits, args.images_per_class) for digits in SWEEP_DIGITS if digits <= classes]
    cells += [(3, images) for images in SWEEP_IMAGES if images != args.images_per_class]
    seeds = range(args.seed, args.seed + args.runs)
    todo = [{"digits": d, "images": i, "seed": seed} for seed in seeds for d, i in cells]

    def cell(job):
        classes = list(range(job["digits"]))
        chosen = Namespace(**{**vars(args), "classes": classes, "images_per_class": job["images"]})
        model, options, facts, val_idx = fit_embedding(chosen, data, job["seed"], config)
        return {
            **job,
            **facts,
            **evaluate_retrieval(model.encoder, data, val_idx, options, job["seed"]).record,
        }

    return collect(cell, todo, args, run, group=("digits", "images"))


def parse(argv: list[str] | None = None) -> tuple:
    """Return the checked arguments, filled in from the recipe, and the command."""
    parser = make_parser()
    args = parser.parse_args(argv)
    shown = command_line(parser, args)
    if args.batch_size:
        parser.error("the batch size is P x K: use --batch-classes and --batch-images")
    if args.sweep and (args.classes or not args.images_per_class):
        parser.error("--sweep chooses the digits itself: give --images-per-class and no --classes")
    args.recipe = args.recipe or ("few" if args.images_per_class else "all")
    fill(args, RECIPES[args.recipe])
    if args.schedule == "plateau":
        parser.error("--schedule plateau needs a validation loss, which metric learning doesn't have")
    resolve_machine(args)
    return args, shown


@command
def main(argv: list[str] | None = None) -> dict:
    args, shown = parse(argv)
    data = load_data(args)
    for job in jobs(args):  # fail now, before a folder is made or replaced
        make_batches(args, data[0], choose_images(args, data[0].labels, job["seed"])[0], job["seed"])
    if args.compare:
        load_encoder(args.compare)
    name = "sweep" if args.sweep else args.recipe
    run = distributed.on_rank_zero(lambda: open_run("train_triplet", args, name, shown))
    if args.sweep:
        content = sweep(args, data, run)
        if distributed.rank() == 0:
            draw_sweep(run, content, len(data[0].classes))
        return content
    metrics = repeat(lambda job, part: train(args, data, job, part), args, run)
    if distributed.rank() == 0:
        draw_retrieval(run, args, data)
        report(metrics, run)
    return metrics


def report(metrics: dict, run: RunFolder) -> None:
    mean = metrics["mean"]
    names = [name for name in mean if re.fullmatch(r"test_(unseen_)?\d+way_\d+shot_accuracy", name)]
    shown = ", ".join(f"{name[5:-9].replace('_', ' ')} {mean[name]:.2%}" for name in names)
    print(
        f"test accuracy over episodes: {shown}; P@1 {mean['test_precision_at_1']:.2%}; "
        f"{metrics['seconds']:.0f} s of training; figures and metrics in {run.folder}/"
    )


if __name__ == "__main__":
    main()
