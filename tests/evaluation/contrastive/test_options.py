"""EncoderOptions from a script's arguments."""

import time

import pytest

import train_simclr
from evaluation.contrastive.options import EncoderOptions, stopwatch


def options_of(*flags, **changes):
    args = train_simclr.parse(["--device", "cpu", "--precision", "fp32", *flags])[0]
    return EncoderOptions.from_args(args, **changes)


def test_flags_become_options():
    options = options_of("--draws", "3", "--distill", "--student", "lenet", "--quiet")
    assert (options.draws, options.distill, options.student, options.quiet) == (3, True, "lenet", True)
    assert (options.precision, options.compile, options.max_steps) == ("fp32", False, None)
    assert options.floors
    assert options.few_labels


def test_a_dry_run_is_one_step():
    assert options_of("--dry-run").max_steps == 1


def test_a_script_switches_parts_off():
    options = options_of(few_labels=False, floors=False)
    assert not options.few_labels
    assert not options.floors
    assert options.clustering


def test_the_stopwatch_adds_up_the_seconds_of_equal_names(monkeypatch):
    ticks = iter([10.0, 11.5, 20.0, 20.25])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    record = {"other": 1}
    for _ in range(2):
        with stopwatch(record, "probe"):
            pass
    assert record == {"other": 1, "probe_seconds": pytest.approx(1.75)}
