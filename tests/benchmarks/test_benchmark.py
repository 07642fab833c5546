"""benchmark.py: the files that it writes, and its errors."""

import json

import pytest
import torch
from helpers import checked_benchmark, refusal

import benchmark
from benchmarks.contrastive import simclr
from benchmarks.mil import mil


def test_main_writes_the_file_of_each_chosen_benchmark(small_dir, tmp_path, capsys):
    flags = ["--data-dir", str(small_dir), "--results-dir", str(tmp_path), "--device", "cpu"]
    benchmark.main(["--only", "augment", "--repeats", "2", *flags])
    files = list((tmp_path / "benchmarks").iterdir())
    assert [file.name for file in files] == ["augment.json"]
    content = json.loads(files[0].read_text())
    assert list(content)[:4] == ["format", "benchmark", "device", "cpu"]
    assert (content["format"], content["benchmark"], content["repeats"]) == (1, "augment", 2)
    assert content["what"].endswith("per-image transforms.")
    assert content["command"] == "python benchmark.py --only augment --repeats 2 --device cpu"
    assert [row["name"] for row in content["rows"]] == ["ours", "standard way"]
    ours, standard = (row["median"] for row in content["rows"])
    assert content["ratios"][0]["value"] == pytest.approx(ours / standard, rel=1e-3)
    assert content["images"] == {"ours": 600, "standard": 600}
    assert "at least 8: " in capsys.readouterr().out


SIMCLR = {"training, ours / standard way": 3, "views, ours / standard way": 8}


@pytest.mark.parametrize(
    ("measured", "options", "rows", "targets", "batch_size"),
    [
        (simclr, {"images": 12}, ["views, ", "training, "], SIMCLR, 6),
        (mil, {"bags": 6, "passes": 1}, [""], {"ours / standard way": 5}, 16),
    ],
)
def test_both_sides_of_a_training_are_measured(small_dir, measured, options, rows, targets, batch_size):
    content = measured(small_dir, torch.device("cpu"), repeats=1, **options)
    names, found = checked_benchmark(content, repeats=1)
    assert list(names) == [f"{what}{side}" for what in rows for side in ("ours", "standard way")]
    assert found == targets
    assert content.items() >= (options | {"batch_size": batch_size}).items()


def test_a_results_folder_that_cannot_be_made_is_said_before_measuring(tmp_path, capsys):
    taken = tmp_path / "results"
    taken.write_text("a file")
    assert str(taken) in refusal(benchmark.main, ["--results-dir", str(taken)], capsys)
