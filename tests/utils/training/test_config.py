"""FitConfig and the classifiers' recipes."""

import pytest

import train_cnn
from models import ENCODERS
from utils.training.config import (
    COLUMNS,
    OPTIMIZERS,
    RECIPES,
    SCHEDULES,
    FitConfig,
    few_labels_recipe,
)


def test_every_recipe_parses_as_flags():
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


def arguments(*flags):
    return train_cnn.make_parser().parse_args(list(flags))


def test_flags_come_before_the_recipe_and_a_zero_counts():
    config = FitConfig.from_args(arguments("--lr", "0.5", "--ema", "0"), RECIPES["lenet"])
    assert (config.lr, config.ema) == (0.5, 0)
    assert (config.epochs, config.schedule) == (RECIPES["lenet"]["epochs"], "one-cycle")
    assert config.max_steps is None


def test_a_dry_run_is_one_step_per_epoch():
    assert FitConfig.from_args(arguments("--dry-run"), RECIPES["lenet"]).max_steps == 1


@pytest.mark.parametrize(
    ("changes", "needed"), [({}, False), ({"patience": 3}, True), ({"schedule": "plateau"}, True)]
)
def test_early_stopping_and_the_plateau_schedule_need_validation(changes, needed):
    assert FitConfig(epochs=1, lr=0.1, **changes).needs_validation == needed


def test_every_recipe_is_complete_and_names_what_exists():
    assert set(RECIPES) == set(ENCODERS)
    for recipe in RECIPES.values():
        assert tuple(recipe) == COLUMNS
        assert recipe["optimizer"] in OPTIMIZERS
        assert recipe["schedule"] in SCHEDULES
