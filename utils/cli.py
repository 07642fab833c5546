"""The command line that all scripts share: flags, checks, errors as one line, the rebuilt command."""

import argparse
import contextlib
import functools
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import torch

from data import DATASETS, POLICIES, VIEW_PARTS, DataError, ImageSet, check_classes, load
from models import ENCODERS, CheckpointError
from utils import distributed
from utils.arguments import LARGEST_SEED, Number, any_path, dataset, name_list, run_name, with_commas
from utils.errors import UserError
from utils.runs.folder import RunFolder
from utils.runs.opening import BOOKKEEPING, close_runs, open_runs
from utils.training.config import OPTIMIZERS, SCHEDULES

MOST_EPOCHS = 100_000


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """argparse's, with the bounds of every number."""

    def _get_help_string(self, action):
        bounds = f", in {action.type.bounds}" if isinstance(action.type, Number) else ""
        return f"{action.help}{bounds}"


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors and a --help that starts with purpose and examples.

    epilog: may hold a table of the recipe's defaults, see `recipe_table`.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("formatter_class", HelpFormatter)
        kwargs.setdefault("usage", f"{kwargs.get('prog', 'python script.py')} [flags]")
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        line = f"{self.prog}: error: {' '.join(message.split())} (--help lists all flags)"
        distributed.report_failure(line)
        self.exit(2, f"{line}\n")


def recipe_table(recipes: dict[str, dict], title: str) -> str:
    """Format recipes as text columns for an epilog: one line per recipe, one column per flag."""
    flags = list(dict.fromkeys(key for recipe in recipes.values() for key in recipe))
    head = ["", *(flag.replace("_", "-") for flag in flags)]
    rows = [
        [name, *(with_commas(recipe.get(flag, "")) for flag in flags)] for name, recipe in recipes.items()
    ]
    if len(recipes) < len(flags):  # few recipes with many flags: one line per flag
        head, *rows = [list(column) for column in zip(head, *rows, strict=True)]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)
    ]
    return "\n".join([f"{title}:", *(f"  {line.rstrip()}" for line in lines)])


def choice(add: Callable, flag: str, choices: Iterable[str], help: str, **kwargs) -> None:
    """Add a flag with named choices, listed in its help instead of its usage line."""
    names = tuple(choices)
    add(flag, choices=names, metavar="NAME", help=f"{help}: {', '.join(names)}", **kwargs)


# --- Flags that scripts share ---


def run_flags() -> argparse.ArgumentParser:
    """Return the flags of every script that leaves a run folder, as a parent parser."""
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument_group("data and run folder").add_argument
    add(
        "--dataset",
        type=dataset,
        default="mnist",
        metavar="NAME",
        help=f"data set (default: mnist): {', '.join(DATASETS)}, or the path of your own: a folder with "
        "train/<class>/*.png or IDX files, or an .npz file with x_train, y_train",
    )
    add(
        "--data-dir",
        type=any_path,
        default="datasets",
        metavar="DIR",
        help="where its files are (default: datasets)",
    )
    add(
        "--unverified",
        action="store_true",
        default=None,
        help="accept files of a known data set that differ from the published ones",
    )
    add("--results-dir", type=any_path, default="results", metavar="DIR", help="default: results")
    add("--name", type=run_name, metavar="NAME", help="the run's folder (default: the next free name)")
    add("--resume", action="store_true", help="continue the run --name where it stopped")
    add("--overwrite", action="store_true", help="replace the run --name")
    add("--seed", type=Number(int, 0, LARGEST_SEED), default=0, metavar="N", help="default: 0")
    choice(add, "--device", ("auto", "cpu", "cuda", "mps"), "device (default: auto)", default="auto")
    add("--dry-run", action="store_true", help="one batch through everything, in the folder dry-run")
    add("--quiet", action="store_true", help="print only the result")
    return parser


def precision_flag() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    choice(
        parser.add_argument_group("machine").add_argument,
        "--precision",
        ("auto", "fp32", "bf16"),
        "training arithmetic (default: auto, which is bf16 on CUDA and on CPUs with AMX, else fp32)",
        default="auto",
    )
    return parser


def training_flags(least_batch: int = 2) -> argparse.ArgumentParser:
    """Return the flags of every script that trains networks, with `run_flags`, as a parent parser.

    least_batch: of --batch-size. Batch normalisation can't be trained on a batch of one image.
    """
    parser = argparse.ArgumentParser(add_help=False, parents=[run_flags(), precision_flag()])
    add = parser.add_argument_group("training").add_argument
    add(
        "--runs",
        type=Number(int, 1, 1000),
        default=1,
        metavar="N",
        help="trainings, with seeds seed, seed + 1, ... (default: 1)",
    )
    add("--epochs", type=Number(int, 1, MOST_EPOCHS), metavar="N", help="default: the recipe's")
    add("--batch-size", type=Number(int, least_batch, 65536), metavar="N", help="default: the recipe's")
    add(
        "--lr",
        type=Number(float, 0, 100, open_low=True),
        metavar="X",
        help="peak learning rate (default: the recipe's)",
    )
    add("--compile", action="store_true", help="compile the network with torch.compile")
    add(
        "--track",
        choices=("none", "tensorboard", "wandb"),
        default="none",
        metavar="NAME",
        help="live tracking (default: none): none, tensorboard, wandb",
    )
    return parser


