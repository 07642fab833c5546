"""Fixtures for the benchmarks on tiny data: content and shape are tested, never the time it took."""

import json
import statistics

import pytest

from benchmarks import measure


@pytest.fixture(autouse=True)
def no_workers(monkeypatch):
    """The standard way without worker processes, whose start is most of the time on tiny data."""
    monkeypatch.setattr(measure, "WORKERS", 0)


@pytest.fixture(scope="module")
def small_dir(tmp_path_factory, tiny_idx):
    """600 training images: three batches for the standard way, whose first one is not timed."""
    return tiny_idx(tmp_path_factory.mktemp("small"), train=600, test=50)


@pytest.fixture(scope="module")
def smallest_dir(tmp_path_factory, tiny_idx):
    """70 training images: two steps an epoch for the standard way."""
    return tiny_idx(tmp_path_factory.mktemp("smallest"), train=70, test=20)


@pytest.fixture(scope="session")
def check():
    """check(content, repeats): rows have their values and median, ratios their range and standard way."""

    def check(content, repeats):
        assert content["what"].endswith(".")
        for found in content["rows"]:
            assert found["unit"]
            assert len(found["values"]) == repeats
            assert found["median"] == pytest.approx(statistics.median(found["values"]), rel=1e-4)
        for found in content["ratios"]:
            keys = ["name", "value", "low", "high", "target", "standard", "verdict"]
            assert list(found) == keys
            assert 0 < found["low"] <= found["high"]
            assert found["value"] > 0
            assert len(found["standard"]) > 10
            assert "\n" not in found["standard"]
            assert (found["target"] is None) == (found["verdict"] is None)
        json.dumps(content, allow_nan=False)

    return check


@pytest.fixture(scope="session")
def rows_of():
    """rows_of(content): {name of a row: its values}."""
    return lambda content: {row["name"]: row["values"] for row in content["rows"]}
