"""Mining, its usual ways and training on tiny data; the tensor of all triplets gives the same loss."""

import pytest
import torch

from benchmarks import triplet as module

CPU = torch.device("cpu")


def test_triplet_measures_ours_and_skips_what_is_not_installed(
    small_dir, check, rows_of, monkeypatch, capsys
):
    monkeypatch.setattr(module, "LIBRARY", "no_such_library")
    monkeypatch.setattr(module, "megabytes_of", lambda *args: 2.0)  # it starts a process
    content = module.triplet(small_dir, CPU, repeats=2, images=600, loss_shape=(4, 4, 8))
    check(content, repeats=2)
    assert "pip install -r requirements-benchmark.txt" in capsys.readouterr().out
    rows = rows_of(content)
    assert min(rows["training, ours"]) > 0
    for mining in module.MINERS:
        ratio = next(r for r in content["ratios"] if r["name"].startswith(f"{mining} time"))
        ours, cube = (rows[f"{mining} time, {name}"] for name in ("ours", "all triplets"))
        assert ratio["value"] == pytest.approx(
            sum(cube) / sum(ours), rel=1e-3
        )  # of two, the median is the mean
        assert ratio["target"] == 3


@pytest.mark.parametrize("mining", module.MINERS)
def test_the_tensor_of_all_triplets_gives_the_same_loss(mining):
    labels = torch.arange(48) // 6
    rows = torch.randn(8, 5)[labels] + torch.randn(48, 5)
    ours, cube = (loss(mining, rows, labels) for loss in (module.our_loss, module.cube_loss))
    torch.testing.assert_close(ours, cube)


def test_the_tensor_of_all_triplets_takes_more_memory():
    ours, cube = (  # measured in processes of their own, which have no earlier peak
        module.megabytes_of(module.functools.partial(module.loss_once, loss, "semi-hard", (8, 32, 8)), CPU)
        for loss in (module.our_loss, module.cube_loss)
    )
    assert cube > ours >= 0
