"""Fixtures for the benchmarks on tiny data: content and shape are tested, never the time it took."""

import pytest
from helpers import tiny_idx

from benchmarks import measure


@pytest.fixture(scope="package", autouse=True)
def no_workers():
    """The standard way without worker processes, whose start is most of the time on tiny data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "WORKERS", 0)
        yield


@pytest.fixture(scope="package")
def small_dir(tmp_path_factory):
    """600 training images: three batches for the standard way, whose first one is not timed."""
    return tiny_idx(tmp_path_factory.mktemp("small"), train=600, test=50)
