"""Alternation, ratios with their ranges, verdicts, and the standard way's data."""

import pytest
import torch
from torch import nn

from benchmarks import measure
from data import load
from utils.training.config import FitConfig
from utils.training.fit import classification_step

CPU = torch.device("cpu")


def test_sides_take_turns_and_every_other_repeat_goes_backwards(capsys):
    calls = []

    def side(name):
        def call(repeat):
            calls.append((name, repeat))
            return repeat + 0.5

        return call

    found = measure.alternate("x", 3, {"a": side("a"), "b": side("b")})
    assert calls == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert found == {"a": [0.5, 1.5, 2.5], "b": [0.5, 1.5, 2.5]}
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "x, repeat 2 of 3:  b 1.5  a 1.5"
    assert len(lines) == 3


def test_the_ratio_is_that_of_the_medians_with_the_range_of_the_pairs():
    found = measure.ratio("a / b", [2, 9, 8], [1, 3, 8], "b, as usual")
    assert found["value"] == pytest.approx(8 / 3, rel=1e-4)
    assert (found["low"], found["high"]) == (1, 3)
    assert (found["target"], found["standard"], found["verdict"]) == (None, "b, as usual", None)


def test_a_side_that_missed_its_goal_leaves_no_ratio():
    found = measure.ratio("a / b", [2, None, 3], [1, 1, 1], "b", target=2)
    assert (found["value"], found["low"], found["high"]) == (None, None, None)
    assert found["verdict"] == measure.MISSED
    assert measure.line(found) == "a / b: accuracy not reached, goal of 2: not reached"


@pytest.mark.parametrize(
    ("target", "verdict"), [(2, "reached"), (2.5, "the range crosses it"), (5, "not reached")]
)
def test_a_range_that_crosses_the_goal_is_said_so(target, verdict):
    found = measure.ratio("a / b", [2, 3, 4], [1, 1, 1], "b", target=target)
    assert found["verdict"] == verdict
    assert measure.line(found) == f"a / b 3 (2 to 4), goal of {target}: {verdict}"


def test_a_median_with_a_missing_value_is_missing():
    assert measure.median([3, 1, 2]) == 2
    assert measure.median([3, None, 2]) is None
    assert measure.row("x", "s", [1.23456789, None])["values"] == [1.2346, None]


def test_timed_training_trains_on_every_batch():
    model = nn.Linear(4, 3)
    batch = torch.randn(8, 4), torch.arange(8) % 3
    before = model.weight.detach().clone()
    train = measure.timed_training(model, classification_step(model), FitConfig(epochs=1, lr=0.1), 5)
    batches = measure.SameBatch(batch, 5)
    assert len(batches) == len(list(batches.epoch())) == 5
    assert train(batches) > 0
    assert not torch.equal(model.weight, before)


def test_one_thread_gives_the_threads_back():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with measure.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)


def test_a_rate_counts_the_batches_after_the_first():
    seen = []
    batches = [(torch.zeros(n, 1), torch.zeros(n)) for n in (100, 3, 4)]
    assert measure.rate_of(batches, CPU, lambda x, y: seen.append(len(x))) > 0
    assert seen == [100, 3, 4]


def test_the_standard_way_sees_the_same_pixels(tiny_dir):
    ours = load("mnist", tiny_dir)[1]
    image, label = measure.standard_dataset(tiny_dir, False)[3]
    assert torch.allclose(image, ours.normalise(ours.images[3] / 255), atol=1e-6)
    assert label == ours.labels[3]
    loader = measure.standard_loader(measure.standard_dataset(tiny_dir, False), 60, CPU, shuffle=False)
    sizes = [len(images) for images, _ in measure.standard_batches(loader, CPU)]
    assert sizes == [60, 40]
