"""The committed results, read and checked: runs, headline experiments, reference figures, benchmarks.

Every reader raises UserError with one line that names the file when it is missing, damaged or foreign.
"""

import json
import shlex
from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError
from utils.runs.folder import FORMAT
from utils.runs.sweep import RESULT as SWEEP


class Experiment(NamedTuple):
    """One row of the report: what to run, and how to show it.

    minutes: {"cpu": ..., "gpu": ...}, expected. references: keys of references.json. label: what the table
    calls it, by default its name. metric: the metric to show, by default that of its script. ablation: the
    run belongs in the table of ablations, not in the headline table.
    """

    name: str
    command: str
    minutes: dict = {}
    references: tuple = ()
    label: str | None = None
    metric: str | None = None
    ablation: bool = False

    @property
    def script(self) -> str:
        """ "train_cnn" for "python train_cnn.py ..."."""
        return Path(shlex.split(self.command)[1]).stem

    @property
    def folder(self) -> str:
        """The folder of its run below results/, e.g. "cnn/wide"."""
        return f"{folder_name(self.script)}/{self.name}"


class Result(NamedTuple):
    """A finished run: its folder and the contents of its files."""

    folder: Path
    config: dict
    metrics: dict
    history: list


def folder_name(script: str) -> str:
    return script.removeprefix("train_")


def read_json(path: Path, *keys: str) -> dict:
    """Return the JSON object in `path`, which must have this repository's format and the given keys."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (OSError, ValueError):
        raise UserError(f"{path}: not valid JSON; half-written?") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: format {json.dumps(found)}, but this code reads format {FORMAT}")
    lacking = [key for key in keys if key not in content]
    if lacking:
        raise UserError(f"{path}: lacks {', '.join(lacking)}")
    return content


def read_experiments(results_dir: Path | str) -> list[Experiment]:
    path = Path(results_dir) / "experiments.json"
    try:
        return [Experiment(**entry) for entry in read_json(path, "experiments")["experiments"]]
    except TypeError as error:
        raise UserError(f"{path}: {error}") from None


def read_references(results_dir: Path | str) -> dict[str, dict]:
    """Return {key: {"value", "source", ...}}; the file describes its fields."""
    return read_json(Path(results_dir) / "references.json", "references")["references"]


def read_benchmark(path: Path) -> dict:
    return read_json(path, "benchmark", "what", "device", "rows", "ratios")


def read_result(folder: Path) -> Result | None:
    """Return the Result in `folder`, or None for a dry run."""
    config = read_json(folder / "config.json", "script", "command", "arguments")
    if config["arguments"].get("dry_run"):
        return None
    metrics = read_json(folder / "metrics.json", "dataset", "device", "seconds", "runs", "mean", "std")
    path = folder / "history.jsonl"
    try:
        history = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (OSError, ValueError):
        raise UserError(f"{path}: not valid JSON lines; half-written?") from None
    return Result(folder, config, metrics, history)


def run_folders(results_dir: Path | str) -> list[Path]:
    """Return every results/<paradigm>/<run> that holds a run, finished or not; no sweep, dry run or demo."""
    found = {
        path.parent for name in ("config", "metrics") for path in Path(results_dir).glob(f"*/*/{name}.json")
    }
    return sorted(
        folder for folder in found if not folder.name.startswith(("dry-run", "demo")) and not is_sweep(folder)
    )


def is_sweep(folder: Path) -> bool:
    """Return whether a folder holds a sweep (utils/runs/sweep.py), finished or not."""
    return (folder / SWEEP).exists() or any(folder.glob("records-*.jsonl"))


def read_sweep(folder: Path) -> dict:
    return read_json(folder / SWEEP, "command", "device", "seconds", "trainings", "cells")


def published_bags(results_dir: Path | str) -> list[dict]:
    """Return the published test AUCs of MIL as {"name", "points": [[training bags, AUC], ...]}.

    They are the references mil-<bags> and mil-attention-<bags>.
    """
    lines: dict[str, dict] = {}
    for key, reference in read_references(results_dir).items():
        name, _, bags = key.rpartition("-")
        if name in ("mil", "mil-attention") and bags.isdigit():
            title = f"{reference['task'].partition(', ')[2]}, published"
            line = lines.setdefault(name, {"name": title, "points": []})
            line["points"].append([int(bags), reference["value"]])
    return list(lines.values())