def optimizer_flags() -> argparse.ArgumentParser:
    """Return the flags that tell `fit` how to optimise, as a parent parser."""
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument_group("optimisation (defaults: the recipe's, see below)").add_argument
    choice(add, "--optimizer", OPTIMIZERS, "optimiser")
    add(
        "--weight-decay",
        type=Number(float, 0, 100),
        metavar="X",
        help="not applied to biases and normalisation",
    )
    choice(add, "--schedule", SCHEDULES, "learning-rate schedule")
    add(
        "--ema",
        type=Number(float, 0, 1, open_high=True),
        metavar="X",
        help="decay of the moving average of the weights, 0 for none",
    )
    add(
        "--clip-norm",
        type=Number(float, 0, 1000000),
        metavar="X",
        help="largest norm of the gradient, 0 for no limit",
    )
    return parser


def recipe_flags() -> argparse.ArgumentParser:
    """Return the flags that override the recipe of a supervised classifier, as a parent parser."""
    parser = argparse.ArgumentParser(add_help=False, parents=[optimizer_flags()])
    add = parser.add_argument_group("recipe (defaults: see below)").add_argument
    choice(add, "--augment", POLICIES, "augmentation policy")
    add(
        "--plain-epochs",
        type=Number(int, 0, MOST_EPOCHS),
        metavar="N",
        help="last epochs without augmentation",
    )
    add("--label-smoothing", type=Number(float, 0, 1, open_high=True), metavar="X", help="share")
    add(
        "--patience",
        type=Number(int, 0, MOST_EPOCHS),
        metavar="N",
        help="stop after N epochs without a lower validation loss, 0 for never",
    )
    add(
        "--shifts",
        type=Number(int, 0, 4),
        default=0,
        metavar="N",
        help="average predictions over all shifts of an image by up to N pixels (default: 0)",
    )
    return parser


def view_flags(encoders: Iterable[str] = ENCODERS) -> argparse.ArgumentParser:
    """Return the flags of an encoder's training on augmented images, as a parent parser."""
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument_group("contrastive learning (defaults: the recipe's, see below)").add_argument
    choice(add, "--encoder", encoders, "network to train")
    add("--temperature", type=Number(float, 0.001, 100), metavar="X", help="of the contrastive loss")
    add(
        "--views",
        type=name_list(VIEW_PARTS),
        metavar="A,B,...",
        help=f"parts of the augmentation, with commas: {', '.join(VIEW_PARTS)}",
    )
    add("--strength", type=Number(float, 0, 10), metavar="X", help="factor on all ranges of the views")
    add(
        "--knn-every",
        type=Number(int, 1, MOST_EPOCHS),
        default=5,
        metavar="N",
        help="epochs between k-NN checks on validation images (default: 5)",
    )
    return parser


# --- Arguments ---


def fill(args: argparse.Namespace, recipe: dict) -> None:
    """Set every argument that the user left out (None) to the recipe's value."""
    for key, value in recipe.items():
        if getattr(args, key, None) is None:
            setattr(args, key, value)


def command_line(
    parser: argparse.ArgumentParser, args: argparse.Namespace, leave_out: Iterable[str] = BOOKKEEPING
) -> str:
    """Return the shortest `python script.py ...` that parses to the same arguments, without `leave_out`."""
    words, seen = [], set(leave_out)
    for action in parser._actions:
        value = getattr(args, action.dest, action.default)
        if action.dest in seen or value == action.default:
            continue
        seen.add(action.dest)  # two flags may mean the same
        words.append(action.option_strings[-1])
        if action.nargs != 0:
            values = value if action.nargs == "+" else [value]
            words += [
                f"{v:.0f}" if isinstance(v, float) and v.is_integer() else with_commas(v) for v in values
            ]
    return shlex.join(["python", parser.prog, *words])


class Stopped(KeyboardInterrupt):
    """Raised by SIGINT or SIGTERM; its argument is the exit code, 128 + the number of the signal."""


def exit_code(stop: KeyboardInterrupt) -> int:
    return stop.args[0] if isinstance(stop, Stopped) else 130


