"""The parts of a supervised training that single classifiers and members of an ensemble share."""

from argparse import Namespace
from dataclasses import dataclass

import torch
from torch import nn

from data import POLICIES, BatchLoader, ImageSet, in_order
from evaluation.cnn import calibration, cross_entropy, score
from utils.runs.folder import RunFolder
from utils.training.config import FitConfig
from utils.training.fit import Validate
from utils.training.forward import forward_all, predict


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

    @classmethod
    def from_args(cls, args: Namespace, model: str, recipe: dict) -> "ClassifierConfig":
        """Take the settings from a script's arguments and, where those are None, from a recipe."""

        def value(name):
            given = getattr(args, name)
            return recipe[name] if given is None else given

        return cls(
            model=model,
            batch_size=value("batch_size"),
            augment=value("augment"),
            plain_epochs=value("plain_epochs"),
            label_smoothing=value("label_smoothing"),
            shifts=args.shifts,
            device=args.device,
            fit=FitConfig.from_args(args, recipe),
        )


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


def save_classifier(
    run: RunFolder, model: nn.Module, architecture: str, images: ImageSet, val_idx: torch.Tensor
) -> None:
    """Write best.pt: the weights, and what another program needs to predict with them.

    images: the training images. val_idx: validation images among them, for the calibration; may be empty.
    """
    data = images.description
    if len(val_idx):
        logits, labels = forward_all(model, in_order(images, val_idx))
        data["calibration"] = calibration(logits.cpu().numpy(), labels.cpu().numpy())
    run.save_model("best.pt", model, architecture, data, num_classes=len(images.classes))


def predict_and_score(
    model: nn.Module,
    data: tuple[ImageSet, ImageSet],
    val_idx: torch.Tensor,
    record: dict,
    run: RunFolder,
    shifts: int,
) -> dict:
    """Save the predictions of a trained model in `run`; return the record with its scores.

    data: (train, test) ImageSets. val_idx: validation images among the training images, may be empty.
    """
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
