"""Fixtures that all tests share, and the rule for tests on the real MNIST.

Tests marked `slow` measure accuracy on the real MNIST. They run only with `pytest -m slow`, from the folder
in the environment variable MNIST_DIR, else ../shared/data beside the repository, else datasets/. Those marked
`reliability` run only with `pytest -m reliability`.
"""

import functools
import urllib.request

import pytest
import torch
from helpers import no_network, real_mnist, tiny_idx

from data import images, load

images.CHECKSUMS.clear()  # the made-up digits of these tests have others
images._mnist_5k = functools.cache(images._mnist_5k)  # a second for each call
urllib.request.urlopen = no_network
torch.set_num_threads(1)  # the fastest for data this small, and no fight with the processes that tests start


@pytest.fixture(scope="session")
def mnist_dir():
    """The folder of the real MNIST; the test is skipped without it."""
    folder = real_mnist()
    if folder is None:
        pytest.skip("no MNIST files: set MNIST_DIR")
    return folder


@pytest.fixture
def no_figures(monkeypatch):
    """Runs without figures, which take most of the time of a small one."""
    monkeypatch.setattr("utils.cli.draw", lambda *args: None)


@pytest.fixture
def permuted_test_labels(monkeypatch):
    """Scripts load their data with the test labels in another order."""

    def load_permuted(*args):
        train_set, test_set = load(*args)
        return train_set, test_set._replace(labels=test_set.labels.roll(1))

    monkeypatch.setattr("utils.cli.load", load_permuted)


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory):
    """A folder for `--dataset mnist --data-dir`: 200 training and 100 test images. Read only."""
    return tiny_idx(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def digits(tiny_dir):
    """The 200 training images of `tiny_dir` as an ImageSet. Read only."""
    return load("mnist", tiny_dir)[0]
