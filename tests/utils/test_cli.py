"""The shared command line: bounds, devices, precision, the rebuilt command."""

import argparse
import re

import pytest
import torch

import ensemble
import train_cnn
import train_mil
import train_simclr
from data import DATASETS, ImageSet
from utils.arguments import Number, number_list
from utils.cli import (
    Parser,
    command,
    command_line,
    fill,
    load_data,
    recipe_table,
    resolve_device,
    resolve_machine,
    resolve_precision,
    resume_command,
)
from utils.errors import UserError
from utils.runs.folder import RunFolder
from utils.training.config import RECIPES


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


def test_ranks_above_the_first_are_silent_and_a_dry_run_is_one_epoch(monkeypatch):
    args = train_cnn.make_parser().parse_args(["--device", "cpu", "--precision", "fp32", "--epochs", "9"])
    monkeypatch.setenv("RANK", "1")
    resolve_machine(args)
    assert (args.quiet, args.epochs, args.device) == (True, 9, "cpu")
    args.dry_run = True
    resolve_machine(args)
    assert args.epochs == 1


def test_a_dry_run_loads_a_thousand_images(monkeypatch):
    many = ImageSet(torch.zeros(1100, 1, 28, 28, dtype=torch.uint8), torch.arange(1100) % 10, 0.1, 0.3)
    monkeypatch.setattr("utils.cli.load", lambda *args: (many, many))
    for more, count in (([], 1100), (["--dry-run"], 1000)):
        sets = load_data(train_cnn.make_parser().parse_args(["--device", "cpu", *more]))
        assert [len(part.labels) for part in sets] == [len(part.images) for part in sets] == [count] * 2


def test_the_command_that_resumes_is_that_of_the_user_with_the_name_of_the_run(monkeypatch):
    words = ["--lr", "0.1", "--data-dir", "d v1.0", "--overwrite", "--name", "old"]
    run = RunFolder("results/cnn/new")
    resumed = "python train_cnn.py --lr 0.1 --data-dir 'd v1.0' --name new --resume"
    assert resume_command("train_cnn.py", words, [run]) == resumed
    assert resume_command("train_cnn.py", ["--name=old", "--resume"], [run]) == (
        "python train_cnn.py --name new --resume"
    )
    # Where nothing was kept it is the same command.
    assert resume_command("train_cnn.py", ["--name", "old"], []) == "python train_cnn.py --name old"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert resume_command("a.py", [], []) == "torchrun --nproc-per-node=2 a.py"


@pytest.mark.parametrize("name", ["runs-v1.0", "1.0", "x.0"])
def test_a_path_that_ends_like_a_number_is_kept(name):
    parser = train_mil.make_parser()
    args = parser.parse_args(["--encoder", name, "--lr", "2.0", "--seed", "3"])
    rebuilt = command_line(parser, args)
    assert parser.parse_args(rebuilt.split()[2:]) == args
    assert f"--encoder {name}" in rebuilt
    assert "--lr 2 " in rebuilt + " "


# --- Help ---


def test_a_table_has_a_line_per_flag_and_a_column_per_recipe():
    recipes = {"a": {"lr": 0.1, "batch_size": 8, "views": ["affine", "blur"]}, "b": {"lr": 0.25, "ema": 0.9}}
    assert recipe_table(recipes, "recipes").splitlines() == [
        "recipes:",
        "              a            b",
        "  lr          0.1          0.25",
        "  batch-size  8",
        "  views       affine,blur",
        "  ema                      0.9",
    ]


SCRIPTS = {
    train_cnn: RECIPES,
    train_simclr: train_simclr.RECIPES,
    train_mil: {"default": train_mil.RECIPE},
    ensemble: RECIPES,
}


@pytest.fixture(params=SCRIPTS, ids=lambda script: script.__name__)
def script(request):
    return request.param


def test_help_shows_examples_before_flags_and_recipes_at_the_end(script):
    told = script.make_parser().format_help()
    positions = [told.index(text) for text in (f"    python {script.__name__}.py", "--dataset", "\nrecipe")]
    assert positions == sorted(positions)
    assert recipe_table(SCRIPTS[script], "x").partition("\n")[2] in told
    assert len(told.splitlines()[0]) < 60  # usage: the flags are listed below, not there


def test_every_example_in_the_help_text_parses(script):
    # The flags end where two spaces begin a remark.
    flags = re.findall(rf"^    .*\b{script.__name__}\.py((?: \S+)*)", script.__doc__, re.M)
    assert len(flags) >= 4
    for text in flags:
        script.make_parser().parse_args(text.split())


def test_the_help_of_a_flag_is_short_and_names_choices_bounds_and_default():
    parser = Parser()
    parser.add_argument("--share", type=Number(float, 0, 1, open_low=True), metavar="X", help="default: all")
    parser.add_argument("--kind", choices={"a": 1, "b": 2}, default="a", metavar="NAME", help="kind")
    parser.add_argument("--few", type=number_list(1, 9), default=[1, 2], metavar="N,N", help="of them")
    parser.add_argument("--off", action="store_true", help="nothing")
    lines = [" ".join(line.split()) for line in parser.format_help().splitlines()]
    assert {
        "--share X default: all, in (0, 1]",
        "--kind NAME kind (default: a): a, b",
        "--few N,N of them (default: 1,2)",
        "--off nothing",
    } < set(lines)


def test_every_flag_has_a_short_metavar_and_a_default_that_is_said_once(script):
    for action in script.make_parser()._actions:
        if action.nargs != 0:
            assert action.metavar, action.option_strings
            assert len(action.metavar) <= 9, action.option_strings
        if action.default not in (None, False, argparse.SUPPRESS) and "default" in action.help:
            value = str(action.default).removesuffix(".0")
            assert re.search(r"default: ([^;),]+)", action.help)[1] == value, action.option_strings


def test_the_help_of_dataset_lists_the_names_and_the_forms_of_own_data():
    action = next(a for a in train_cnn.make_parser()._actions if "--dataset" in a.option_strings)
    assert all(word in action.help for word in (*DATASETS, "train/<class>", "IDX", ".npz"))
