"""What SimCLR, SupCon and MoCo share: training on two views of an image, the saved encoder, the last line."""

from argparse import Namespace
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from data import BatchLoader, ImageSet, view_batches
from models import load_encoder
from utils import distributed
from utils.runs.folder import RunFolder
from utils.training.config import FitConfig
from utils.training.fit import Step, Validate, fit

SHOWN_PAIRS = 24  # pairs of views in a figure


def make_views(args: Namespace, images: ImageSet, indices: torch.Tensor, seed: int) -> BatchLoader:
    """Return batches of two augmented views of every image; this rank's piece of each batch.

    args: views, strength and batch_size, see `cli.view_flags`; batch_size is that of all ranks together.
    """
    ranks = {"rank": distributed.rank(), "world": distributed.world()}
    return view_batches(images, indices, args.batch_size, args.views, args.strength, seed=seed, **ranks)


def pretrain(
    args: Namespace,
    build: Callable[[Namespace], tuple[nn.Module, Step]],
    images: ImageSet,
    train_idx: torch.Tensor,
    seed: int,
    run: RunFolder,
    validate: Validate,
) -> tuple[nn.Module, dict]:
    """Train the model of build(args), which returns it with its step; return it and the facts of `fit`."""
    batches = make_views(args, images, train_idx, seed)
    torch.manual_seed(seed)
    model, step = build(args)
    return model, fit(model, step, batches, FitConfig.from_args(args), run, validate)


def save_encoder(run: RunFolder, encoder: nn.Module, images: ImageSet) -> nn.Module:
    """Write encoder.pt and return a fresh copy of the encoder, on the device of the training images.

    Under torchrun the trained encoder has synchronised layers, which wait for the other ranks; the copy has
    none.
    """
    run.save_model("encoder.pt", encoder, str(encoder.name), images.description, num_classes=0)
    copy = load_encoder(run.path("encoder.pt"))
    return copy.to(images.images.device).to(memory_format=torch.channels_last)


def example_views(args: Namespace, images: ImageSet) -> np.ndarray:
    """Return pairs of views of the first images, (B, 2, 28, 28), as --views and --strength make them."""
    first = torch.arange(min(SHOWN_PAIRS, len(images.labels)))
    pairs = view_batches(images, first, SHOWN_PAIRS, args.views, args.strength, seed=args.seed)
    return next(pairs.epoch())[0].squeeze(2).cpu().numpy()


def report_encoder(metrics: dict, run: RunFolder) -> None:
    """Print the accuracies of a pre-trained encoder, the time and where everything is."""
    mean = metrics["mean"]
    print(
        f"test accuracy on frozen features: linear {mean['test_linear_accuracy']:.2%}, k-NN "
        f"{mean['test_knn_accuracy']:.2%}; {metrics['seconds']:.0f} s of pre-training; figures and metrics "
        f"in {run.folder}/"
    )
