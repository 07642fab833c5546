"""The benchmarks' files on tiny data: content and shape, never the time it took."""

import json
import statistics
import sys

import pytest
import torch

import benchmark
from benchmarks import measure, roofline
from benchmarks.augment import standard_affine
from benchmarks.ensemble import ensemble
from benchmarks.fast import fast
from benchmarks.mil import mil
from data import POLICIES, load

CPU = torch.device("cpu")


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


def check(content, repeats):
    """Every row and every ratio has one value per repeat, and its median."""
    assert content["what"].endswith(".")
    for found in content["rows"]:
        assert found["unit"]
        assert len(found["values"]) == repeats
        assert found["median"] == statistics.median(found["values"])
    for found in content["ratios"]:
        assert len(found["values"]) == repeats
        assert found["value"] == statistics.median(found["values"]) > 0
        assert "target" in found
    json.dumps(content, allow_nan=False)


def test_main_writes_the_file_of_each_chosen_benchmark(small_dir, tmp_path, capsys):
    flags = ["--data-dir", str(small_dir), "--results-dir", str(tmp_path), "--device", "cpu"]
    benchmark.main(["--only", "augment", "--repeats", "2", *flags])
    files = list((tmp_path / "benchmarks").iterdir())
    assert [file.name for file in files] == ["augment.json"]
    content = json.loads(files[0].read_text())
    check(content, repeats=2)
    assert content["format"] == 1
    assert content["benchmark"] == "augment"
    assert "thread" in content["device"]
    assert content["command"] == "python benchmark.py --only augment --repeats 2 --device cpu"
    assert [row["name"] for row in content["rows"]] == ["ours", "standard way"]
    assert content["images"] == {"ours": 600, "standard": 600}
    ours, standard = (row["values"] for row in content["rows"])
    expected = [a / b for a, b in zip(ours, standard, strict=True)]
    assert content["ratios"][0]["values"] == pytest.approx(expected, rel=1e-3)
    assert content["ratios"][0]["target"] == 8
    assert "target: at least 8" in capsys.readouterr().out


def test_fast_counts_the_first_training_that_reaches_the_target(smallest_dir):
    content = fast(smallest_dir, CPU, repeats=1, target=0.0, standard_epochs=1)
    check(content, repeats=1)
    assert [run["epochs"] for run in content["ours"][0]] == [1]
    assert [run["epochs"] for run in content["standard"][0]] == [1]
    rows = {row["name"]: row["values"][0] for row in content["rows"]}
    assert rows["ours"] == content["ours"][0][0]["seconds"]
    assert rows["standard way"] == content["standard"][0][0]["seconds"]
    assert rows["ours, test accuracy"] == content["ours"][0][0]["test_accuracy"]
    assert content["ratios"][0]["target"] == 30


def test_fast_says_when_the_target_was_not_reached(smallest_dir):
    content = fast(smallest_dir, CPU, repeats=1, target=1.01, standard_epochs=2)
    assert [run["epochs"] for run in content["ours"][0]] == [1, 2]
    seconds = [run["seconds"] for run in content["standard"][0]]
    assert len(seconds) == 2
    assert seconds[0] < seconds[1]  # so far, not per epoch
    assert [row["median"] for row in content["rows"][:2]] == [None, None]
    assert content["ratios"][0]["value"] is None
    benchmark.summary("fast", content["ratios"])


