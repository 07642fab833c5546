"""The command line that all scripts share: flags, errors as one line, signals, the machine, the data."""

import argparse
import functools
import json
import os
import shlex
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch

from data import DATASETS, Data, DataError, check_classes, load
from models import CheckpointError
from utils import distributed
from utils.arguments import LARGEST_SEED, Number, any_path, dataset, run_name, with_commas
from utils.console import aligned, write_any_sign
from utils.errors import UserError, printable, signals
from utils.runs.folder import BOOKKEEPING, RunFolder, close_runs, open_runs


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Adds choices, bounds and default to the help of every flag; N is a whole number, X a number."""

    def _get_help_string(self, action):
        text, _, default = action.help.removesuffix(")").partition(" (default: ")
        notes = [action.type.bounds] if isinstance(action.type, Number) else []
        if default or not (action.nargs == 0 or action.default in (None, [], argparse.SUPPRESS)):
            notes.append(f"default: {default or with_commas(action.default)}")
        choices = f": {', '.join(action.choices)}" if action.choices else ""
        return f"{text}{choices} ({'; '.join(notes)})" if notes else f"{text}{choices}"

    def _split_lines(self, text, width):
        return textwrap.wrap(text, width, break_on_hyphens=False)  # names have hyphens

    def _metavar_formatter(self, action, default_metavar):
        if action.metavar is None and (action.choices or isinstance(action.type, Number)):
            name = "NAME" if action.choices else "N" if action.type.kind is int else "X"
            return lambda size: (name,) * size
        return super()._metavar_formatter(action, default_metavar)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with one-line errors and a --help that starts with purpose and examples."""

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("usage", f"{kwargs.get('prog', 'python script.py')} [flags]")
        super().__init__(allow_abbrev=False, formatter_class=HelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        fail(self.prog, f"{message} (--help lists all flags)")


def recipe_table(recipes: dict[str, dict], title: str) -> str:
    """Format recipes as a table for an epilog: one line per flag, one column per recipe."""
    flags = list(dict.fromkeys(key for recipe in recipes.values() for key in recipe))
    columns = [["", *(flag.replace("_", "-") for flag in flags)]]
    for name, recipe in recipes.items():
        columns.append([name, *(with_commas(recipe.get(flag, "")) for flag in flags)])
    return "\n  ".join([f"{title}:", *aligned(list(zip(*columns, strict=True)))])


# --- Flags that scripts share, as parent parsers ---


def run_flags(precision: bool = True) -> argparse.ArgumentParser:
    """Return the flags of every script that makes a run folder; precision: whether to add --precision."""
    parser = argparse.ArgumentParser(add_help=False)
    add = parser.add_argument_group("data and run folder").add_argument
    own = "a folder with train/<class>/*.png or IDX files, a CSV file, an .npz file with x_train, y_train"
    names = f"{', '.join(DATASETS)}, or the path of your own data: {own}"
    add("--dataset", type=dataset, default="mnist", metavar="NAME", help=names)
    add("--data-dir", type=any_path, default="datasets", metavar="DIR", help="folder of the data sets")
    others = "accept files that differ from the published ones"
    add("--unverified", action="store_true", default=None, help=others)
    add("--results-dir", type=any_path, default="results", metavar="DIR", help="folder for all runs")
    add("--name", type=run_name, metavar="NAME", help="name of the run (default: the next free one)")
    add("--resume", action="store_true", help="continue the run of that --name where it stopped")
    add("--overwrite", action="store_true", help="replace the run of that --name; the old one is renamed")
    add("--seed", type=Number(int, 0, LARGEST_SEED), default=0, help="seed of all random numbers")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute")
    add("--dry-run", action="store_true", help="try everything on one batch; the run is called dry-run")
    add("--quiet", action="store_true", help="print only the result")
    auto = "number format of the training (default: auto, bf16 on CUDA, AMX and AVX-512 BF16, else fp32)"
    if precision:
        add("--precision", choices=("auto", "fp32", "bf16"), default="auto", help=auto)
    return parser


def fill(args: argparse.Namespace, recipe: dict) -> None:
    """Set every argument that the user left out (None) to the recipe's value."""
    for key, value in recipe.items():
        if getattr(args, key, None) is None:
            setattr(args, key, value)


def command_line(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """Return the shortest `python script.py ...` that parses to the same arguments, without BOOKKEEPING."""
    words, seen = [], set(BOOKKEEPING)
    for action in parser._actions:
        default = parser.get_default(action.dest)
        value = getattr(args, action.dest, default)
        if action.dest in seen or value == default:
            continue
        seen.add(action.dest)  # two flags may set the same argument
        words.append(action.option_strings[-1])
        if action.nargs != 0:
            values = value if action.nargs == "+" else [value]
            words += [with_commas(int(v) if isinstance(v, float) and v.is_integer() else v) for v in values]
    return shlex.join(["python", parser.prog, *words])


def command(main: Callable) -> Callable:
    """Decorate a script's main: an error that the user can fix, or a signal, ends it with one line.

    Exit code 2 for an error, also of the disk; 130 after SIGINT (Ctrl-C), 143 after SIGTERM and 129 after
    SIGHUP, with the command that resumes.
    """

    @functools.wraps(main)
    def guarded(argv=None):
        script = Path(main.__code__.co_filename).name
        sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, None where it is closed
        write_any_sign()
        try:
            _on_signals(_stop)
            try:
                return main(argv)
            finally:
                _on_signals(signal.SIG_DFL)  # from here on a signal ends the process
        except KeyboardInterrupt as stop:
            if distributed.rank() == 0:
                way = "; finished work is kept. To resume" if open_runs() else ". To start again"
                print(f"\nstopped{way}:\n  {resume_command(script, argv, open_runs())}", file=sys.stderr)
            sys.exit(stop.args[0] if stop.args else 130)
        except (UserError, DataError, CheckpointError) as error:
            fail(script, str(error))
        except OSError as error:
            if isinstance(error, BrokenPipeError) and not open_runs():
                sys.exit(141)  # in silence: the reader, e.g. head, has enough
            reason = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
            fail(script, f"{reason}; finished work is kept, --resume continues" if open_runs() else reason)
        except torch.OutOfMemoryError:
            fail(script, "the GPU is out of memory: try a smaller --batch-size")
        except RuntimeError as error:
            if not distributed.is_lost_rank(error):
                raise
            distributed.wait_for_the_end()
            fail(script, f"rank {distributed.rank()} ends because another rank has ended or hangs")
        finally:
            close_runs()
            signals.clear()
            _on_signals(signal.default_int_handler)

    return guarded


def _on_signals(handler: Any) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup and background jobs ignore it
                signal.signal(number, handler)


def _stop(number: int, frame: object) -> NoReturn:
    _on_signals(signal.SIG_DFL)  # a second signal ends at once
    signals.append(number)
    sys.unraisablehook = lambda lost: None  # thrown into a destructor, it is raised again by `check_signals`
    raise KeyboardInterrupt(128 + number)


def fail(script: str, message: str) -> NoReturn:
    """End the script with one line and exit code 2."""
    line = f"{script}: error: {printable(' '.join(message.split()))}"
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):  # torchrun prints it last, as the cause
        facts = {"py_callstack": line, "timestamp": str(int(time.time()))}
        Path(path).write_text(json.dumps({"message": {"message": line, "extraInfo": facts}}), "utf-8")
    print(line, file=sys.stderr)
    sys.exit(2)


def draw(plot: Callable, run: RunFolder, *arguments: Any) -> None:
    """Plot the figures of a finished run; UserError, so that one line says which run lacks a figure."""
    try:
        plot(run, *arguments)
    except (OSError, UserError):
        raise
    except Exception as error:
        problem = f"a figure cannot be drawn ({type(error).__name__}: {error})"
        raise UserError(f"{run.folder}: {problem}; metrics and models are complete") from error


def resume_command(script: str, argv: list[str] | None, runs: list[RunFolder]) -> str:
    """Return the command that continues the run or, without a run, starts again."""
    python, words = "python", argv
    if words is None:  # interpreter and script as they were typed
        python, (script, *words) = sys.orig_argv[0], sys.argv
    if runs and "--dry-run" not in words:
        pairs = zip(words, ["", *words], strict=False)  # each word, and the one before it
        words = [word for word, before in pairs if "--name" not in (word, before)]
        words = [w for w in words if w not in ("--resume", "--overwrite") and not w.startswith("--name=")]
        words += ["--name", runs[0].folder.name, "--resume"]
    ranks = distributed.world()
    launcher = ["torchrun", f"--nproc-per-node={ranks}"] if ranks > 1 else [python]
    return shlex.join([*launcher, script, *words])


def resolve_machine(args: argparse.Namespace) -> None:
    """Resolve --device and --precision on this machine, silence ranks above 0, shorten a dry run."""
    args.quiet |= distributed.rank() > 0
    if args.dry_run and (args.resume or args.overwrite):
        raise UserError("--dry-run replaces the last dry run: leave out --resume and --overwrite")
    if args.dry_run:
        args.epochs = 1
    args.device = str(distributed.start(resolve_device(args.device)))
    if "precision" in args:
        args.precision = resolve_precision(args.precision, torch.device(args.device), args.quiet)


def resolve_device(name: str) -> torch.device:
    """Return the torch.device for --device; UserError when the machine lacks it."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, usable in present.items() if usable)
    if not present[name]:
        raise UserError(f"--device {name}: this machine has none that PyTorch can use; try --device cpu")
    return torch.device(name)


def resolve_precision(name: str, device: torch.device, quiet: bool = False) -> str:
    """Return "bf16" or "fp32" for --precision: auto is bf16 where that is faster, on CUDA and some CPUs."""
    cpu: dict = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    gpu = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    faster = gpu or cpu.get("amx_bf16") or cpu.get("avx512_bf16")
    if name == "bf16" and cpu and not (faster or quiet):
        slower = "bf16 is slower than fp32 on this CPU, which has neither AMX nor AVX-512 BF16"
        print(f"note: {slower}", file=sys.stderr, flush=True)
    return ("bf16" if faster else "fp32") if name == "auto" else name


def load_data(args: argparse.Namespace) -> Data:
    """Load the (train, test) ImageSets of --dataset; a dry run gets 1,000 images of each.

    Prints how the images were converted to MNIST's form.
    """
    read = functools.partial(load, args.dataset, args.data_dir, args.device, not args.unverified)
    train, test = distributed.first_then_all(read)
    check_classes(train, test)
    if train.digest:
        args.data_digest = train.digest  # a run is resumed on the data that it was started with
    if train.notes and not args.quiet:
        print(f"{args.dataset}: {'; '.join(train.notes)}", flush=True)
    if args.dry_run:
        train, test = (p._replace(images=p.images[:1000], labels=p.labels[:1000]) for p in (train, test))
    return train, test
