"""The command line that all scripts share: flags, checks, faults as one clear line, the rebuilt command."""

import argparse
import functools
import re
import shlex
import sys
from pathlib import Path

import torch

from data import DATASETS, POLICIES, DataError, load
from models import CheckpointError
from utils import distributed
from utils.errors import Fault

OPTIMIZERS = ("adam", "adamw", "sgd", "lars")
SCHEDULES = ("none", "step", "cosine", "warm-up-cosine", "one-cycle", "plateau")

# Flags that say where and how a run is kept; they change no number.
BOOKKEEPING = {"data_dir", "results_dir", "name", "resume", "overwrite", "quiet", "track"}


class Parser(argparse.ArgumentParser):
    """argparse with an error of one line and --help that shows the defaults."""

    def __init__(self, **kwargs):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (--help lists all flags)\n")


def number(kind, low=None, high=None, open_low=False, open_high=False):
    """An argparse type: an int or float within bounds, which the error names."""
    bounds = []
    if low is not None:
        bounds.append(f"{'above' if open_low else 'at least'} {low}")
    if high is not None:
        bounds.append(f"{'below' if open_high else 'at most'} {high}")

    def parse(text):
        noun = "a whole number" if kind is int else "a number"
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {noun}, not {text!r}") from None
        # Written so that NaN fails every comparison.
        above = low is None or (value > low if open_low else value >= low)
        below = high is None or (value < high if open_high else value <= high)
        if not (above and below):
            raise argparse.ArgumentTypeError(f"must be {' and '.join(bounds)}, not {text}")
        return value

    return parse


def run_name(text):
    if not re.fullmatch(r"\w[\w.-]*", text):
        raise argparse.ArgumentTypeError(
            f"a run's name has letters, digits, '.', '_' and '-' only, not {text!r}"
        )
    return text


def shared_flags():
    """The flags of every script, as a parent parser."""
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument_group("shared flags").add_argument
    add("--dataset", choices=DATASETS, default="mnist", help="default: mnist")
    add("--data-dir", default="datasets", metavar="DIR", help="default: datasets")
    add("--results-dir", default="results", metavar="DIR", help="default: results")
    add("--name", type=run_name, help="the run's folder; default: the next free one")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto")
    add(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="training arithmetic; auto: bf16 on CUDA and on CPUs with AMX, else fp32",
    )
    add("--compile", action="store_true", help="torch.compile the network")
    add("--seed", type=number(int, 0), default=0, help="default: 0")
    add("--runs", type=number(int, 1), default=1, help="repeat with seed, seed + 1, ...")
    add("--epochs", type=number(int, 1), help="default: the recipe's")
    add("--batch-size", type=number(int, 1), help="default: the recipe's")
    add("--lr", type=number(float, 0, open_low=True), help="peak rate; default: the recipe's")
    add("--resume", action="store_true", help="go on with the run --name where it stopped")
    add("--overwrite", action="store_true", help="replace the run --name")
    add("--dry-run", action="store_true", help="one batch through everything, all files written")
    add("--track", choices=("none", "tensorboard", "wandb"), default="none", help="default: none")
    add("--quiet", action="store_true", help="print nothing but the result")
    return parser


def optimizer_flags():
    """How `fit` optimises, as a parent parser."""
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument_group("optimisation (defaults: the recipe's)").add_argument
    add("--optimizer", choices=OPTIMIZERS)
    add("--weight-decay", type=number(float, 0))
    add("--schedule", choices=SCHEDULES)
    add("--ema", type=number(float, 0, 1, open_high=True), help="decay of the weight average; 0: none")
    add("--clip-norm", type=number(float, 0), help="clip the gradient's norm; 0: never")
    return parser


def recipe_flags():
    """The flags that override the recipe of a supervised classifier, as a parent parser."""
    parser = argparse.ArgumentParser(add_help=False, parents=[optimizer_flags()])
    add = parser.add_argument_group("recipe (defaults: utils/recipes.py)").add_argument
    add("--augment", choices=tuple(POLICIES))
    add("--plain-epochs", type=number(int, 0), help="last epochs without augmentation")
    add("--label-smoothing", type=number(float, 0, 1, open_high=True))
    add(
        "--patience",
        type=number(int, 0),
        help="stop after so many epochs without a better validation loss; 0: never",
    )
    add(
        "--shifts",
        type=number(int, 0, 4),
        default=0,
        help="score the mean prediction over all shifts of an image by up to so many pixels; default: 0",
    )
    return parser


def fill(args, recipe):
    """Set every argument that the user left out (None) to the recipe's value."""
    for key, value in recipe.items():
        if getattr(args, key, None) is None:
            setattr(args, key, value)


def command_line(parser, args, leave_out=BOOKKEEPING):
    """The shortest `python script.py ...` that parses to the same arguments, less those left out."""
    words, seen = [], set(leave_out)
    for action in parser._actions:
        value = getattr(args, action.dest, action.default)
        if action.dest in seen or value == action.default:
            continue
        seen.add(action.dest)  # two flags may mean the same
        words.append(action.option_strings[-1])
        if action.nargs != 0:
            values = value if isinstance(value, list) else [value]
            words += [str(value).removesuffix(".0") for value in values]
    return shlex.join(["python", parser.prog, *words])


def command_lines(parser, args):
    """What a run's record shows, and a function of the run: the command that goes on with it.

    To be called before `fill`, so that both name only what the user gave.
    """
    start = command_line(parser, args, leave_out={"name", "resume", "overwrite"})
    return command_line(parser, args), lambda run: f"{start} --name {run.folder.name} --resume"


def command(main):
    """Decorate a script's main: a foreseen fault ends it with one line and exit code 2."""

    @functools.wraps(main)
    def guarded(argv=None):
        try:
            return main(argv)
        except (Fault, DataError, CheckpointError) as fault:
            script = Path(main.__code__.co_filename).name
            print(f"{script}: error: {' '.join(str(fault).split())}", file=sys.stderr)
            sys.exit(2)

    return guarded


def resolve_machine(args):
    """Settle --device and --precision on this machine, --quiet but on one rank, --dry-run's one epoch."""
    args.quiet |= distributed.rank() > 0
    if args.dry_run:
        args.epochs = 1
    args.device = str(distributed.start(resolve_device(args.device)))
    args.precision = resolve_precision(args.precision, torch.device(args.device))


def load_data(args):
    """The (train, test) ImageSets that the flags name, loaded first on rank 0; 1,000 of each in a dry run."""
    data = distributed.first_then_all(lambda: load(args.dataset, args.data_dir, args.device))
    if args.dry_run:
        data = [part._replace(images=part.images[:1000], labels=part.labels[:1000]) for part in data]
    return data


def resolve_device(name):
    """A torch.device for --device; Fault when the machine lacks it."""
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in present.items() if there)
    if not present[name]:
        raise Fault(f"--device {name}: this machine has none that PyTorch can use; try --device cpu")
    return torch.device(name)


def resolve_precision(name, device):
    """ "bf16" or "fp32" for --precision. bf16 pays on CUDA, and on a CPU only with AMX tiles."""
    if name != "auto":
        return name
    if device.type == "cpu":
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()
        return "bf16" if capabilities.get("amx_bf16") else "fp32"
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
