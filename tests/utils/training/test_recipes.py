"""FitConfig and the classifiers' recipes; what a recipe and flags give together is in test_cnn.py."""

import pytest

import train_cnn
from evaluation.few_labels import few_labels_recipe
from models import RECIPES
from utils.training.fit import FitConfig


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
