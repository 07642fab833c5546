"""Which members an ensemble trains, on which images and by which settings; see also test_ensemble.py."""

import pytest
import torch

import ensemble
from data import DataError
from utils.training.ensemble import choose_images, member_config, member_folder, training_units


def arguments(*flags):
    return ensemble.parse(["--device", "cpu", "--precision", "fp32", *flags])[0]


LABELS = torch.arange(200) % 10


def test_models_take_turns_and_every_member_has_its_own_seed():
    units = training_units(
        arguments("--members", "3", "--runs", "2", "--seed", "5", "--models", "linear,mlp")
    )
    models = ["linear", "mlp", "linear", "linear", "mlp", "linear"]
    assert units == [[{"seed": 5 + i, "model": model}] for i, model in enumerate(models)]


@pytest.mark.parametrize("mode", ["snapshot", "fusion"])
def test_members_that_are_trained_together_are_one_unit(mode):
    units = training_units(arguments("--members", "3", "--runs", "2", "--model", "lenet", "--mode", mode))
    assert [[job["seed"] for job in unit] for unit in units] == [[0, 1, 2], [3, 4, 5]]


def test_folds_are_members_of_their_own():
    (first, *_), *others = training_units(arguments("--members", "2", "--folds", "3"))
    assert len(others) == 5
    assert member_folder(first) == "member-0-fold-0"
    assert member_folder({"seed": 7, "model": "cnn"}) == "member-7"


def test_a_flag_overrides_the_recipe_of_every_member():
    args = arguments("--models", "linear,lenet", "--epochs", "3")
    configs = [member_config(args, model) for model in ("linear", "lenet")]
    assert [config.fit.epochs for config in configs] == [3, 3]
    assert [config.fit.lr for config in configs] == [3e-3, 6e-3]


def test_all_members_share_the_validation_images_and_bagging_draws_again():
    plain, bagging = arguments(), arguments("--mode", "bagging")
    train, val = choose_images(plain, LABELS, {"seed": 0})
    for seed in (1, 2):
        assert torch.equal(choose_images(plain, LABELS, {"seed": seed})[0], train)
        drawn, same_val = choose_images(bagging, LABELS, {"seed": seed})
        assert torch.equal(same_val, val)
        assert len(drawn) == len(train)
        assert not torch.equal(drawn, train)
        assert torch.isin(drawn, train).all()


def test_a_split_that_is_impossible_is_a_fault_of_the_data():
    with pytest.raises(DataError, match="50 folds of a class of 20 images"):
        choose_images(arguments("--folds", "50"), LABELS, {"seed": 0, "fold": 0})
