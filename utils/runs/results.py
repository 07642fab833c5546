"""The committed results, read and checked: runs, sweeps, experiments, references, times, benchmarks.

Every reader raises UserError with one line that names the file when it is missing, damaged or foreign.
`read_collection` reads everything, and keeps those lines instead.
"""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from utils.errors import UserError
from utils.runs.folder import FORMAT
from utils.runs.sweep import RESULT as SWEEP


class RowSpec(NamedTuple):
    """What the report shows of a run in one row of a table.

    label: by default the run's name. metric: by default that of the script. references: keys of
    references.json, the best comparable first. cell: of a sweep, the values that select one cell. front:
    {"task", "method"} of the row in README.md; of several rows with one task, the first that has results.
    """

    label: str | None = None
    metric: str | None = None
    references: tuple[str, ...] = ()
    cell: dict | None = None
    front: dict = {}


class Experiment(NamedTuple):
    """One run that reproduce.py makes and the report shows.

    name: folder results/<script without train_>/<name>. command: without --name. rows: what the tables show.
    section: the section of the page whose table has these rows. references: keys of references.json that a
    sweep's table shows. timed_as: the entry of times.json with the same training recipe, by default the run's
    own folder; "{model}" stands for the model of each member.
    """

    name: str
    command: str
    rows: tuple[RowSpec, ...] = (RowSpec(),)
    section: str = "results"
    references: tuple[str, ...] = ()
    timed_as: str | None = None

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

    @property
    def arguments(self) -> dict:
        return self.config["arguments"]

    @property
    def records(self) -> list[dict]:
        """The records of its trainings."""
        return self.metrics["runs"]

    @property
    def key(self) -> str:
        """Its folder below results/, e.g. "cnn/wide"."""
        return f"{self.folder.parent.name}/{self.folder.name}"


@dataclass
class Collection:
    """All committed results. results, sweeps: by folder below results/, e.g. "cnn/wide".

    faults: what is missing or damaged, one line each. notes: what a reader should know, no fault.
    """

    folder: Path
    experiments: list[Experiment] = field(default_factory=list)
    references: dict[str, dict] = field(default_factory=dict)
    times: dict[str, dict] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    sweeps: dict[str, Result] = field(default_factory=dict)
    benchmarks: dict[str, dict] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def attempt(self, function: Callable, *args) -> Any:
        """Return function(*args), or None after a UserError, whose line is kept in `faults`."""
        try:
            return function(*args)
        except UserError as fault:
            self.faults.append(str(fault))
            return None

    def experiment(self, key: str) -> Experiment | None:
        """Return the experiment of a run's folder, or None for a run of no experiment."""
        return next((e for e in self.experiments if e.folder == key), None)


def folder_name(script: str) -> str:
    return script.removeprefix("train_")


def read_collection(results_dir: Path) -> Collection:
    """Read everything below `results_dir`; what can't be read is named in `faults`."""
    found = Collection(results_dir)
    found.experiments = found.attempt(read_experiments, results_dir) or []
    found.references = found.attempt(read_references, results_dir) or {}
    found.times = found.attempt(read_times, results_dir) or {}
    for folder in run_folders(results_dir):
        if result := found.attempt(read_result, folder):
            found.results[result.key] = result
    for folder in sweep_folders(results_dir):
        if result := found.attempt(read_sweep, folder):
            found.sweeps[result.key] = result
    for path in sorted((results_dir / "benchmarks").glob("*.json")):
        if content := found.attempt(read_benchmark, path):
            found.benchmarks[path.stem] = content
    found.notes += notes_on(found)
    return found


