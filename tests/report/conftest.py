"""The made-up tree, and what is read from it."""

import pytest
from made_up import make_tree

from report.results import read_results


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path)


@pytest.fixture
def results(tree):
    return read_results(tree / "results")
