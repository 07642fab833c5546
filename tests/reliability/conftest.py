"""One training in the process of the tests, so that its forked trials find everything loaded."""

import pytest
from test_crashes import cnn


@pytest.fixture(scope="session", autouse=True)
def warm(tmp_path_factory, tiny_dir):
    cnn("--name", "warm")(tiny_dir, tmp_path_factory.mktemp("warm"))
