"""The GPU that isn't there, as a fixture that is active during the test."""

import pytest
from fake_gpu import fake_gpu


@pytest.fixture
def gpu():
    with fake_gpu() as gpu:
        yield gpu
