"""Mining and its usual ways on tiny data; the tensor of all triplets gives the same loss."""

import pytest
import torch

from benchmarks import triplet as module


def test_triplet_measures_ours_and_skips_what_is_not_installed(check, monkeypatch, capsys):
    monkeypatch.setattr(module, "LIBRARY", "no_such_library")
    content = module.triplet(None, torch.device("cpu"), repeats=2, shape=(8, 8, 8))
    rows, targets = check(content, repeats=2)
    assert "pip install -r requirements-benchmark.txt" in capsys.readouterr().out
    for mining in module.MINERS:
        assert targets[f"{mining} time, all triplets / ours"] == 3
        assert min(rows[f"{mining} memory, all triplets"]) > max(rows[f"{mining} memory, ours"])


def test_memory_is_the_most_that_is_held_at_a_time():
    def work():
        for _ in range(3):
            torch.zeros(1000, 1000).add_(1)
        torch.zeros(500, 1000) + 1

    assert module.peak_megabytes(work) == pytest.approx(4, abs=0.001)


@pytest.mark.parametrize("mining", module.MINERS)
def test_the_tensor_of_all_triplets_gives_the_same_loss(mining):
    labels = torch.arange(48) // 6
    rows = torch.randn(8, 5)[labels] + torch.randn(48, 5)
    ours, cube = (loss(rows, labels, mining) for loss in (module.our_loss, module.cube_loss))
    torch.testing.assert_close(ours, cube)
