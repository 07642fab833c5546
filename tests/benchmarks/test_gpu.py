"""What a GPU has to show, tried on the CPU."""

from unittest.mock import Mock

import torch

from benchmarks import gpu
from report.benchmarks import one_benchmark

SMALL = dict.fromkeys(gpu.TRAININGS, ("--batch-size", "8"))
SMALL["ensemble of ten"] += ("--members", "2", "--model", "linear")
SMALL["triplet"] = ("--batch-classes", "2", "--batch-images", "2", "--glyphs", "2")


def test_the_page_shows_forms_trainings_and_tests(small_dir, check, monkeypatch):
    monkeypatch.setattr(gpu, "FORMS", {"eager": None, "compiled": {"backend": "eager"}})
    monkeypatch.setattr(gpu, "TRAININGS", {key: (*gpu.TRAININGS[key], *SMALL[key]) for key in SMALL})
    ended = Mock(returncode=1, stdout="2 failed, 30 passed, 1 error in 3.2s", stderr="")
    monkeypatch.setattr(gpu.subprocess, "run", lambda *args, **kwargs: ended)
    monkeypatch.setattr(gpu, "repeated", lambda device: [gpu.row("killed", "of a metric", [0])])
    content = gpu.gpu(small_dir, torch.device("cpu"), repeats=1, steps=1)
    rows, _ = check(content, repeats=1)
    assert {"goal", "eager", "compiled", *(f"{name}, training" for name in SMALL)} < set(rows)
    assert [rows[f"tests/gpu, {word}"] for word in ("passed", "failed", "error")] == [[30], [2], [1]]
    page = one_benchmark("gpu", {**content, "what": "", "repeats": 1, "device": "A, 1 thread", "commit": "b"})
    assert "| goal | 0.5 s |" in page
    assert "| killed | 0 of a metric |" in page
