"""The folder of a run: what it holds, and how it is born, continued or replaced.

No file is ever half-written, and nothing is deleted but the last dry run. A run is born when its config.json
gets its name. The process that works on it locks its folder; the system frees the lock when the process ends.
"""

import io
import itertools
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import zipfile
from argparse import Namespace
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models import save_model
from utils import distributed
from utils.errors import UserError
from utils.runs.files import LARGEST, append_line, check_file, read_lines, read_object, write_atomically

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
# Flags that say where and how a run is kept. They change no metric.
BOOKKEEPING = {"data_dir", "results_dir", "name", "resume", "overwrite", "quiet", "unverified"}
PLAIN = int | float | str | None  # what a record holds, alone or in lists and dicts
SHARES = "accuracy|accuracies|agreement|precision|recall|auc|nmi|ece|rates?|errors|p|at_1|at_r|gain|roc"
FRACTION = re.compile(f"(.*_)?({SHARES})(_low|_high)?")
TOGETHER = {"train_simclr", "train_moco"}  # whose ranks share a training, which changes its weights
WAY_OUT = "damaged: delete it, and --resume makes it again"


class RunFolder:
    """The folder `results/<script>/<name>` of a run; `part(label)` is a sub-folder for one of its trainings.

    writes: False on ranks that share a training with rank 0. They read the folder and write nothing.
    """

    def __init__(self, folder: Path | str, writes: bool = True):
        self.folder, self.writes = Path(folder), writes

    def path(self, name: str) -> Path:
        return self.folder / name

    def part(self, label: str) -> "RunFolder":
        self.path(label).mkdir(exist_ok=True)
        if self.path(label).is_symlink():
            raise UserError(f"{self.path(label)}: is a link, which could lead anywhere: delete it")
        return RunFolder(self.path(label), self.writes)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train. Predictions are not committed, so a fresh clone has none."""
        return self.path("metrics.json").exists() and self.path("predictions.npz").exists()

    @property
    def resumable(self) -> bool:
        """Whether the folder or one of its parts holds a checkpoint or a finished training."""
        files = ("last.pt", "*/last.pt", "predictions.npz", "*/predictions.npz", "records-*.jsonl")
        return any(path for name in files for path in self.folder.glob(name))

    def write_text(self, name: str, text: str) -> None:
        self._write(name, lambda path: path.write_text(text, encoding="utf-8"))

    def write_json(self, name: str, content: dict) -> None:
        self.write_text(name, json.dumps(content, indent=1, allow_nan=False) + "\n")

    def read_json(self, name: str) -> dict:
        return read_object(self.path(name), WAY_OUT)

    def head(self) -> dict:
        """Return what the files of all results begin with."""
        config = self.read_json("config.json")
        names = {key: config.get(key) for key in ("script", "name", "command", "device")}
        return {"format": FORMAT, **names, "dataset": config["arguments"]["dataset"]}

    def records(self) -> list[dict]:
        """Return the records of the trainings in metrics.json, see `check_records`."""
        return check_records(self.read_json("metrics.json").get("runs"), self.path("metrics.json"))

    def save_model(self, name: str, model: nn.Module, architecture: str, data: dict, **options: Any) -> None:
        """Write a model file, see `models.save_model`."""
        self._write(name, lambda path: save_model(path, model, architecture, data, **options))

    def save_predictions(self, **arrays: Any) -> None:
        """Save probabilities and labels, so that ensembles and figures need no model."""
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        self._write("predictions.npz", lambda path: path.write_bytes(content.getbuffer()))

    def predictions(self, *names: str) -> dict[str, np.ndarray]:
        """Return the arrays that `save_predictions` wrote: those of these names that are there, or all."""

        def read(path):
            with zipfile.ZipFile(path) as file, np.load(path, allow_pickle=False) as arrays:
                chosen = [name for name in arrays.files if name in names or not names]
                size = sum(file.getinfo(f"{name}.npy").file_size for name in chosen)
                if size > LARGEST:
                    raise ValueError(f"{size:,} bytes of arrays")
                return {name: arrays[name] for name in chosen}

        return self._read("predictions.npz", read)

    def save_checkpoint(self, state: dict) -> None:
        content = io.BytesIO()  # to a file, torch.save hides why it can't be written
        torch.save({"format": FORMAT, **state}, content)
        self._write("last.pt", lambda path: path.write_bytes(content.getbuffer()))

    def load_checkpoint(self) -> dict | None:
        """Return the state that `save_checkpoint` wrote, on the CPU, or None without a checkpoint."""

        def read(path):
            with zipfile.ZipFile(path) as file:
                assert not file.testzip()  # torch.load checks no checksum
            state = torch.load(path, map_location="cpu", weights_only=True)
            assert state["format"] == FORMAT
            return state

        return self._read("last.pt", read) if self.path("last.pt").exists() else None

    def log(self, **values: float | dict) -> None:
        """Append one line to history.jsonl."""
        if self.writes:
            append_line(self.path("history.jsonl"), values)

    def history(self) -> list[dict]:
        lines = read_lines(self.path("history.jsonl"))
        return [line for line in lines if type(line.get("epoch", 0)) is int]

    def write_history(self, lines: list[dict]) -> None:
        self.write_text("history.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        if self.writes:
            write_atomically(self.path(name), write)

    def _read(self, name: str, read: Callable[[Path], Any]) -> Any:
        """Return read(path); UserError for a damaged file, which NumPy and PyTorch answer in many ways."""
        check_file(self.path(name))
        try:
            return read(self.path(name))
        except OSError:
            raise
        except Exception as error:
            raise UserError(f"{self.path(name)}: {WAY_OUT}") from error


# --- Metrics ---


def check_records(records: Any, path: Path) -> list[dict]:
    """Return the records of trainings that a file holds; UserError unless they can be what a script wrote.

    A record is a dict of numbers, texts and lists or dicts of them, its "seconds" not negative, its "seed" an
    integer, and its shares (FRACTION), single or in lists, from 0 to 1, an interval's ends about so.
    """
    if not isinstance(records, list) or not records or not all(map(_is_record, records)):
        raise UserError(f"{path}: no records of trainings; {WAY_OUT}")
    for key, value in (item for record in records for item in record.items()):
        low, share = -1.01 if key.endswith("gain") else -0.01, FRACTION.fullmatch(key)
        parts = _parts(value)
        fits = all(is_number(x) and low <= x <= 1.01 if share else isinstance(x, PLAIN) for x in parts)
        if not fits or (share and not parts):
            raise UserError(f"{path}: impossible {key[:80]} {str(value)[:80]}; {WAY_OUT}")
    return records


def _is_record(record: Any) -> bool:
    seconds: Any = record.get("seconds") if isinstance(record, dict) else None
    return is_number(seconds) and seconds >= 0 and type(record.get("seed", 0)) is int


def _parts(value: Any) -> list:
    """Return what a list or dict holds, or a list of the value alone."""
    return [*value.values()] if isinstance(value, dict) else value if isinstance(value, list) else [value]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def mean_and_std(records: list[dict], leave_out: set[str]) -> dict[str, dict]:
    """Return {"mean", "std"} over the records of every number that all of them have.

    std is the sample standard deviation (n - 1 in the denominator), None for a single record.
    """
    numbers = [key for key in records[0] if all(isinstance(r.get(key), int | float) for r in records)]
    columns = {key: [record[key] for record in records] for key in numbers if key not in leave_out}
    return {
        "mean": {key: statistics.fmean(values) for key, values in columns.items()},
        "std": {key: statistics.stdev(v) if len(v) > 1 else None for key, v in columns.items()},
    }


def summarise(run: RunFolder, records: list[dict]) -> dict:
    """Write metrics.json from the records of one or more trainings; return its content."""
    seconds = round(math.fsum(record["seconds"] for record in records), 2)
    summary = mean_and_std(records, {"seed", "fold"})
    metrics = {**run.head(), "seconds": seconds, "runs": records, **summary}
    run.write_json("metrics.json", metrics)
    return metrics


# --- Opening ---

_locks: dict[Path, int] = {}  # the runs of this process, each with the file descriptor that holds its lock


def open_run(script: str, args: Namespace, default_name: str, command: str) -> RunFolder:
    """Create or continue results/<script without "train_">/<name>, for this process alone until `close_runs`.

    A run without --name takes the next free name, <data set>-<default name>, without that of MNIST. With
    --overwrite, and with --resume where no checkpoint is left as in a fresh clone, the old run is renamed to
    <name>.old-<time>. A dry run replaces the last one.

    Raises UserError when --name is taken, when another process works on it, when --resume meets other
    arguments, and for a folder that is not of this script. Call it after all other checks.
    """
    if not (args.name or args.dry_run) and (args.resume or args.overwrite):
        raise UserError("--resume and --overwrite need --name")
    if args.dataset != "mnist":
        data = re.sub(r"[^\w.-]+", "-", Path(args.dataset).resolve().stem)[:40].strip(".-")
        default_name = f"{data}-{default_name}".lstrip("-")
    name = "dry-run" if args.dry_run else args.name  # a dry run never touches a run, whatever --name says
    arguments = {key: value for key, value in vars(args).items() if key not in BOOKKEEPING}
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    versions |= {name: version(name) for name in ("torchvision", "numpy")}
    config = {"format": FORMAT, "script": script, "command": command, "arguments": arguments}
    config |= {"commit": git_commit(), "device": device_name(args.device), "versions": versions}
    config |= {"ranks": distributed.world()} if script in TOGETHER else {}
    for number in itertools.count(1):
        own = name or (f"{default_name}-{number}" if number > 1 else default_name)
        run = RunFolder(Path(args.results_dir) / script.removeprefix("train_") / own)
        if name or _is_free(run.folder):
            try:
                if _claim(run, {**config, "name": own}, args):
                    break
            except UserError:
                _unlock(run.folder)
                if name:
                    raise
    return run


def open_runs() -> list[RunFolder]:
    """Return the runs that this process works on."""
    return [RunFolder(folder) for folder in _locks]


def close_runs() -> None:
    """Let other processes work on the runs of this one."""
    for folder in list(_locks):
        _unlock(folder)


def _claim(run: RunFolder, config: dict, args: Namespace) -> bool:
    """Create or continue a run under its lock; return False where the old one was moved aside."""
    if _is_free(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
    _lock(run.folder)  # all below is true as long as the lock is held
    if _is_free(run.folder):
        run.write_json("config.json", config)
        return True
    if not run.path("config.json").exists():
        raise UserError(f"{run.folder} exists and is not the folder of a run: choose another --name")
    return _reopen(run, config, args)


def _is_free(folder: Path) -> bool:
    """Whether nothing is here, or what a process left that died before the run was born."""
    try:
        return all(path.suffix == ".tmp" for path in folder.iterdir())
    except FileNotFoundError:
        return not folder.is_symlink()
    except NotADirectoryError:  # a file stands here, or above
        return not os.path.lexists(folder)


def _lock(folder: Path) -> None:
    """Lock a run for this process; UserError when another one works on it."""
    if folder in _locks:
        return
    try:
        _locks[folder] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(_locks[folder], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except NotADirectoryError:
        raise UserError(f"{folder} exists and is not the folder of a run: choose another --name") from None
    except (BlockingIOError, FileNotFoundError):  # locked, or moved aside a moment ago
        lost = folder.is_symlink() and not folder.exists()
        problem = "is a link to a folder that is gone" if lost else "is in use by another process"
        raise UserError(f"{folder} {problem}: choose another --name") from None
    except (OSError, AttributeError):  # the latter on Windows
        _locks.setdefault(folder, os.open(os.devnull, os.O_RDONLY))
        print(f"note: no locks at {folder}: take care to start it once at a time", file=sys.stderr)


def _unlock(folder: Path) -> None:
    if folder in _locks:
        os.close(_locks.pop(folder))


def _reopen(run: RunFolder, config: dict, args: Namespace) -> bool:
    """Return True when the run is continued, False when it was moved aside; UserError if neither can be."""
    folder = run.folder
    old = read_object(run.path("config.json"), "restore it, or move the folder away")
    arguments = old.get("arguments")
    if any(old.get(key) != config[key] for key in ("format", "script")) or not isinstance(arguments, dict):
        raise UserError(f"{folder} is not a run of {config['script']}.py: choose another --name")
    if args.dry_run and not arguments.get("dry_run"):
        raise UserError(f"{folder} holds a run that is no dry run: rename it")
    if args.resume and run.resumable:
        _check_same_arguments(folder, arguments, json.loads(json.dumps(config["arguments"])))
        _record_resumption(run, old, config, args.quiet)
        return True
    if not (args.resume or args.overwrite or args.dry_run):
        ways = "add --resume to continue it, --overwrite to replace it, or choose another --name"
        raise UserError(f"{folder} holds a run: {ways}")
    if not (run.resumable or run.path("metrics.json").exists() or run.path("sweep.json").exists()):
        run.write_json("config.json", config)  # nothing was trained here
        return True
    words = [word for value in vars(args).values() for word in _parts(value)]
    for path in (path for word in words if isinstance(word, str) for path in re.split("[=+]", word)):
        if path and os.path.exists(path) and Path(path).resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{folder} can't be replaced by a run that reads {path}: choose another --name")
    aside = folder.with_name(f"{folder.name}.old-{datetime.now():%Y%m%d-%H%M%S-%f}")
    shutil.move(folder, aside)  # which copies where the image of a container lets no folder be renamed
    _locks.pop(folder, None)  # not closed: another process may have opened the old folder to lock it
    if args.dry_run:
        shutil.rmtree(aside, ignore_errors=True)
    elif not args.quiet:
        print(f"the old run is kept in {aside}", flush=True)
    return False


def _check_same_arguments(folder: Path, before: dict, now: dict) -> None:
    def text(value):
        return ",".join(map(str, value)) if isinstance(value, list) else value

    if before.get("data_digest", digest := now.pop("data_digest", None)) != digest:
        raise UserError(f"{folder} was started with other data: those of {now['dataset']} have changed")
    younger = {key for key in now if key not in before and not now[key]}  # flags added since, left out
    pairs = {key: (text(before.get(key)), text(now[key])) for key in now if key not in younger}
    if changed := [f"--{k.replace('_', '-')} was {x}, now {y}" for k, (x, y) in pairs.items() if x != y]:
        raise UserError(f"{folder} was started with other arguments: {', '.join(changed)}")


def _record_resumption(run: RunFolder, old: dict, config: dict, quiet: bool) -> None:
    """Record in config.json what an unfinished run continues with, if it was trained with something else."""
    before = [old, *old.get("resumed", [])]
    now = {key: config[key] for key in ("commit", "device", "versions", "ranks") if key in config}
    pairs = {key: (before[-1].get(key, 1 if key == "ranks" else None), now[key]) for key in now}
    changed = "; ".join(f"{key} was {x}, now {y}" for key, (x, y) in pairs.items() if x != y)
    sweep = run.read_json("sweep.json") if run.path("sweep.json").exists() else {}
    done, wanted = sweep.get("trainings", (0, 1))
    if changed and done < wanted and not run.path("metrics.json").exists():
        run.write_json("config.json", {**old, "resumed": [*before[1:], now]})
        if not quiet:
            print(f"note: {run.folder} may differ from a run in one go: {changed}", file=sys.stderr)


# --- What may change a result besides the arguments ---


def git_commit() -> str | None:
    """Return the commit of the code, with "-dirty" when tracked files differ; None outside a repository."""
    describe = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        output = subprocess.run([*describe, "--exclude=*"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return output.stdout.strip()


def device_name(device: torch.device | str) -> str:
    """Return a device in words, e.g. "NVIDIA H200" or "Intel(R) Xeon(R) Processor, 2 threads"."""
    kind, threads = torch.device(device).type, torch.get_num_threads()
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    name = f"{model}, {threads} thread{'s' if threads > 1 else ''}"
    return name if kind == "cpu" else f"{kind} on {name}"
