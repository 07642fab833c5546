"""Where a step's time goes, and the arithmetic that is counted."""

import pytest
import torch

from benchmarks import roofline

CPU = torch.device("cpu")


def test_roofline_accounts_for_the_whole_step(smallest_dir, check, rows_of):
    content = roofline.roofline(smallest_dir, CPU, repeats=2, models=("fast",), sizes=(64, 128), steps=1)
    check(content, repeats=2)
    rows = rows_of(content)
    shares = [values for name, values in rows.items() if name.startswith("fast: ")][2:]
    assert len(shares) == len(roofline.OPERATORS) + 2
    assert [sum(column) for column in zip(*shares, strict=True)] == pytest.approx([1, 1], abs=1e-3)
    for kind in ("convolution", "batch norm", "ReLU", "pooling"):
        assert min(rows[f"fast: {kind}"]) > 0
    found = content["models"]["fast"]
    rate = found["flop_per_step"] / rows["fast: step"][0] / 1e6  # of ms and GFLOP/s
    assert rows["fast: arithmetic"][0] == pytest.approx(rate, rel=1e-3)
    ratio = next(r for r in content["ratios"] if r["name"] == "fast: share of the fp32 peak")
    pairs = [a / b for a, b in zip(rows["fast: arithmetic"], rows["peak, fp32"], strict=True)]
    assert (ratio["low"], ratio["high"]) == pytest.approx((min(pairs), max(pairs)), rel=1e-3)
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
