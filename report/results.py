"""Read what is committed in results/. A missing or damaged file becomes one line; the rest is read."""

import os
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from utils.errors import DAMAGE, UserError
from utils.runs.files import read_object
from utils.runs.folder import FORMAT, check_records
from utils.runs.repeat import RESULT as SWEEP

NAME, SCRIPT = re.compile(r"\w[\w.+-]*"), re.compile(r"(train_\w+|ensemble|robustness|insights)\.py")
ELSEWHERE = {"--results-dir", "--data-dir", "--name"}  # flags that write elsewhere


class RowSpec(NamedTuple):
    """A row that a table shows of a run; results/experiments.json describes the fields."""

    label: str = ""
    group: str = ""
    metric: str = ""
    section: str = "results"
    references: tuple[str, ...] = ()
    cell: str = ""
    front: dict = {}


class Experiment(NamedTuple):
    """A run that reproduce.py makes and the report shows; results/experiments.json describes the fields."""

    name: str
    command: str
    rows: tuple[RowSpec, ...] = (RowSpec(),)
    references: tuple[str, ...] = ()
    retired: str = ""

    @property
    def script(self) -> str:
        return self.command.split()[1].removesuffix(".py")

    @property
    def folder(self) -> str:
        """The folder of its run below results/: "cnn/wide"."""
        return f"{self.script.removeprefix('train_')}/{self.name}"


class Result(NamedTuple):
    """A finished run, a sweep, or one of its cells.

    path: of metrics.json or sweep.json. method: the model where a script has one method; "" for neither.
    records, mean: of its trainings, empty for a sweep.
    """

    path: Path
    config: dict
    arguments: dict
    method: str
    device: str
    seconds: float
    records: list[dict]
    mean: dict[str, float]


@dataclass
class Results:
    """All that is committed. runs: by folder below results/, "cnn/wide", a cell as "mil/sweep/attention/50".

    faults: what is missing or damaged, one line each. notes: what else a reader should know.
    """

    folder: Path
    experiments: list[Experiment] = field(default_factory=list)
    tables: dict[str, dict] = field(default_factory=dict)
    references: dict[str, dict] = field(default_factory=dict)
    runs: dict[str, Result] = field(default_factory=dict)
    benchmarks: dict[str, dict] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def attempt(self, source: Path, function: Callable, *args) -> Any:
        """Return function(*args), or None after an error, which becomes a line of `faults`.

        source: the file or folder that the line names, unless a UserError names its own.
        """
        try:
            return function(*args)
        except UserError as fault:
            self.faults.append(str(fault))
        except OSError as error:
            self.faults.append(f"{source}: {error.strerror or error}")
        except DAMAGE as error:
            self.faults.append(f"{source}: damaged ({type(error).__name__}: {error})")
        return None

    def prior_work(self, keys: Iterable[str]) -> list[dict]:
        """Return the references with these keys, each once."""
        return [self.references[key] for key in dict.fromkeys(keys) if key in self.references]

    def run_of(self, file: str) -> Result | None:
        """Return the run whose folder holds a file, e.g. results/simclr/simclr/seed-0/encoder.pt."""
        return next((run for key, run in self.runs.items() if f"/{key}/" in f"/{file}"), None)


def read_results(folder: Path) -> Results:
    """Read all results but dry runs, demos and replaced runs; `faults` names what can't be read."""
    results = Results(folder)
    experiments, references = folder / "experiments.json", folder / "references.json"
    results.attempt(experiments, read_experiments, experiments, results)
    results.references = results.attempt(references, lambda: read_json(references)["references"]) or {}
    for run in sorted({path.parent for path in folder.glob("*/*/*.json")}):
        path = run / (SWEEP if (run / SWEEP).exists() else "metrics.json")
        hidden = run.name.startswith((".", "dry-run", "demo")) or ".old-" in run.name
        results.runs |= ({} if hidden else results.attempt(path, read_runs, path)) or {}
    for path in sorted((folder / "benchmarks").glob("*.json")):
        if content := results.attempt(path, read_json, path):
            results.benchmarks[path.stem] = content
    missing = [each for each in results.experiments if not os.path.isdir(folder / each.folder)]
    results.notes += [f"{folder / each.folder}: not run yet; {each.command}" for each in missing]
    return results


def read_json(path: Path) -> dict:
    """Return the JSON object in a file of this repository's format; UserError when there is none."""
    content = read_object(path)
    if content.get("format") != FORMAT:
        raise UserError(f"{path}: format {content.get('format')}, but this code reads format {FORMAT}")
    return content


def read_experiments(path: Path, results: Results) -> None:
    """Add experiments and tables to results; UserError for a command that runs no script of ours."""
    content = read_json(path)
    for entry in content["experiments"]:
        rows = tuple(RowSpec(**row) for row in entry.get("rows", [{}]))
        experiment = Experiment(**{**entry, "rows": rows})
        python, script, *words = shlex.split(experiment.command)
        runs_ours = python == "python" and SCRIPT.fullmatch(script) and NAME.fullmatch(experiment.name)
        if not runs_ours or not experiment.command.isprintable() or "`" in experiment.command:
            raise UserError(f"{path}: {experiment.name!r} must be a name and run a script of this repository")
        if flags := ELSEWHERE & {word.partition("=")[0] for word in words}:
            reason = "which is for the command line alone"
            raise UserError(f"{path}: {experiment.name} has {flags.pop()}, {reason}")
        results.experiments.append(experiment)
    results.tables = content["tables"]


def read_runs(path: Path) -> dict[str, Result]:
    """Return {name: run or sweep and its cells} of a metrics.json or sweep.json; nothing for a dry run."""
    config = read_json(path.parent / "config.json")
    if config["arguments"].get("dry_run"):
        return {}
    name, content, arguments = "/".join(path.parts[-3:-1]), read_json(path), config["arguments"]
    method = arguments.get("model" if path.parts[-3] == "cnn" else "method") or ""
    head = (path, config, arguments, method, content["device"], content["seconds"])
    if path.name != SWEEP:
        return {name: Result(*head, *records_and_mean(content, path))}
    sweep = Result(*head, [], {})
    cells = dict(read_cell(sweep, cell) for cell in content["cells"])
    return {name: sweep} | {f"{name}/{cell}": result for cell, result in cells.items()}


def records_and_mean(content: dict, path: Path) -> tuple[list[dict], dict]:
    """Return the checked records of a run or cell, and their mean."""
    records, mean = check_records(content["runs"], path), content["mean"]
    check_records([{"seconds": 0, **mean, "seed": 0}], path)
    return records, mean


def read_cell(sweep: Result, content: dict) -> tuple[str, Result]:
    """Return the name of a cell of a sweep, "attention/50", and the cell with arguments of its own.

    Where the sweep has several encoders, "encoder" is the file of the one that the cell's method uses.
    """
    head = {key: value for key, value in content.items() if isinstance(value, int | str)}
    method = str(head.get("method", ""))
    encoders = dict(text.split("=", 1) for text in sweep.arguments.get("encoders") or ())
    encoder = encoders.get(method.partition("-")[0]) or sweep.arguments.get("encoder")
    arguments = sweep.arguments | head | {"encoder": encoder}
    records, mean = records_and_mean(content, sweep.path)
    cell = sweep._replace(arguments=arguments, method=method, records=records, mean=mean)
    return "/".join(map(str, head.values())), cell
