"""The supervised training that single classifiers and members of an ensemble share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from data import POLICIES, BatchLoader, ImageSet
from models.cnn import Recipe
from utils.runs.folder import RunFolder
from utils.training.fit import FitConfig, Step, Validate, classification_step, fit
from utils.training.forward import cross_entropy, predict

# From a trained encoder under a linear probe (Kumar et al., 2022): a low rate, and few steps.
TUNED = Recipe(
    epochs=6, batch_size=64, lr=1e-3, augment="strong", plain_epochs=0, label_smoothing=0.0, ema=0.99
)._asdict()


@dataclass(frozen=True)
class ClassifierConfig:
    """Settings of a supervised training; `augment` is a key of POLICIES, `shifts` as in `predict`."""

    model: str
    batch_size: int
    augment: str
    plain_epochs: int
    label_smoothing: float
    shifts: int
    device: str
    fit: FitConfig
    passes: int = 1  # over the images in an epoch

    @classmethod
    def from_values(cls, values: dict) -> "ClassifierConfig":
        """Take the settings from a script's arguments, into which its recipe is filled."""
        names = ("model", "batch_size", "augment", "plain_epochs", "label_smoothing", "shifts", "device")
        passes = values.get("passes", 1)
        return cls(**{name: values[name] for name in names}, fit=FitConfig.from_values(values), passes=passes)


def classifier_batches(
    config: ClassifierConfig, images: ImageSet, indices: torch.Tensor, seed: int
) -> BatchLoader:
    """Return the training batches of one seed."""
    return BatchLoader(
        images,
        indices,
        config.batch_size,
        seed=seed,
        augment=POLICIES[config.augment],
        plain_from=config.fit.epochs - config.plain_epochs,
        passes=config.passes,
    )


def validate_classifier(images: ImageSet, indices: torch.Tensor, label_smoothing: float) -> Validate:
    """Return a `validate` for `fit`: accuracy and loss on the images at `indices`.

    The loss has the label smoothing of the training; the plain loss would prefer early epochs.
    """

    def validate(model, epoch):
        p, y = predict(model, images, indices)
        return {
            "val_loss": cross_entropy(p, y, label_smoothing),
            "val_accuracy": float((p.argmax(1) == y).mean()),
        }

    return validate


def fit_classifier(
    model: nn.Module,
    config: ClassifierConfig,
    images: ImageSet,
    indices: tuple[torch.Tensor, torch.Tensor],
    seed: int,
    run: RunFolder | None = None,
    step: Step | None = None,
    validate: Validate | None = None,
) -> dict:
    """Train a classifier in place; return the facts of the training, see `fit`.

    indices: (training, validation); without validation indices, and where epochs are several passes over few
    images, the last weights are kept. seed: of order and augmentation. step, validate: by default those of a
    classifier.
    """
    train_idx, val_idx = indices
    model.to(config.device).to(memory_format=torch.channels_last)
    batches = classifier_batches(config, images, train_idx, seed)
    if len(val_idx) and not validate:
        validate = validate_classifier(images, val_idx, config.label_smoothing)
    # A dozen validation images choose the luckiest epoch; the rate ends at zero, so the last one is better.
    tolerance = math.inf if config.passes > 1 and not config.fit.patience else 0.0
    step = step or classification_step(model, config.label_smoothing)
    return fit(model, step, batches, config.fit, run, validate, tolerance=tolerance)


def distillation_step(model: nn.Module, teachers: Sequence[nn.Module], device: str) -> Step:
    """Return a step that learns the teachers' mean probabilities for the same augmented images.

    So a small network learns from large ones (Hinton et al., 2015); the labels of the images play no part.
    "accuracy" becomes the share of the images on which it agrees with its teachers.
    """
    for teacher in teachers:
        teacher.eval().to(device).to(memory_format=torch.channels_last)
    step = classification_step(model)

    def distil(images, labels):
        with torch.no_grad():
            soft = torch.stack([teacher(images).float().softmax(1) for teacher in teachers]).mean(0)
        return step(images, soft)

    return distil


def save_classifier(
    run: RunFolder,
    model: nn.Module,
    architecture: str,
    images: ImageSet,
    calibration: dict[str, float],
    predictions: dict[str, np.ndarray],
) -> None:
    """Write best.pt, which holds what another program needs to predict, and predictions.npz.

    images: the training images. calibration, predictions: see evaluation.cnn.evaluate_classifier.
    """
    data = images.description | ({"calibration": calibration} if calibration else {})
    options = {"num_classes": len(images.classes), "directions": len(getattr(model, "directions", ()))}
    run.save_model("best.pt", model, architecture, data, **options)
    run.save_predictions(**predictions)
