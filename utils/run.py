"""A run's folder: config, history, metrics, predictions, checkpoint. Nothing half written is left."""

import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from models import CheckpointError
from utils.cli import BOOKKEEPING
from utils.errors import Fault

FORMAT = 1


class Run:
    """One folder `results/<script>/<name>`; `part(label)` is a folder within for one of several runs.

    writes: whether it writes at all; of several ranks that train one model together only the first does.
    """

    def __init__(self, folder, writes=True):
        self.folder, self.writes = Path(folder), writes

    def path(self, name):
        return self.folder / name

    def part(self, label):
        self.path(label).mkdir(exist_ok=True)
        return Run(self.path(label), self.writes)

    @property
    def finished(self):
        """Whether nothing is left to train here. Predictions aren't committed: a fresh clone has none."""
        return self.path("metrics.json").exists() and self.path("predictions.npz").exists()

    @property
    def resumable(self):
        """Whether this folder or one of its parts holds a checkpoint or any finished training."""
        files = ("last.pt", "predictions.npz", "records-*.jsonl")
        return any(any(folder.glob(f)) for folder in (self.folder, *self.folder.glob("*/")) for f in files)

    def read_json(self, name):
        return json.loads(self.path(name).read_text())

    def write_json(self, name, content):
        self.write_text(name, json.dumps(content, indent=1, allow_nan=False) + "\n")

    def write_text(self, name, text):
        self._write(name, lambda path: path.write_text(text))

    def save_predictions(self, **arrays):
        """Probabilities and labels (NumPy), so that ensembles and reports need no model."""

        def write(path):
            with path.open("wb") as file:
                np.savez_compressed(file, **arrays)

        self._write("predictions.npz", write)

    def predictions(self):
        with np.load(self.path("predictions.npz"), allow_pickle=False) as file:
            return dict(file)

    def save_checkpoint(self, state):
        self._write("last.pt", lambda path: torch.save({"format": FORMAT, **state}, path))

    def load_checkpoint(self):
        """The state that `save_checkpoint` wrote, on the CPU, or None when there is none."""
        path = self.path("last.pt")
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises half a dozen types for a damaged file
            raise CheckpointError(
                f"{path}: not a checkpoint of this project; start again with --overwrite"
            ) from error

    def log(self, **values):
        """Append a line to history.jsonl, on disk before this returns."""
        if not self.writes:
            return
        with self.path("history.jsonl").open("a") as file:
            file.write(json.dumps(values) + "\n")
            file.flush()

    def history(self):
        path = self.path("history.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def write_history(self, lines):
        self.write_text("history.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def _write(self, name, write):
        if not self.writes:
            return
        temporary = self.path(name + ".tmp")
        write(temporary)
        os.replace(temporary, self.path(name))


def open_run(script, args, default_name, command):
    """Make or re-open results/<script without "train_">/<name> and write its config.json.

    --resume starts the run where there is nothing to go on with, as in a fresh clone, which has the
    committed figures only. Raises Fault when --name is taken, when --resume meets other arguments, or when
    nothing can be written there. Call it after everything else was checked: --overwrite deletes.
    """
    parent = Path(args.results_dir) / script.removeprefix("train_")
    run = Run(parent / (args.name or _free_name(parent, default_name, args)))
    config = _config(script, run.folder.name, args, command)
    try:
        if run.path("config.json").exists():
            if args.resume and run.resumable:
                _check_same(run, config)
                return run
            if not (args.resume or args.overwrite or args.dry_run):
                raise Fault(
                    f"{run.folder} holds a run: add --resume to go on with it, --overwrite to "
                    "replace it, or choose another --name"
                )
            shutil.rmtree(run.folder)
        elif run.folder.exists() and any(run.folder.iterdir()):
            raise Fault(f"{run.folder} exists and is not a run's folder: choose another --name")
        run.folder.mkdir(parents=True, exist_ok=True)
        run.write_json("config.json", config)
    except OSError as error:
        raise Fault(f"cannot write to {run.folder}: {error.strerror or error}") from error
    return run


def _free_name(parent, base, args):
    if args.resume or args.overwrite:
        raise Fault("--resume and --overwrite need --name, the run that is meant")
    if args.dry_run:
        return "dry-run"
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


def _check_same(run, config):
    try:
        old = run.read_json("config.json")["arguments"]
    except (json.JSONDecodeError, KeyError) as error:
        raise Fault(f"{run.path('config.json')} is damaged: use --overwrite or another --name") from error
    new = json.loads(json.dumps(config["arguments"]))
    changed = [key for key in new if old.get(key) != new[key]]
    if changed:
        said = ", ".join(f"--{k.replace('_', '-')} was {old.get(k)}, now {new[k]}" for k in changed)
        raise Fault(f"{run.folder} was started with other arguments: {said}")


def git_commit():
    """The commit of the code, "-dirty" when tracked files differ, or None outside a repository."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        found = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def device_name(device):
    """A device in words, e.g. "NVIDIA H200" or "Intel(R) Xeon(R) Processor, 2 threads"."""
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


def summarise(run, records):
    """Write metrics.json from the records of one or more runs; returns its content.

    mean and std (n - 1 in the denominator; None for a single run) are over the runs, for every number that
    all of them have.
    """
    config = run.read_json("config.json")
    keys = [
        key
        for key, value in records[0].items()
        if isinstance(value, (int, float)) and all(key in record for record in records)
        if key not in ("seed", "fold")
    ]
    columns = {key: [record[key] for record in records] for key in keys}
    metrics = {
        "format": FORMAT,
        "script": config["script"],
        "name": config["name"],
        "dataset": config["arguments"]["dataset"],
        "device": config["device"],
        "seconds": round(math.fsum(record["seconds"] for record in records), 2),
        "runs": records,
        "mean": {key: statistics.fmean(column) for key, column in columns.items()},
        "std": {
            key: statistics.stdev(column) if len(records) > 1 else None for key, column in columns.items()
        },
    }
    run.write_json("metrics.json", metrics)
    return metrics
