"""The committed results, read and checked: runs, headline experiments, reference figures, benchmarks.

Every reader raises Fault with one line that names the file, for a missing, half-written or foreign one.
"""

import json
import shlex
from pathlib import Path
from typing import NamedTuple

from utils.errors import Fault
from utils.run import FORMAT
from utils.sweep import RESULT as SWEEP


class Experiment(NamedTuple):
    """One headline of the README: what to run, and what the report says about it.

    minutes: {"cpu": ..., "gpu": ...}, expected. references: keys of references.json. label: the table's
    word for it, by default its name. metric: the figure to show, by default that of its script. ablation:
    the run is a row of the table of ablations in place of the headlines.
    """

    name: str
    command: str
    minutes: dict = {}
    references: tuple = ()
    label: str | None = None
    metric: str | None = None
    ablation: bool = False

    @property
    def script(self):
        """ "train_cnn" for "python train_cnn.py ..."."""
        return Path(shlex.split(self.command)[1]).stem

    @property
    def folder(self):
        """Where its run lies within results/, e.g. "cnn/wide"."""
        return f"{folder_name(self.script)}/{self.name}"


class Result(NamedTuple):
    """A finished run: its folder and the content of its files."""

    folder: Path
    config: dict
    metrics: dict
    history: list


def folder_name(script):
    return script.removeprefix("train_")


def read_json(path, *keys):
    """The JSON object in `path`, which must have this repository's format and the given keys."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Fault(f"{path}: missing") from None
    except (OSError, ValueError):
        raise Fault(f"{path}: not valid JSON; half-written?") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise Fault(f"{path}: format {json.dumps(found)}, but this code reads format {FORMAT}")
    lacking = [key for key in keys if key not in content]
    if lacking:
        raise Fault(f"{path}: lacks {', '.join(lacking)}")
    return content


def read_experiments(results_dir):
    path = Path(results_dir) / "experiments.json"
    try:
        return [Experiment(**entry) for entry in read_json(path, "experiments")["experiments"]]
    except TypeError as error:
        raise Fault(f"{path}: {error}") from None


def read_references(results_dir):
    """{key: {"value", "source", ...}}; the file describes its fields."""
    return read_json(Path(results_dir) / "references.json", "references")["references"]


def read_benchmark(path):
    return read_json(path, "benchmark", "what", "device", "rows", "ratios")


def read_result(folder):
    """The Result in `folder`, or None for a dry run."""
    config = read_json(folder / "config.json", "script", "command", "arguments")
    if config["arguments"].get("dry_run"):
        return None
    metrics = read_json(folder / "metrics.json", "dataset", "device", "seconds", "runs", "mean", "std")
    path = folder / "history.jsonl"
    try:
        history = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise Fault(f"{path}: missing") from None
    except (OSError, ValueError):
        raise Fault(f"{path}: not valid JSON lines; half-written?") from None
    return Result(folder, config, metrics, history)


def run_folders(results_dir):
    """Every results/<paradigm>/<run> that holds a run, finished or not; no sweeps, dry runs or demo."""
    found = {
        path.parent for name in ("config", "metrics") for path in Path(results_dir).glob(f"*/*/{name}.json")
    }
    return sorted(
        folder for folder in found if not folder.name.startswith(("dry-run", "demo")) and not is_sweep(folder)
    )


def is_sweep(folder):
    """Whether a folder holds a sweep, finished or not: many small trainings in one file, utils/sweep.py."""
    return (folder / SWEEP).exists() or any(folder.glob("records-*.jsonl"))


def read_sweep(folder):
    return read_json(folder / SWEEP, "command", "device", "seconds", "trainings", "cells")
