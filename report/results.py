"""The committed results, read and checked: runs, sweeps, experiments, references, times, benchmarks.

Every reader raises UserError with one line that names the file when it is missing, damaged or foreign.
`read_collection` reads everything, and keeps those lines instead.
"""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from utils.errors import UserError
from utils.runs.files import read_object
from utils.runs.folder import FORMAT
from utils.runs.sweep import RESULT as SWEEP

NUMBER, SPREAD = int | float, int | float | None
# The forms of the files, as deep as every reader relies on them: see `check_form`.
FORMS: dict[str, dict] = {
    "config": {"script": str, "command": str, "arguments": dict},
    "metrics": {
        "dataset": str,
        "device": str,
        "seconds": NUMBER,
        "runs": [dict],
        "mean": {"*": NUMBER},
        "std": {"*": SPREAD},
    },
    "sweep": {
        "command": str,
        "device": str,
        "seconds": NUMBER,
        "trainings": [int],
        "cells": [{"runs": [dict], "mean": {"*": NUMBER}, "std": {"*": SPREAD}}],
    },
    "benchmark": {"benchmark": str, "what": str, "device": str, "rows": [dict], "ratios": [dict]},
    "experiments": {"experiments": [{"name": str, "command": str}]},
    "references": {"references": {"*": dict}},
    "times": {"times": {"*": {"seconds_per_epoch": NUMBER, "threads": int, "cpu": str}}},
}


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
        """Return function(*args), or None after an error, whose line is kept in `faults`.

        A UserError names its file. Other errors come from contents of another form deep in a file.
        """
        try:
            return function(*args)
        except UserError as fault:
            self.faults.append(str(fault))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            name = getattr(function, "__name__", "")
            self.faults.append(f"{self.folder}: a damaged result ({name}: {type(error).__name__}: {error})")
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
    found.notes += found.attempt(notes_on, found) or []
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
    return isinstance(commit, str) and not commit.endswith("-dirty")


def read_json(path: Path, form: dict) -> dict:
    """Return the JSON object in `path`, which must have this repository's format and the form, see FORMS."""
    try:
        content = read_object(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if (found := content.get("format")) != FORMAT:
        raise UserError(f"{path}: format {json.dumps(found)}, but this code reads format {FORMAT}")
    check_form(path, content, form)
    return content


def check_form(path: Path, content: Any, form: Any, name: str = "") -> None:
    """Raise UserError unless the content has the form: a type, [form of each] or {key: form}, "*" for all."""
    kind: Any = type(form) if isinstance(form, dict | list) else form
    if not isinstance(content, kind):
        words = getattr(kind, "__name__", kind)
        raise UserError(f"{path}: {name} must be of type {words}, not {type(content).__name__}")
    if isinstance(form, list):
        for value in content:
            check_form(path, value, form[0], f"an entry of {name}")
    elif isinstance(form, dict):
        if lacking := [key for key in form if key not in ("*", *content)]:
            raise UserError(f"{path}: {f'{name} ' if name else ''}lacks {', '.join(lacking)}")
        for key, value in content.items():
            if inner := form.get(key, form.get("*")):
                check_form(path, value, inner, key)


def read_experiments(results_dir: Path | str) -> list[Experiment]:
    path = Path(results_dir) / "experiments.json"
    entries = read_json(path, FORMS["experiments"])["experiments"]
    for entry in entries:
        check_command(path, entry)
    try:
        return [
            Experiment(**{**entry, "rows": tuple(RowSpec(**row) for row in entry.get("rows", [{}]))})
            for entry in entries
        ]
    except TypeError as error:
        raise UserError(f"{path}: {error}") from None


def check_command(path: Path, entry: dict) -> None:
    """Raise UserError unless an experiment has a run's name and runs a script of this repository."""
    if not re.fullmatch(r"\w[\w.-]*", entry["name"]):
        raise UserError(f"{path}: {entry['name']!r} is not the name of a run")
    try:
        python, script, *_ = shlex.split(entry["command"])
    except ValueError:
        python, script = "", ""
    if python != "python" or not re.fullmatch(r"(train_\w+|ensemble|robustness)\.py", script):
        raise UserError(f"{path}: {entry['name']} must run a script of this repository: {entry['command']!r}")


def read_references(results_dir: Path | str) -> dict[str, dict]:
    """Return {key: {"value", "source", ...}}; the file describes its fields."""
    return read_json(Path(results_dir) / "references.json", FORMS["references"])["references"]


def read_times(results_dir: Path | str) -> dict[str, dict]:
    """Return {run: {"seconds_per_epoch", ...}}, empty without times.json; the file describes its fields."""
    path = Path(results_dir) / "times.json"
    return read_json(path, FORMS["times"])["times"] if path.exists() else {}


def read_benchmark(path: Path) -> dict:
    return read_json(path, FORMS["benchmark"])


def read_result(folder: Path) -> Result | None:
    """Return the Result in `folder`, or None for a dry run."""
    config = read_json(folder / "config.json", FORMS["config"])
    if config["arguments"].get("dry_run"):
        return None
    metrics = read_json(folder / "metrics.json", FORMS["metrics"])
    if not metrics["runs"]:
        raise UserError(f"{folder / 'metrics.json'}: no runs")
    path = folder / "history.jsonl"
    try:
        history = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (OSError, RecursionError, ValueError):
        raise UserError(f"{path}: not valid JSON lines; half-written?") from None
    check_form(path, history, [dict], "the history")
    return Result(folder, config, metrics, history)


def read_sweep(folder: Path) -> Result | None:
    """Return a sweep as a Result without history, whose metrics are sweep.json; None for a dry run."""
    config = read_json(folder / "config.json", FORMS["config"])
    if config["arguments"].get("dry_run"):
        return None
    content = read_json(folder / SWEEP, FORMS["sweep"])
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
