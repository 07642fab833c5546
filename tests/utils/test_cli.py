"""The shared command line: the rebuilt command, errors and signals, devices, precision, help."""

import argparse
import os
import re
import signal

import pytest
import torch

import ensemble
import train_cnn
import train_mil
import train_simclr
from data import ImageSet
from models import RECIPES
from utils import cli
from utils.arguments import Number, list_of
from utils.errors import UserError
from utils.runs.folder import RunFolder


@pytest.mark.parametrize(
    ("script", "line"),
    [
        (train_cnn, ""),
        (train_cnn, "--runs 3 --model wide --val-fraction 0 --lr 0.001 --compile"),
        (train_simclr, "--views affine,blur"),
        (train_mil, "--sweep 50,100 --encoder runs-v1.0 --seed 3"),
        (train_mil, "--encoder 1.0 --lr 2"),  # a path that ends like a number
    ],
)
def test_the_rebuilt_command_parses_to_the_same_arguments(script, line):
    parser = script.make_parser()
    args = parser.parse_args(line.split())
    rebuilt = cli.command_line(parser, args).split()
    assert rebuilt[:2] == ["python", f"{script.__name__}.py"]
    assert sorted(rebuilt[2:]) == sorted(line.split())
    assert parser.parse_args(rebuilt[2:]) == args


# --- Errors and signals ---

FAILED = "test_cli.py: error: "
STOPPED = "\nstopped. To start again:\n  python test_cli.py --lr 1\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("two\nlines"), 2, f"{FAILED}two lines\n"),
        (OSError(28, "No space", "a.txt"), 2, f"{FAILED}a.txt: No space\n"),
        (BrokenPipeError(), 141, ""),
        (torch.OutOfMemoryError(), 2, f"{FAILED}the GPU is out of memory: try a smaller --batch-size\n"),
        (KeyboardInterrupt(), 130, STOPPED),
        (signal.SIGTERM, 143, STOPPED),
    ],
)
def test_an_error_or_a_signal_is_one_line(error, code, said, capsys):
    @cli.command
    def main(argv):
        if isinstance(error, BaseException):
            raise error
        os.kill(os.getpid(), error)
        signal.pause()

    with pytest.raises(SystemExit) as stop:
        main(["--lr", "1"])
    assert stop.value.code == code
    assert capsys.readouterr().err == said


def test_an_unforeseen_error_keeps_its_traceback():
    @cli.command
    def main(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main([])


def test_the_command_that_resumes_is_that_of_the_user_with_the_name_of_the_run(monkeypatch):
    words = ["--lr", "0.1", "--data-dir", "d v1.0", "--overwrite", "--name", "old"]
    run = RunFolder("results/cnn/new")
    resumed = "python train_cnn.py --lr 0.1 --data-dir 'd v1.0' --name new --resume"
    assert cli.resume_command("train_cnn.py", words, [run]) == resumed
    again = cli.resume_command("train_cnn.py", ["--name=old", "--resume"], [run])
    assert again == "python train_cnn.py --name new --resume"
    monkeypatch.setattr("sys.argv", ["../train_cnn.py", "--lr", "2"])
    monkeypatch.setattr("sys.orig_argv", [".venv/bin/python3", "../train_cnn.py", "--lr", "2"])
    assert cli.resume_command("train_cnn.py", None, []) == ".venv/bin/python3 ../train_cnn.py --lr 2"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.resume_command("a.py", [], []) == "torchrun --nproc-per-node=2 a.py"


# --- Machine and data ---


def test_cuda_without_cuda_is_a_user_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda: .* --device cpu"):
        cli.resolve_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert cli.resolve_device("auto") == torch.device("cpu")


AMX, AVX512, AVX2 = ({"avx2": True, kind: True} for kind in ("amx_bf16", "avx512_bf16", "avx512_f"))


@pytest.mark.parametrize(
    ("device", "cpu", "gpu", "auto", "note"),
    [
        ("cpu", AMX, False, "bf16", False),
        ("cpu", AVX512, False, "bf16", False),
        ("cpu", AVX2, True, "fp32", True),
        ("cuda", AVX2, True, "bf16", False),
        ("cuda", AMX, False, "fp32", False),
    ],
)
def test_auto_is_bf16_where_the_processor_has_it(monkeypatch, capsys, device, cpu, gpu, auto, note):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu, raising=False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu)
    asked = {name: cli.resolve_precision(name, torch.device(device)) for name in ("auto", "fp32", "bf16")}
    assert asked == {"auto": auto, "fp32": "fp32", "bf16": "bf16"}
    told = capsys.readouterr().err.splitlines()
    assert ["bf16 is slower than fp32 on this CPU" in line for line in told] == [True] * note