def command(main: Callable) -> Callable:
    """Decorate a script's main: an error that the user can fix, or a signal, ends it with one line.

    Exit code 2 for an error, also of the disk; 130 after SIGINT (Ctrl-C) and 143 after SIGTERM, with the
    command that resumes.
    """

    @functools.wraps(main)
    def guarded(argv=None):
        script = Path(main.__code__.co_filename).name
        with _stopped_by_signals(), _ended_by_errors(script, sys.argv[1:] if argv is None else list(argv)):
            return main(argv)

    return guarded


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM within raise Stopped; a second one ends the process at once."""

    def first(number, frame):
        for each in before:
            signal.signal(each, lambda number, frame: os._exit(128 + number))
        raise Stopped(128 + number)

    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {each: signal.getsignal(each) for each in signals}
    before = {each: handler for each, handler in before.items() if handler != signal.SIG_IGN}  # as nohup does
    try:
        for each in before:
            signal.signal(each, first)
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def _ended_by_errors(script: str, words: list[str]) -> Iterator[None]:
    kept: list[RunFolder] = []  # runs with something to resume
    try:
        with _runs_closed(kept):
            yield
    except KeyboardInterrupt as stop:
        if distributed.rank() == 0:
            told = "stopped; finished work is kept. To resume" if kept else "stopped. To start again"
            print(f"\n{told}:\n  {resume_command(script, words, kept)}", file=sys.stderr)
        sys.exit(exit_code(stop))
    except (UserError, DataError, CheckpointError) as error:
        fail(script, str(error))
    except OSError as error:
        reason = error.strerror or str(error)
        text = f"{error.filename}: {reason}" if error.filename else reason
        fail(script, f"{text}; finished work is kept, --resume continues" if kept else text)
    except torch.OutOfMemoryError:
        fail(script, "the GPU is out of memory: try a smaller --batch-size")
    except RuntimeError as error:
        if not distributed.is_lost_rank(error):
            raise
        distributed.wait_for_the_end()
        fail(script, f"rank {distributed.rank()} ends because another rank has ended or hangs")


def fail(script: str, message: str) -> NoReturn:
    """End the script with one line and exit code 2."""
    line = f"{script}: error: {' '.join(message.split())}"
    distributed.report_failure(line)
    print(line, file=sys.stderr)
    sys.exit(2)


@contextlib.contextmanager
def _runs_closed(kept: list[RunFolder]) -> Iterator[None]:
    """Let go of the runs that are opened within; put those into `kept` that hold finished work."""
    try:
        yield
    finally:
        kept += [run for run in open_runs() if run.holds_work]
        close_runs()


def resume_command(script: str, words: list[str], runs: list[RunFolder]) -> str:
    """Return the command that goes on with a run after the command with these words was stopped.

    runs: the run, or nothing when nothing was kept; then it is the same command.
    """
    if runs and "--dry-run" not in words:
        pairs = zip(words, ["", *words], strict=False)  # each word, and the one before it
        words = [word for word, before in pairs if "--name" not in (word, before)]
        words = [w for w in words if w not in ("--resume", "--overwrite") and not w.startswith("--name=")]
        words += ["--name", runs[0].folder.name, "--resume"]
    ranks = distributed.world()
    launcher = ["torchrun", f"--nproc-per-node={ranks}"] if ranks > 1 else ["python"]
    return shlex.join([*launcher, script, *words])


def resolve_machine(args: argparse.Namespace) -> None:
    """Resolve --device and --precision on this machine, silence ranks above 0, shorten a dry run."""
    args.quiet |= distributed.rank() > 0
    if args.dry_run:
        args.epochs = 1
    args.device = str(distributed.start(resolve_device(args.device)))
    if "precision" in args:
        args.precision = resolve_precision(args.precision, torch.device(args.device))


def load_data(args: argparse.Namespace) -> tuple[ImageSet, ImageSet]:
    """Load the (train, test) ImageSets that the flags name; a dry run gets 1,000 images of each.

    Says what was done to bring them to the form of MNIST.
    """
    train, test = distributed.first_then_all(
        lambda: load(args.dataset, args.data_dir, args.device, not args.unverified)
    )
    check_classes(train, test)
    if train.notes and not args.quiet:
        print(f"{args.dataset}: {'; '.join(train.notes)}", flush=True)
    if args.dry_run:
        train = train._replace(images=train.images[:1000], labels=train.labels[:1000])
        test = test._replace(images=test.images[:1000], labels=test.labels[:1000])
    return train, test


def resolve_device(name: str) -> torch.device:
    """Return the torch.device for --device; UserError when the machine lacks it."""
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in present.items() if there)
    if not present[name]:
        raise UserError(f"--device {name}: this machine has none that PyTorch can use; try --device cpu")
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> str:
    """Return "bf16" or "fp32" for --precision; bf16 is faster on CUDA and on CPUs with AMX tiles."""
    if name != "auto":
        return name
    if device.type == "cpu":
        capabilities: dict = getattr(torch.cpu, "get_capabilities", dict)()
        return "bf16" if capabilities.get("amx_bf16") else "fp32"
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
