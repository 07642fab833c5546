"""What single classifiers and members of an ensemble share: settings, batches, validation, scores."""

import pytest
import torch

import train_cnn
from data import POLICIES, BatchLoader
from evaluation.few_labels import few_labels_recipe
from models import RECIPES, create
from utils.training.cnn import ClassifierConfig, classifier_batches, distillation_step, validate_classifier
from utils.training.fit import FitConfig
from utils.training.forward import cross_entropy, predict


def config_of(*flags):
    args, _ = train_cnn.parse(["--device", "cpu", "--model", "lenet", *flags])
    return ClassifierConfig.from_values(vars(args))


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


def test_a_student_learns_the_mean_answer_of_its_teachers_whatever_the_labels(model, digits):
    teachers, images = [create("linear"), create("lenet")], digits.images[:8].float()
    step = distillation_step(model, teachers, "cpu")
    loss, metrics = step(images, digits.labels[:8])
    with torch.no_grad():
        answers = sum(teacher(images).softmax(1) for teacher in teachers) / 2
    logits = model(images)
    torch.testing.assert_close(loss, -(answers * logits.log_softmax(1)).sum(1).mean())
    assert metrics["accuracy"] == (logits.argmax(1) == answers.argmax(1)).float().mean()
    assert torch.equal(step(images, digits.labels[:8].roll(1))[0], loss)


def test_every_model_has_a_recipe_that_parses_as_flags():
    """A recipe with a misspelt schedule or policy must not wait for its model to be trained."""
    for model, recipe in RECIPES.items():
        flags = [x for k, v in recipe.items() for x in (f"--{k.replace('_', '-')}", str(v))]
        args = train_cnn.make_parser().parse_args(["--model", model, *flags])
        assert all(getattr(args, key) == value for key, value in recipe.items())


def test_few_labels_get_enough_steps_in_small_batches():
    recipe = few_labels_recipe(RECIPES["cnn"], 75)
    steps = recipe["epochs"] * -(-75 // recipe["batch_size"])
    assert recipe["batch_size"] == 32
    assert 1500 <= steps < 1500 + 3
    assert few_labels_recipe(RECIPES["cnn"], 7)["batch_size"] == 7


@pytest.mark.parametrize(("flags", "steps"), [([], 0), (["--dry-run"], 1), (["--max-steps", "7"], 7)])
def test_a_dry_run_is_one_step_per_epoch(flags, steps):
    args, _ = train_cnn.parse(["--device", "cpu", *flags])
    assert FitConfig.from_values(vars(args)).max_steps == steps
