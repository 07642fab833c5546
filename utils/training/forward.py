"""Forward passes of a trained network over a whole image set, and a clock that waits for them."""

import contextlib
import itertools
import time
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from data import BatchLoader, ImageSet, in_order
from utils.errors import UserError

# A probability that underflowed to 0 counts as this much: one image must not make a mean loss infinite. It is
# the smallest float32, so that no loss and no temperature of a very sure network depends on it.
SMALLEST = float(np.finfo(np.float32).tiny)


def clock() -> float:
    """Return the time in seconds, after waiting for all queued work of a GPU."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module into eval mode, and afterwards back into its own: a frozen part stays in eval mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    yield
    for module, training in modes:
        module.training = training


@torch.no_grad()
def forward_all(
    model: nn.Module, batches: BatchLoader, precision: str = "fp32"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the model over one epoch in eval mode; return outputs (N, D) float32 and labels (N,), in order."""
    device = batches.set.images.device
    with evaluation_mode(model), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        outputs = [(model(images).float(), labels) for images, labels in batches.epoch()]
    features, labels = zip(*outputs, strict=True)
    return torch.cat(features), torch.cat(labels)


def predict(
    model: nn.Module, images: ImageSet, indices: torch.Tensor | None = None, shifts: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return class probabilities (N, classes) and labels (N,) as NumPy arrays, in order, in float32.

    shifts: test-time augmentation. The probabilities are averaged over all shifts of the image by up to
    this many pixels in each direction. Raises UserError for outputs that are not finite.
    """
    if indices is not None:
        indices = indices.to(images.images.device)
        images = images._replace(images=images.images[indices], labels=images.labels[indices])
    outputs = [forward_all(model, in_order(part)) for part in shifted(images, shifts)]
    probabilities = torch.stack([F.softmax(logits, 1) for logits, _ in outputs]).mean(0).cpu().numpy()
    if not np.isfinite(probabilities).all():
        raise UserError("the network's outputs are not finite: it has diverged; try a lower --lr")
    return probabilities, outputs[0][1].cpu().numpy()


def surprise(probabilities: np.ndarray) -> np.ndarray:
    """Return -log of probabilities of any shape in nats, float64, with zeros counted as `SMALLEST`."""
    return -np.log(probabilities.astype(np.float64).clip(SMALLEST))


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray, label_smoothing: float = 0.0) -> float:
    """Return the mean cross-entropy in nats, with smoothed labels as in Szegedy et al. (2016)."""
    losses = surprise(probabilities)
    hard = losses[np.arange(len(labels)), labels].mean()
    return float((1 - label_smoothing) * hard + label_smoothing * losses.mean())


def shifted(images: ImageSet, shifts: int) -> Iterator[ImageSet]:
    """Yield the image set under each of its (2 * shifts + 1)^2 shifts by whole pixels; black moves in."""
    height, width = images.images.shape[-2:]
    padded = F.pad(images.images, [shifts] * 4)
    for top, left in itertools.product(range(2 * shifts + 1), repeat=2):
        yield images._replace(images=padded[..., top : top + height, left : left + width])
