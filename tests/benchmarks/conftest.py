"""Fixtures for the benchmarks on tiny data: content and shape are tested, never the time it took."""

import json
import statistics

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


@pytest.fixture(scope="session")
def check():
    """check(content, repeats): look at every row and ratio; return {row: values} and {ratio: target}."""

    def check(content, repeats):
        for row in content["rows"]:
            assert row["unit"]
            assert len(row["values"]) == repeats
            assert row["median"] == pytest.approx(statistics.median(row["values"]), rel=1e-4)
        for ratio in content["ratios"]:
            assert list(ratio) == ["name", "value", "low", "high", "target", "standard", "verdict"]
            assert 0 < ratio["low"] <= ratio["value"] * 1.001 <= ratio["high"] * 1.002
            assert len(ratio["standard"]) > 10
            assert "\n" not in ratio["standard"]
            assert (ratio["target"] is None) == (ratio["verdict"] is None)
        json.dumps(content, allow_nan=False)
        rows = {row["name"]: row["values"] for row in content["rows"]}
        return rows, {ratio["name"]: ratio["target"] for ratio in content["ratios"]}

    return check
