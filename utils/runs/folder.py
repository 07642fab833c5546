"""The folder of a run: config, history, metrics, predictions, checkpoint. No file is ever half-written."""

import io
import json
import math
import platform
import statistics
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models import CheckpointError, save_model
from utils.errors import UserError
from utils.runs.files import append_line, read_lines, read_object, write_atomically

FORMAT = 1
# The folders that the trainings of a run have inside of it.
PARTS = ("seed-*", "fold-*", "member-*")
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
        return RunFolder(self.path(label), self.writes)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train. Predictions are not committed, so a fresh clone has none."""
        return self.path("metrics.json").exists() and self.path("predictions.npz").exists()

    @property
    def parts(self) -> list["RunFolder"]:
        """The folders of its trainings, where they have folders of their own."""
        return [
            RunFolder(path, self.writes) for pattern in PARTS for path in sorted(self.folder.glob(pattern))
        ]

    @property
    def resumable(self) -> bool:
        """Whether the folder or one of its parts holds a checkpoint or a finished training."""
        files = ("last.pt", "predictions.npz", "records-*.jsonl")
        return any(any(run.folder.glob(name)) for run in (self, *self.parts) for name in files)

    @property
    def holds_work(self) -> bool:
        """Whether anything was trained here: it is `resumable`, or has metrics alone, as in a fresh clone."""
        return self.resumable or any(self.path(name).exists() for name in ("metrics.json", "sweep.json"))

    def read_json(self, name: str) -> dict:
        return read_object(self.path(name), WAY_OUT)

    def records(self) -> list[dict]:
        """Return the records of the trainings in metrics.json."""
        runs = self.read_json("metrics.json").get("runs")
        if not isinstance(runs, list) or not runs or not all(_is_record(run) for run in runs):
            raise UserError(f"{self.path('metrics.json')}: no records of trainings; {WAY_OUT}")
        return runs

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
        path = self.path("predictions.npz")
        try:
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        except OSError:
            raise
        except Exception as error:  # NumPy and zipfile raise half a dozen types for a damaged file
            raise UserError(f"{path}: {WAY_OUT}") from error

    def save_checkpoint(self, state: dict) -> None:
        content = io.BytesIO()  # to a file, torch.save hides why it can't be written
        torch.save({"format": FORMAT, **state}, content)
        self._write("last.pt", lambda path: path.write_bytes(content.getbuffer()))

    def load_checkpoint(self) -> dict | None:
        """Return the state that `save_checkpoint` wrote, on the CPU, or None without a checkpoint."""
        path = self.path("last.pt")
        if not path.exists():
            return None
        try:
            with zipfile.ZipFile(path) as file:
                damaged = file.testzip()  # torch.load checks no checksum
            state = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception:  # zipfile and torch.load raise half a dozen types for a damaged file
            state = None
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise CheckpointError(f"{path}: no checkpoint of this project, or {WAY_OUT}")
        return state

    def log(self, **values: float | dict) -> None:
        """Append one line to history.jsonl."""
        if self.writes:
            append_line(self.path("history.jsonl"), values)

    def history(self) -> list[dict]:
        """Return the lines of history.jsonl, without a torn last one."""
        lines, bad = read_lines(self.path("history.jsonl"))
        if bad and bad[0] <= len(lines):
            raise UserError(f"{self.path('history.jsonl')}: line {bad[0]} is damaged: use --overwrite")
        return lines

    def write_history(self, lines: list[dict]) -> None:
        self.write_text("history.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def _write(self, name, write):
        if self.writes:
            write_atomically(self.path(name), write)


def _is_record(run):
    return isinstance(run, dict) and isinstance(run.get("seconds"), int | float)


def provenance(device: torch.device | str) -> dict:
    """Return what may change a result besides the arguments: commit, device with its threads, versions."""
    return {
        "commit": git_commit(),
        "device": device_name(device),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "numpy": np.__version__,
        },
    }


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
