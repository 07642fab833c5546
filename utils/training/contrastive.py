"""Batches of views for the scripts that compare two views of an image."""

from argparse import Namespace

import torch

from data import BatchLoader, ImageSet, view_batches
from utils import distributed


def make_views(args: Namespace, images: ImageSet, indices: torch.Tensor, seed: int) -> BatchLoader:
    """Return batches of two augmented views of every image; this rank's piece of each batch.

    args: views, strength and batch_size, see `cli.view_flags`; batch_size is that of all ranks together.
    """
    ranks = {"rank": distributed.rank(), "world": distributed.world()}
    return view_batches(images, indices, args.batch_size, args.views, args.strength, seed=seed, **ranks)
