"""What single classifiers and members of an ensemble share: settings, batches, validation, scores."""

import numpy as np
import pytest
import torch

import train_cnn
from data import POLICIES, BatchLoader
from evaluation.cnn import cross_entropy
from models import create
from utils.runs.folder import RunFolder
from utils.training.cnn import (
    ClassifierConfig,
    classifier_batches,
    predict_and_score,
    validate_classifier,
)
from utils.training.config import RECIPES
from utils.training.forward import predict


def config_of(*flags):
    args = train_cnn.make_parser().parse_args(["--device", "cpu", "--precision", "fp32", *flags])
    return ClassifierConfig.from_args(args, "lenet", RECIPES["lenet"])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create("linear")


def test_settings_are_the_recipe_s_where_no_flag_overrides_them():
    config = config_of("--epochs", "7", "--augment", "strong", "--shifts", "1", "--weight-decay", "0")
    recipe = RECIPES["lenet"]
    assert (config.model, config.augment, config.shifts, config.fit.epochs) == ("lenet", "strong", 1, 7)
    assert config.fit.weight_decay == 0  # a zero of the user counts
    assert (config.batch_size, config.plain_epochs) == (recipe["batch_size"], recipe["plain_epochs"])
    assert (config.fit.lr, config.fit.ema) == (recipe["lr"], recipe["ema"])


def test_the_last_epochs_are_not_augmented(digits):
    config = config_of("--epochs", "3", "--plain-epochs", "1", "--batch-size", "50", "--augment", "affine")
    batches = classifier_batches(config, digits, torch.arange(100), 4)
    augmented = BatchLoader(digits, torch.arange(100), 50, seed=4, augment=POLICIES["affine"])
    plain = BatchLoader(digits, torch.arange(100), 50, seed=4)
    for epoch, expected in ((0, augmented), (1, augmented), (2, plain)):
        for (x, y), (their_x, their_y) in zip(batches.epoch(epoch), expected.epoch(epoch), strict=True):
            assert torch.equal(x, their_x)
            assert torch.equal(y, their_y)


def test_validation_has_the_label_smoothing_of_the_training(digits, model):
    indices = torch.arange(50, 90)
    p, y = predict(model, digits, indices)
    found = validate_classifier(digits, indices, 0.1)(model, 1)
    assert found == {"val_loss": cross_entropy(p, y, 0.1), "val_accuracy": (p.argmax(1) == y).mean()}


def test_predictions_are_saved_and_scored(tmp_path, digits, model):
    test_set = digits._replace(images=digits.images[:30], labels=digits.labels[:30])
    val_idx = torch.arange(100, 120)
    run = RunFolder(tmp_path)
    record = predict_and_score(model, (digits, test_set), val_idx, {"train_seconds": 2.0}, run, 0)
    saved = run.predictions()
    right = saved["test_probabilities"].argmax(1) == saved["test_labels"]
    assert record["test_accuracy"] == right.mean()
    assert record["seconds"] == record["train_seconds"] == 2.0
    assert saved["val_indices"].tolist() == val_idx.tolist()
    assert np.array_equal(saved["val_labels"], digits.labels[val_idx].numpy())
    record = predict_and_score(model, (digits, test_set), val_idx[:0], {"train_seconds": 2.0}, run, 0)
    assert not any(key.startswith("val_") for key in [*record, *run.predictions()])
