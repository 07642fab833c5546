"""The folder of a run: config, history, metrics, predictions, checkpoint. No file is ever half-written."""

import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models import CheckpointError, save_model
from utils.errors import UserError

FORMAT = 1

# Flags that say where and how a run is kept. They change no metric.
BOOKKEEPING = {"data_dir", "results_dir", "name", "resume", "overwrite", "rescore", "quiet", "track"}
# Flags that change how a finished training is evaluated: --rescore may change them.
EVALUATION = {"draws", "distill", "student", "shifts", "copies", "episodes", "floors", "compare"}


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call write(temporary path) and rename the result to `path`: the old file or the new one, never half."""
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    os.replace(temporary, path)


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
        return RunFolder(self.path(label), self.writes)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train. Predictions are not committed, so a fresh clone has none."""
        return self.path("metrics.json").exists() and self.path("predictions.npz").exists()

    @property
    def resumable(self) -> bool:
        """Whether the folder or one of its parts holds a checkpoint or a finished training."""
        files = ("last.pt", "predictions.npz", "records-*.jsonl")
        return any(any(folder.glob(f)) for folder in (self.folder, *self.folder.glob("*/")) for f in files)

    def read_json(self, name: str) -> dict:
        return json.loads(self.path(name).read_text())

    def write_json(self, name: str, content: dict) -> None:
        self.write_text(name, json.dumps(content, indent=1, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        self._write(name, lambda path: path.write_text(text))

    def save_model(self, name: str, model: nn.Module, architecture: str, data: dict, **options) -> None:
        """Write a model file, see `models.save_model`."""
        self._write(name, lambda path: save_model(path, model, architecture, data, **options))

    def save_predictions(self, **arrays: Any) -> None:
        """Save probabilities and labels, so that ensembles and figures need no model."""

        def write(path):
            with path.open("wb") as file:
                np.savez_compressed(file, **arrays)

        self._write("predictions.npz", write)

    def predictions(self) -> dict[str, np.ndarray]:
        with np.load(self.path("predictions.npz"), allow_pickle=False) as file:
            return dict(file)

    def save_checkpoint(self, state: dict) -> None:
        self._write("last.pt", lambda path: torch.save({"format": FORMAT, **state}, path))

    def load_checkpoint(self) -> dict | None:
        """Return the state that `save_checkpoint` wrote, on the CPU, or None without a checkpoint."""
        path = self.path("last.pt")
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises half a dozen types for a damaged file
            raise CheckpointError(
                f"{path}: not a checkpoint of this project; start again with --overwrite"
            ) from error

    def log(self, **values: float | dict) -> None:
        """Append one line to history.jsonl."""
        if not self.writes:
            return
        with self.path("history.jsonl").open("a") as file:
            file.write(json.dumps(values) + "\n")
            file.flush()

    def history(self) -> list[dict]:
        path = self.path("history.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def write_history(self, lines: list[dict]) -> None:
        self.write_text("history.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def _write(self, name, write):
        if self.writes:
            write_atomically(self.path(name), write)


def open_run(
    script: str, args: Namespace, default_name: str, command: str, needs: str = "last.pt"
) -> RunFolder:
    """Create or reopen results/<script without "train_">/<name> and write its config.json.

    A dry run has a folder of its own and never touches another. --resume starts a new run where no checkpoint
    is left, as in a fresh clone, which has only the committed metrics. needs: with --rescore, the file that
    every training of the run must have left.

    Raises UserError when --name is taken, when --resume meets other arguments, or when nothing can be
    written. Call it after all other checks: --overwrite deletes the old run.
    """
    parent = Path(args.results_dir) / script.removeprefix("train_")
    run = RunFolder(parent / _folder_name(parent, default_name, args))
    config = _config(script, run.folder.name, args, command)
    try:
        if args.rescore:
            return _open_for_rescoring(run, config, needs)
        if run.path("config.json").exists():
            if args.resume and run.resumable:
                _check_same_arguments(run, config)
                return run
            if not (args.resume or args.overwrite or args.dry_run):
                raise UserError(
                    f"{run.folder} holds a run: add --resume to continue it, --overwrite to "
                    "replace it, or choose another --name"
                )
            shutil.rmtree(run.folder)
        elif run.folder.exists() and any(run.folder.iterdir()):
            raise UserError(f"{run.folder} exists and is not the folder of a run: choose another --name")
        run.folder.mkdir(parents=True, exist_ok=True)
        run.write_json("config.json", config)
    except OSError as error:
        raise UserError(f"cannot write to {run.folder}: {error.strerror or error}") from error
    return run


def _open_for_rescoring(run, config, needs):
    """Check that a finished run can be scored again, and record which code scores it."""
    if not run.path("metrics.json").exists():
        raise UserError(f"{run.folder} holds no finished run to score again: train it with --resume")
    _check_same_arguments(run, config, ignore=EVALUATION)
    trainings = sorted(path.parent for path in run.folder.glob("*/metrics.json")) or [run.folder]
    if missing := [folder / needs for folder in trainings if not (folder / needs).exists()]:
        raise UserError(f"--rescore needs {missing[0]}, which is not committed: train the run with --resume")
    old = run.read_json("config.json")
    trained = {key: old[key] for key in ("commit", "device", "versions")}
    scored = {"commit": config["commit"], "versions": config["versions"]}
    run.write_json("config.json", {**config, **trained, "rescored": scored})
    return run


def _folder_name(parent, base, args):
    if args.dry_run:  # never touches a run, whatever --name says
        return "dry-run"
    if args.name:
        return args.name
    if args.resume or args.overwrite or args.rescore:
        raise UserError("--resume, --overwrite and --rescore need --name")
    name, number = base, 1
    while (parent / name).exists():
        number += 1
        name = f"{base}-{number}"
    return name


def _config(script, name, args, command):
    return {
        "format": FORMAT,
        "script": script,
        "name": name,
        "command": command,
        "arguments": {k: v for k, v in vars(args).items() if k not in BOOKKEEPING},
        "commit": git_commit(),
        "device": device_name(args.device),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "numpy": np.__version__,
        },
    }


def _check_same_arguments(run, config, ignore=frozenset()):
    try:
        old = run.read_json("config.json")["arguments"]
    except (json.JSONDecodeError, KeyError) as error:
        raise UserError(f"{run.path('config.json')} is damaged: use --overwrite or another --name") from error
    new = json.loads(json.dumps(config["arguments"]))
    changed = [key for key in new if old.get(key) != new[key] and key not in ignore]
    if changed:
        details = ", ".join(f"--{k.replace('_', '-')} was {old.get(k)}, now {new[k]}" for k in changed)
        raise UserError(f"{run.folder} was started with other arguments: {details}")


def git_commit() -> str | None:
    """Return the commit of the code, with "-dirty" when tracked files differ; None outside a repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    describe = [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        output = subprocess.run(describe, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return output.stdout.strip()


def device_name(device: torch.device | str) -> str:
    """Return a device in words, e.g. "NVIDIA H200" or "Intel(R) Xeon(R) Processor, 2 threads"."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    threads = torch.get_num_threads()
    name = f"{model}, {threads} thread{'s' if threads > 1 else ''}"
    return name if kind == "cpu" else f"{kind} on {name}"


def mean_and_std(columns: dict[str, list[float]]) -> dict[str, dict]:
    """Return {"mean": {...}, "std": {...}} of named columns.

    std is the sample standard deviation (n - 1 in the denominator), None for a single value.
    """
    return {
        "mean": {key: statistics.fmean(values) for key, values in columns.items()},
        "std": {key: statistics.stdev(v) if len(v) > 1 else None for key, v in columns.items()},
    }


def summarise(run: RunFolder, records: list[dict]) -> dict:
    """Write metrics.json from the records of one or more trainings; return its content.

    Mean and standard deviation are taken over the trainings, for every number that all of them have.
    """
    config = run.read_json("config.json")
    keys = [
        key
        for key, value in records[0].items()
        if isinstance(value, (int, float)) and all(key in record for record in records)
        if key not in ("seed", "fold")
    ]
    metrics = {
        "format": FORMAT,
        "script": config["script"],
        "name": config["name"],
        "dataset": config["arguments"]["dataset"],
        "device": config["device"],
        "seconds": round(math.fsum(record["seconds"] for record in records), 2),
        "runs": records,
        **mean_and_std({key: [record[key] for record in records] for key in keys}),
    }
    run.write_json("metrics.json", metrics)
    return metrics
