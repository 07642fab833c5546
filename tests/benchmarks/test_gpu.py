"""What a GPU has to show, tried on the CPU: forms of a training, the other trainings, tests, a killed run."""

from unittest.mock import Mock

import pytest
import torch

from benchmarks import gpu
from report.benchmarks import one_benchmark

CPU = torch.device("cpu")
SMALL = dict.fromkeys(gpu.TRAININGS, ("--batch-size", "8"))
SMALL["ensemble of ten"] += ("--members", "2", "--model", "linear")
SMALL["triplet"] = ("--batch-classes", "2", "--batch-images", "2", "--glyphs", "2")


def test_every_form_and_training_has_a_row_and_a_gpu_its_goal(small_dir, check, monkeypatch):
    monkeypatch.setattr(gpu, "FORMS", {"eager": None, "compiled": {"backend": "eager"}})
    small = {name: (*entry, *SMALL[name]) for name, entry in gpu.TRAININGS.items()}
    monkeypatch.setattr(gpu, "TRAININGS", small)
    monkeypatch.setattr(gpu, "suite", lambda device: [gpu.row("tests/gpu, passed", "tests", [3])])
    monkeypatch.setattr(gpu, "repeated", lambda device: [])
    content = gpu.gpu(small_dir, CPU, repeats=1)
    rows, targets = check(content, repeats=1)
    timed = ["goal", "eager", "compiled", "eager, first training", "compiled, first training"]
    assert list(rows) == [*timed, *(f"{name}, training" for name in small), "tests/gpu, passed"]
    assert rows["goal"] == [0.5]
    assert min(min(values) for values in rows.values()) > 0
    assert targets == {"goal / eager": None, "goal / compiled": None}
    page = one_benchmark("gpu", {**content, "what": "", "repeats": 1, "device": "A, 1 thread", "commit": "b"})
    assert "| tests/gpu, passed | 3 tests |" in page


def test_tests_are_counted(monkeypatch, capsys):
    ended = Mock(returncode=1, stdout="1 failed, 30 passed, 2 errors in 3.2s", stderr="")
    monkeypatch.setattr(gpu.subprocess, "run", lambda *args, **kwargs: ended)
    assert {row["name"]: row["median"] for row in gpu.suite(CPU)} == {
        "tests/gpu, passed": 30,
        "tests/gpu, failed": 1,
        "tests/gpu, error": 2,
    }
    assert ended.stdout in capsys.readouterr().out


@pytest.mark.reliability
def test_the_same_seed_and_a_killed_run_give_the_same_metrics_on_a_cpu():
    assert [row["values"] for row in gpu.repeated(CPU)] == [[0.0], [0.0]]
