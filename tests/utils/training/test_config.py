"""FitConfig and the classifiers' recipes."""

import train_cnn
from utils.training.config import RECIPES, few_labels_recipe


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
