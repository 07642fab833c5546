"""The shared command line: bounds, devices, precision, the rebuilt command."""

import argparse

import pytest
import torch

import train_cnn
from utils.cli import command, command_line, fill, number, resolve_device, resolve_precision
from utils.errors import UserError


@pytest.mark.parametrize(
    ("kind", "bounds", "good", "bad"),
    [
        (int, {"low": 1}, "1", ["0", "-3", "1.5", "x", ""]),
        (float, {"low": 0, "high": 1, "open_high": True}, "0", ["1", "-0.1", "nan", "x"]),
        (float, {"low": 0, "open_low": True}, "1e-9", ["0", "-1", "nan"]),
    ],
)
def test_numbers_have_bounds(kind, bounds, good, bad):
    parse = number(kind, **bounds)
    assert parse(good) == kind(good)
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError):
            parse(text)


def test_the_error_names_the_bound():
    with pytest.raises(argparse.ArgumentTypeError, match="must be at least 1, not 0"):
        number(int, 1)("0")


@pytest.mark.parametrize(
    "line",
    [
        "python train_cnn.py",
        "python train_cnn.py --runs 3 --model wide --val-fraction 0",
        "python train_cnn.py --lr 0.001 --compile --folds 5",
    ],
)
def test_the_rebuilt_command_parses_to_the_same_arguments(line):
    parser = train_cnn.make_parser()
    args = parser.parse_args(line.split()[2:])
    rebuilt = command_line(parser, args).split()
    assert rebuilt[:2] == ["python", "train_cnn.py"]
    assert parser.parse_args(rebuilt[2:]) == args


def test_the_rebuilt_command_leaves_out_where_things_lie():
    parser = train_cnn.make_parser()
    args = parser.parse_args(["--data-dir", "d", "--results-dir=r", "--name=n", "--quiet", "--seed=3"])
    assert command_line(parser, args) == "python train_cnn.py --seed 3"
    assert "--data-dir d" in command_line(parser, args, leave_out={"name"})


def test_fill_keeps_what_the_user_said():
    args = argparse.Namespace(lr=0.5, epochs=None)
    fill(args, {"lr": 0.1, "epochs": 7})
    assert (args.lr, args.epochs) == (0.5, 7)


def test_cuda_without_cuda_is_a_user_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda: .* --device cpu"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")


@pytest.mark.parametrize(("amx", "expected"), [(True, "bf16"), (False, "fp32")])
def test_cpus_train_in_bf16_only_with_amx(monkeypatch, amx, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    assert resolve_precision("auto", torch.device("cpu")) == expected
    assert resolve_precision("fp32", torch.device("cpu")) == "fp32"


def test_a_user_error_is_one_line_and_exit_code_2(capsys):
    @command
    def main(argv):
        raise UserError("two\nlines")

    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "test_cli.py: error: two lines\n"


def test_an_unforeseen_error_keeps_its_traceback():
    @command
    def main(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main([])
