"""Alternation, ratios with their ranges, verdicts, and the standard way's data."""

from functools import partial

import pytest
import torch
from helpers import small_network

from benchmarks import measure
from data import BatchLoader, load
from report.benchmarks import ratio_texts
from utils.training.fit import FitConfig, classification_step

CPU, CROSSED, MISSED = torch.device("cpu"), "the range crosses it", "not reached"


def test_sides_take_turns_and_every_other_repeat_goes_backwards(capsys):
    calls = []

    def side(name, repeat):
        calls.append((name, repeat))
        return repeat + 0.5 if name == "a" else 2

    sides = {"a": ("s", partial(side, "a")), "b": ("MB", partial(side, "b"))}
    content = measure.compare("x", 3, sides, [("b / a", "b", "a", "a, as usual", 2)])
    assert calls == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert content["rows"] == [
        {"name": "a", "unit": "s", "values": [0.5, 1.5, 2.5], "median": 1.5},
        {"name": "b", "unit": "MB", "values": [2, 2, 2], "median": 2},
    ]
    assert content["ratios"] == [measure.ratio("b / a", [2, 2, 2], [0.5, 1.5, 2.5], "a, as usual", 2)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "x, repeat 2 of 3:  b 2 MB  a 1.5 s"


@pytest.mark.parametrize(
    ("values", "target", "measured", "verdict", "words"),
    [
        (([2, 9, 8], [1, 3, 8]), None, (2.6667, 1, 3), None, ("2.67", "1 to 3", "")),
        (([2, 3, 4], [1, 1, 1]), 2, (3, 2, 4), "reached", ("3", "2 to 4", "at least 2: reached")),
        (([3, 2], [1, 1]), 2.5, (2.5, 2, 3), CROSSED, ("2.5", "2 to 3", f"at least 2.5: {CROSSED}")),
        (([2, 3, 4], [1, 1, 1]), 5, (3, 2, 4), MISSED, ("3", "2 to 4", f"at least 5: {MISSED}")),
    ],
)
def test_a_ratio_has_the_range_of_its_pairs_and_a_verdict(values, target, measured, verdict, words):
    ratio = measure.ratio("a / b", *values, "b, as usual", target)
    expected = {"name": "a / b", **dict(zip(("value", "low", "high"), measured, strict=True))}
    assert ratio == {**expected, "target": target, "standard": "b, as usual", "verdict": verdict}
    assert ratio_texts(ratio) == words


def test_our_side_trains_on_every_batch_after_a_first_step(digits):
    model, trained = small_network(), []
    step, before = classification_step(model), model[1].weight.detach().clone()

    def counted(x, y):
        trained.append(len(x))
        return step(x, y)

    batches = BatchLoader(digits, torch.arange(13), 8)
    rate = measure.training_rate(model, counted, FitConfig(epochs=1, lr=0.1), batches, 13, CPU)
    assert rate(0) > 0
    assert trained == [8, 8, 5]
    assert not torch.equal(model[1].weight, before)


def test_the_standard_way_sees_the_same_pixels(tiny_dir):
    ours = load("mnist", tiny_dir)[1]
    image, label = measure.standard_dataset(tiny_dir, False)[3]
    assert torch.allclose(image, ours.normalise(ours.images[3] / 255), atol=1e-6)
    assert label == ours.labels[3]
    loader = measure.standard_loader(measure.standard_dataset(tiny_dir, False), 60, CPU, shuffle=False)
    assert [len(images) for images, _ in loader] == [60, 40]
