"""The content of times.json on tiny data."""

import torch

from benchmarks.epochs import TRAININGS, epochs
from train_mil import RECIPE as MIL
from train_simclr import SIMCLR
from utils.training.config import RECIPES


def test_epochs_times_every_kind_of_recipe_on_one_thread(small_dir, capsys):
    threads = torch.get_num_threads()
    content = epochs(small_dir, torch.device("cpu"), names=("linear", "fast", "simclr", "mil"))
    assert list(content) == ["format", "device", "threads", "recipes"]
    assert (content["format"], content["threads"]) == (1, 1)
    assert content["device"].endswith("1 thread")
    assert {name: found["epochs"] for name, found in content["recipes"].items()} == {
        "linear": RECIPES["linear"]["epochs"],
        "fast": RECIPES["fast"]["epochs"],
        "simclr": SIMCLR["epochs"],
        "mil": MIL["epochs"],
    }
    assert all(found["seconds_per_epoch"] > 0 for found in content["recipes"].values())
    assert torch.get_num_threads() == threads
    assert "epochs, simclr: " in capsys.readouterr().out


def test_every_recipe_of_the_report_is_timed():
    assert {"cnn", "wide", "simclr", "supcon", "mil"} <= set(TRAININGS)