def test_ensemble_measures_ours_and_skips_what_is_not_installed(small_dir, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchensemble", None)  # as if it were not installed
    content = ensemble(small_dir, CPU, repeats=1, members=2, library=(5, 50))
    check(content, repeats=1)
    assert "pip install -r requirements-benchmark.txt" in capsys.readouterr().out
    rows = {row["name"]: row["values"][0] for row in content["rows"]}
    assert "standard way" not in rows
    assert min(rows.values()) >= 0
    expected = 2 * rows["ours, one member"] / rows["ours, stacked"]
    assert content["ratios"][0]["values"][0] == pytest.approx(expected, rel=1e-3)
    assert {"ours, selection by loss", "ours, selection by accuracy"} <= set(rows)


def test_mil_trains_the_same_bags_on_both_sides(small_dir):
    content = mil(small_dir, CPU, repeats=2, bags=6, passes=1)
    check(content, repeats=2)
    ours, standard = (row["values"] for row in content["rows"])
    expected = [a / b for a, b in zip(ours, standard, strict=True)]
    assert content["ratios"][0]["values"] == pytest.approx(expected, rel=1e-3)
    assert content["ratios"][0]["target"] == 5


def test_roofline_accounts_for_the_whole_step(smallest_dir):
    content = roofline.roofline(smallest_dir, CPU, repeats=2, models=("fast",), sizes=(64, 128), steps=1)
    check(content, repeats=2)
    rows = {row["name"]: row["values"] for row in content["rows"]}
    shares = [values for name, values in rows.items() if name.startswith("fast: ")][2:]
    assert len(shares) == len(roofline.OPERATORS) + 2
    assert [sum(column) for column in zip(*shares, strict=True)] == pytest.approx([1, 1], abs=1e-3)
    for kind in ("convolution", "batch norm", "ReLU", "pooling"):
        assert min(rows[f"fast: {kind}"]) > 0
    found = content["models"]["fast"]
    rate = found["flop_per_step"] / rows["fast: step"][0] / 1e6  # of ms and GFLOP/s
    assert rows["fast: arithmetic"][0] == pytest.approx(rate, rel=1e-3)
    ratio = next(r for r in content["ratios"] if r["name"] == "fast: share of the fp32 peak")
    expected = rows["fast: arithmetic"][0] / rows["peak, fp32"][0]
    assert ratio["values"][0] == pytest.approx(expected, rel=1e-3)
    assert found["bound"].startswith("mostly ")


def test_flop_of_a_linear_layer_are_two_per_multiply_add(digits):
    take, facts = roofline.training_steps("linear", digits, CPU)
    batch = facts["batch_size"]
    # Forward, and backward to the weights only: nothing lies below the images.
    assert roofline.count_flop(take) == pytest.approx(2 * 2 * batch * 784 * 10, rel=1e-3)


def test_operators_fall_into_their_classes():
    names = {
        "aten::mkldnn_convolution": "convolution",
        "aten::convolution_backward": "convolution",
        "aten::addmm": "linear layers",
        "aten::native_batch_norm_backward": "batch norm",
        "aten::threshold_backward": "ReLU",
        "aten::max_pool2d_with_indices": "pooling",
        "aten::_fused_adamw_": "optimizer and weight average",
        "aten::copy_": "copies and type casts",
        "aten::mul": "other",
    }
    assert {name: roofline.operator_class(name) for name in names} == names


def test_the_standard_way_sees_the_same_pixels_and_ranges(tiny_dir):
    ours = load("mnist", tiny_dir)[1]
    image, label = measure.standard_dataset(tiny_dir, False)[3]
    assert torch.allclose(image, ours.normalise(ours.images[3] / 255), atol=1e-6)
    assert label == ours.labels[3]
    affine = standard_affine(POLICIES["affine"])
    assert (affine.degrees, affine.shear) == ([-10, 10], [-5, 5, -5, 5])
    assert (affine.translate, affine.scale) == ((0.08, 0.08), (0.9, 1.1))


def test_the_ratio_is_the_median_of_each_repeats_own():
    assert measure.ratio("a / b", [2, 9, 8], [1, 3, 8])["value"] == 2
    assert measure.ratio("a / b", [2, None], [1, 1])["value"] is None


@pytest.mark.parametrize("flags", [["--repeats", "0"], ["--only", "slow"], ["--device", "tpu"]])
def test_a_bad_flag_is_one_line_and_exit_code_2(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(flags)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_results_folder_that_cannot_be_made_is_said_before_measuring(small_dir, tmp_path, capsys):
    taken = tmp_path / "results"
    taken.write_text("a file")
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(["--data-dir", str(small_dir), "--results-dir", str(taken)])
    assert stopped.value.code == 2
    assert "cannot write to" in capsys.readouterr().err
