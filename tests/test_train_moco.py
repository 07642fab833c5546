"""What train_moco.py refuses, and its accuracy; test_train_simclr.py tests what both scripts share."""

import pytest
from helpers import base_flags, refusal

import train_moco


def flags(data, results, *more):
    return base_flags(data, results, "--model", "fast", "--batch-size", "45", "--queue", "100", *more)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--queue", "44"], "can't hold the keys of a batch"),
        (["--splits", "23"], "--batch-size of at least 46"),
        (["--schedule", "plateau"], "plateau"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(tmp_path, tiny_dir, wrong, said, capsys):
    assert said in refusal(train_moco.main, flags(tiny_dir, tmp_path, *wrong), capsys)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_accuracy_of_frozen_features_on_the_real_mnist(tmp_path, mnist_dir, no_figures):
    argv = ["--data-dir", str(mnist_dir), "--results-dir", str(tmp_path), "--model", "fast"]
    assert train_moco.main([*argv, "--epochs", "1"])["mean"]["test_knn_accuracy"] >= 0.96
