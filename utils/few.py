"""From few labels to a classifier on top of a pre-trained encoder: fine-tuning and self-training."""

import copy
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from data import POLICIES, BatchLoader
from models import Classifier, create
from utils.evaluate import in_order, outputs
from utils.fit import classification_step, fit
from utils.run import Run

# Fixed for all numbers of labels, chosen on validation images. An "epoch" is so many images, drawn by turns.
FINETUNE = {"epochs": 10, "batch_size": 64, "lr": 1e-3, "weight_decay": 0.02, "ema": 0.99}
FINETUNE_IMAGES = 3200
DISTIL = {"epochs": 6, "batch_size": 256, "lr": 5e-3, "weight_decay": 0.02, "ema": 0.998}
COMMON = {
    "optimizer": "adamw",
    "schedule": "one-cycle",
    "clip_norm": 0.0,
    "patience": 0,
    "track": "none",
    "quiet": True,
}
TEACHER_VIEWS = 4


def train_classifier(model, images, indices, recipe, args, seed):
    """Train `model` with strong augmentation on the images at `indices`; nothing is written anywhere.

    images: an ImageSet whose labels may be probabilities. args: device, precision, compile and dry_run are
    taken from it.
    """
    settings = {key: getattr(args, key) for key in ("precision", "compile", "dry_run")}
    settings = SimpleNamespace(**COMMON | recipe | settings)
    batches = BatchLoader(
        images, indices, settings.batch_size, seed=seed, augment=POLICIES["strong"], plain_from=None
    )
    silent = Run("unused", writes=False)
    fit(model, classification_step(model, 0.0), batches, settings, silent)
    return model


def finetune(encoder, probe, images, labelled, args, seed):
    """A Classifier: a copy of the encoder under the probe, both trained on the labelled images.

    Starting from the fitted probe, not from random weights, keeps the features of the few labels from being
    torn up by the first steps (Kumar et al., 2022).
    """
    torch.manual_seed(seed)
    model = Classifier(copy.deepcopy(encoder), encoder.num_features, 10).to(args.device)
    weight = probe.linear.weight / probe.std
    model.head.load_state_dict({"weight": weight, "bias": probe.linear.bias - weight @ probe.mean})
    model.requires_grad_(True)
    repeated = labelled.repeat(max(1, FINETUNE_IMAGES // len(labelled)))
    return train_classifier(model, images, repeated, FINETUNE, args, seed)


def soft_labels(teacher, images, indices, args, seed):
    """The teacher's class probabilities (N, 10), the mean over augmented views of each image."""
    views = [in_order(images, indices, POLICIES["affine"], seed + i) for i in range(TEACHER_VIEWS)]
    return sum(F.softmax(outputs(teacher, view, args.precision)[0], 1) for view in views) / TEACHER_VIEWS


def distil(probabilities, student, images, indices, args, seed):
    """Self-training: a fresh Classifier by name on all images, labelled by probabilities (N, 10)."""
    targets = probabilities.new_zeros(len(images.labels), 10)
    targets[indices.to(targets.device)] = probabilities
    torch.manual_seed(seed)
    model = create(student).to(args.device, memory_format=torch.channels_last)
    return train_classifier(model, images._replace(labels=targets), indices, DISTIL, args, seed)