def test_ranks_above_the_first_are_silent_and_a_dry_run_is_one_epoch_of_a_thousand_images(monkeypatch):
    many = ImageSet(torch.zeros(1100, 1, 28, 28, dtype=torch.uint8), torch.arange(1100) % 10, 0.1, 0.3)
    monkeypatch.setattr(cli, "load", lambda *args: (many, many))
    monkeypatch.setenv("RANK", "1")
    for more, epochs, images in (([], 9, 1100), (["--dry-run"], 1, 1000)):
        args = train_cnn.make_parser().parse_args(["--device", "cpu", "--epochs", "9", *more])
        cli.resolve_machine(args)
        assert (args.quiet, args.epochs, args.device) == (True, epochs, "cpu")
        assert [len(part.images) for part in cli.load_data(args)] == [images] * 2


# --- Help ---


def test_a_table_has_a_line_per_flag_and_a_column_per_recipe():
    recipes = {"a": {"lr": 0.1, "batch_size": 8, "views": ["affine", "blur"]}, "b": {"lr": 0.25, "ema": 0.9}}
    assert cli.recipe_table(recipes, "recipes").splitlines() == [
        "recipes:",
        "              a            b",
        "  lr          0.1          0.25",
        "  batch-size  8",
        "  views       affine,blur",
        "  ema                      0.9",
    ]


def test_the_help_of_a_flag_names_choices_bounds_and_default():
    parser = cli.Parser()
    parser.add_argument("--share", type=Number(float, 0, 1), help="a share (default: all)")
    parser.add_argument("--kind", choices={"a": 1, "b": 2}, default="a", help="kind")
    parser.add_argument("--few", type=list_of(int), default=[1, 2], metavar="N,N", help="of them")
    parser.add_argument("--off", action="store_true", help="nothing")
    assert {
        "--share X a share (0 to 1; default: all)",
        "--kind NAME kind: a, b (default: a)",
        "--few N,N of them (default: 1,2)",
        "--off nothing",
    } < {" ".join(line.split()) for line in parser.format_help().splitlines()}


SCRIPTS = {train_cnn: RECIPES, train_simclr: train_simclr.RECIPES, train_mil: {"default": train_mil.RECIPE}}


@pytest.mark.parametrize("script", [*SCRIPTS, ensemble], ids=lambda script: script.__name__)
def test_help_has_examples_that_parse_before_flags_and_recipes_and_short_metavars(script):
    parser = script.make_parser()
    told = parser.format_help()
    positions = [told.index(text) for text in (f"    python {script.__name__}.py", "--dataset", "\nrecipe")]
    assert positions == sorted(positions)
    assert cli.recipe_table(SCRIPTS.get(script, RECIPES), "x").partition("\n")[2] in told
    assert len(told.splitlines()[0]) < 60  # usage: the flags are listed below, not there
    for flags in re.findall(rf"^    .*\b{script.__name__}\.py((?: \S+)*)", script.__doc__, re.M):
        parser.parse_args(flags.split())
    for action in parser._actions:
        assert action.nargs == 0 or len(action.metavar or "") <= 9, action.option_strings
        if action.default not in (None, False, argparse.SUPPRESS) and "default" in action.help:
            value = str(action.default).removesuffix(".0")
            assert re.search(r"default: ([^;),]+)", action.help)[1] == value, action.option_strings