def notes_on(found: Collection) -> list[str]:
    """Return a line for every result that is not from a clean commit, and for every run that is missing."""
    results = (*found.results.values(), *found.sweeps.values())
    commits = {
        result.folder: [part.get("commit") for part in (result.config, *result.config.get("resumed", []))]
        for result in results
    }
    for name, content in found.benchmarks.items():
        commits[found.folder / "benchmarks" / f"{name}.json"] = [content.get("commit")]
    notes = [
        f"{path}: not from a clean commit ({commit})"
        for path, of_path in commits.items()
        for commit in of_path
        if not is_clean(commit)
    ]
    resumed = [result.folder for result in results if "resumed" in result.config]
    notes += [
        f"{folder}: resumed with other code, versions or threads, see its config.json" for folder in resumed
    ]
    missing = [e for e in found.experiments if not (found.folder / e.folder).is_dir()]
    return notes + [f"{found.folder / e.folder}: not run yet; {e.command}" for e in missing]


def is_clean(commit: str | None) -> bool:
    return commit is not None and not commit.endswith("-dirty")


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
        return [
            Experiment(**{**entry, "rows": tuple(RowSpec(**row) for row in entry.get("rows", [{}]))})
            for entry in read_json(path, "experiments")["experiments"]
        ]
    except TypeError as error:
        raise UserError(f"{path}: {error}") from None


def read_references(results_dir: Path | str) -> dict[str, dict]:
    """Return {key: {"value", "source", ...}}; the file describes its fields."""
    return read_json(Path(results_dir) / "references.json", "references")["references"]


def read_times(results_dir: Path | str) -> dict[str, dict]:
    """Return {run: {"seconds_per_epoch", ...}}, empty without times.json; the file describes its fields."""
    path = Path(results_dir) / "times.json"
    times = read_json(path, "times")["times"] if path.exists() else {}
    for name, entry in times.items():
        if missing := [key for key in ("seconds_per_epoch", "threads", "cpu") if key not in entry]:
            raise UserError(f"{path}: {name} lacks {', '.join(missing)}")
    return times


def read_benchmark(path: Path) -> dict:
    return read_json(path, "benchmark", "what", "device", "rows", "ratios")


def read_result(folder: Path) -> Result | None:
    """Return the Result in `folder`, or None for a dry run."""
    config = read_json(folder / "config.json", "script", "command", "arguments")
    if config["arguments"].get("dry_run"):
        return None
    metrics = read_json(folder / "metrics.json", "dataset", "device", "seconds", "runs", "mean", "std")
    if not metrics["runs"]:
        raise UserError(f"{folder / 'metrics.json'}: no runs")
    path = folder / "history.jsonl"
    try:
        history = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (OSError, ValueError):
        raise UserError(f"{path}: not valid JSON lines; half-written?") from None
    return Result(folder, config, metrics, history)


def read_sweep(folder: Path) -> Result | None:
    """Return a sweep as a Result without history, whose metrics are sweep.json; None for a dry run."""
    config = read_json(folder / "config.json", "script", "command", "arguments")
    if config["arguments"].get("dry_run"):
        return None
    content = read_json(folder / SWEEP, "command", "device", "seconds", "trainings", "cells")
    return Result(folder, config, content, [])


def run_folders(results_dir: Path | str) -> list[Path]:
    """Return every results/<paradigm>/<run> that holds a run, finished or not; no sweep, dry run or demo."""
    return [folder for folder in _folders(results_dir) if not is_sweep(folder)]


def sweep_folders(results_dir: Path | str) -> list[Path]:
    """Return every results/<paradigm>/<run> that holds a sweep, finished or not; no dry run or demo."""
    return [folder for folder in _folders(results_dir) if is_sweep(folder)]


def _folders(results_dir):
    files = ("config.json", "metrics.json", SWEEP)
    found = {path.parent for name in files for path in Path(results_dir).glob(f"*/*/{name}")}
    return sorted(folder for folder in found if not folder.name.startswith((".", "dry-run", "demo")))


def is_sweep(folder: Path) -> bool:
    """Return whether a folder holds a sweep (utils/runs/sweep.py), finished or not."""
    return (folder / SWEEP).exists() or any(folder.glob("records-*.jsonl"))


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
