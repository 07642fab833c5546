"""What a GPU has to show, tried on the CPU."""

import torch
from helpers import checked_benchmark

from benchmarks import gpu
from report.benchmarks import one_benchmark

SMALL = dict.fromkeys(gpu.TRAININGS, ("--batch-size", "8"))
SMALL["ensemble of ten"] += ("--members", "2", "--model", "linear")
SMALL["triplet"] = ("--batch-classes", "2", "--batch-images", "2", "--glyphs", "2")


def test_the_page_shows_forms_and_trainings(small_dir, monkeypatch):
    monkeypatch.setattr(gpu, "FORMS", {"eager": None, "compiled": {"backend": "eager"}})
    monkeypatch.setattr(gpu, "TRAININGS", {key: (*gpu.TRAININGS[key], *SMALL[key]) for key in SMALL})
    monkeypatch.setattr(gpu, "repeated", lambda device: [gpu.row("killed", "of a metric", [0])])
    content = gpu.gpu(small_dir, torch.device("cpu"), repeats=1, steps=1)
    rows, _ = checked_benchmark(content, repeats=1)
    assert {"goal", "eager", "compiled", *(f"{name}, training" for name in SMALL)} < set(rows)
    page = one_benchmark("gpu", {**content, "what": "", "repeats": 1, "device": "A, 1 thread", "commit": "b"})
    assert "| goal | 0.5 s |" in page
    assert "| killed | 0 of a metric |" in page
