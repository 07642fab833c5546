"""What SimCLR, SupCon and MoCo share: pre-training on two views, the saved encoder, its report."""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from data import BatchLoader, Data, ImageSet, split, view_batches, writers_for
from models import create, load_encoder
from utils import distributed
from utils.console import score
from utils.errors import UserError
from utils.runs.folder import RunFolder
from utils.training.fit import FitConfig, Step, fit

VAL_FRACTION = 0.1  # of the training images
SHOWN_PAIRS = 24  # pairs of views in a figure


def check_head(args: Namespace) -> None:
    """Raise UserError where a network without weights has no projection head, either."""
    if args.head == "none" and not any(True for _ in create(args.model, 0).parameters()):
        raise UserError(f"--head none leaves nothing to train of --model {args.model}")


def choose_images(args: Namespace, labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return training and validation indices of one training, by --split-seed or else by its seed."""
    seed = seed if args.split_seed is None else args.split_seed
    return split(labels, VAL_FRACTION, seed, writers_for(args.split, labels))


def make_views(args: Namespace, images: ImageSet, indices: torch.Tensor, seed: int) -> BatchLoader:
    """Return batches of two augmented views, see `flags.view_flags`; this rank's piece of each batch."""
    options = {"rank": distributed.rank(), "world": distributed.world(), "passes": getattr(args, "passes", 1)}
    return view_batches(images, indices, args.batch_size, args.views, args.strength, seed=seed, **options)


def pretrain(
    args: Namespace,
    data: Data,
    job: dict,
    run: RunFolder,
    build: Callable[[Namespace], tuple[Any, Step]],
    watch: Callable,
    evaluate: Callable,
) -> dict | None:
    """Pre-train once and evaluate the encoder; return the record (None on ranks that write nothing).

    With the head "mlp3", encoder-1.pt and encoder-2.pt hold the encoder and one or two layers of the head.
    build(args): returns a model, which has an encoder and a head, and its step. watch, evaluate: watch_knn
    and evaluate_encoder of evaluation/contrastive, which stands above this folder.
    """
    images, seed = data[0], job["seed"]
    splits = choose_images(args, images.labels, seed)
    batches = make_views(args, images, splits[0], seed)
    torch.manual_seed(seed)
    model, step = build(args)
    validate = watch(images, splits, args.knn_every, args.epochs, args.precision)
    facts = fit(model, step, batches, FitConfig.from_values(vars(args)), run, validate)
    if not run.writes:
        return None
    head = None if args.head == "none" else model.head
    encoder = save_encoder(run, model.encoder, images)
    for layers in (1, 2) if args.head == "mlp3" else ():
        part, name = nn.Sequential(model.encoder, *model.head[: 3 * layers]), f"{encoder.name}+{layers}"
        run.save_model(f"encoder-{layers}.pt", part, name, images.description, num_classes=0)
    scores, arrays = evaluate(encoder, data, splits, args.precision, seed, head)
    if args.dry_run:  # the map takes longer than all the rest
        arrays |= {key: arrays[key][:100] for key in ("mapped", "map_features")}
    run.save_predictions(**arrays)
    counts = {"train_images": len(splits[0]), "seconds": facts["train_seconds"]}
    return {**job, **facts, **scores, **counts}


def save_encoder(run: RunFolder, encoder: nn.Module, images: ImageSet) -> nn.Module:
    """Write encoder.pt and return it loaded: without synchronised layers, which wait for other ranks."""
    run.save_model("encoder.pt", encoder, str(encoder.name), images.description, num_classes=0)
    loaded = load_encoder(run.path("encoder.pt"))
    return loaded.to(images.images.device).to(memory_format=torch.channels_last)


def example_views(args: Namespace, images: ImageSet) -> np.ndarray:
    """Return pairs of views of the first images, (B, 2, 28, 28), as --views and --strength make them."""
    first = torch.arange(min(SHOWN_PAIRS, len(images.labels)))
    pairs = view_batches(images, first, SHOWN_PAIRS, args.views, args.strength, seed=args.seed)
    return next(pairs.epoch())[0].squeeze(2).cpu().numpy()


def report_encoder(metrics: dict, run: RunFolder) -> None:
    """Print the accuracies of a pre-trained encoder, the time and where everything is."""
    linear, knn = score(metrics, "test_linear_accuracy"), score(metrics, "test_knn_accuracy")
    text = f"test accuracy on frozen features: linear {linear}, k-NN {knn}; {metrics['seconds']:.0f} s"
    print(f"{text} of pre-training; figures and metrics in {run.folder}/")
