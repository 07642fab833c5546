"""The made-up tree, read and rendered."""

import pytest
from made_up import make_tree

from report.pages import render
from report.results import read_results


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path)


@pytest.fixture
def results(tree):
    return read_results(tree / "results")


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    tree = make_tree(tmp_path_factory.mktemp("tree"))
    outputs = render(results := read_results(tree / "results"), tree / "README.md")
    assert results.faults == []
    texts = {path: output.decode() for path, output in outputs.items() if isinstance(output, bytes)}
    return {"" if path.parent == tree else path.parent.name: text for path, text in texts.items()}
