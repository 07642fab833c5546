"""The content of times.json on tiny data."""

import torch

from benchmarks.epochs import SEVERAL, epochs
from report.results import Experiment


def test_epochs_times_every_experiment_with_a_recipe_of_its_own_on_one_thread(small_dir, capsys):
    threads = torch.get_num_threads()
    experiments = [
        Experiment("linear", "python train_cnn.py --runs 5 --model linear"),
        Experiment("shifts", "python train_cnn.py --model linear --shifts 1", timed_as="cnn/linear"),
        Experiment("views", "python train_simclr.py --encoder fast --views affine"),
        Experiment("sweep", "python train_mil.py --sweep 8 --method max --bags-per-epoch 16"),
        Experiment("tuned", "python train_mil.py --encoder /dev/null/encoder.pt"),
        Experiment("best", "python ensemble.py --from ensemble/pool"),
    ]
    times = epochs(small_dir, experiments, torch.device("cpu"), {"cnn/wide": {"seconds_per_epoch": 9.0}})
    assert list(times) == ["cnn/wide", "cnn/linear", "simclr/views", "mil/sweep"]
    assert times["cnn/wide"] == {"seconds_per_epoch": 9.0}
    assert list(times["cnn/linear"]) == ["seconds_per_epoch", "epochs", "threads", "cpu", "commit"]
    assert times["cnn/linear"]["epochs"] == SEVERAL
    assert all(entry["seconds_per_epoch"] > 0 for entry in times.values())
    assert torch.get_num_threads() == threads
    assert "epochs, simclr/views: " in capsys.readouterr().out
