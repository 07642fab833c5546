"""Libraries of two members on tiny data, with and without torchensemble."""

import sys

import pytest
import torch

from benchmarks.ensemble import ensemble

CPU = torch.device("cpu")


def test_without_torchensemble_only_ours_is_measured(small_dir, monkeypatch, capsys, check, rows_of):
    monkeypatch.setitem(sys.modules, "torchensemble", None)  # as if it were not installed
    content = ensemble(small_dir, CPU, repeats=1, members=2, library=(5, 50))
    check(content, repeats=1)
    assert "pip install -r requirements-benchmark.txt" in capsys.readouterr().out
    rows = rows_of(content)
    assert "standard way" not in rows
    assert min(min(values) for values in rows.values()) >= 0
    assert {"ours, selection by loss", "ours, selection by accuracy"} <= set(rows)


def test_torchensemble_trains_the_same_images(small_dir, check, rows_of):
    pytest.importorskip("torchensemble")
    content = ensemble(small_dir, CPU, repeats=1, members=2, images=(300, 40), library=(5, 50))
    check(content, repeats=1)
    assert content["images"] == [300, 40]
    rows = rows_of(content)
    expected = rows["standard way"][0] / rows["ours"][0]
    assert content["ratios"][0]["value"] == pytest.approx(expected, rel=1e-3)
    accuracies = [values[0] for name, values in rows.items() if name.endswith("test accuracy")]
    assert [round(40 * value, 3) % 1 for value in accuracies] == [0] * 4  # shares of the 40 test images
