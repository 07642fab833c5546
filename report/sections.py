"""Sections of every script's page: the table of results with its legend, prior work, runs one by one."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from report.results import Collection, Experiment, Result, is_clean
from report.rows import Row, mark_legend, method_of, reference_link, reference_value, rivals
from report.tables import collapsed, devices_text, table, value_text
from report.times import timed

EMPTY = "No results yet."

# The figures that a run's folder may hold, in the order of the page; others follow by name.
PICTURES = {
    "curves.png": "learning curves",
    "confusion.png": "confusion matrix",
    "mistakes.png": "most confident mistakes",
    "filters.png": "filters of the first layer",
    "views.png": "pairs of views",
    "neighbours.png": "nearest neighbours of test digits",
    "map.png": "map of raw pixels and of features",
    "bags.png": "test bags",
    "roc.png": "ROC curves",
    "combinations.png": "combinations side by side",
    "selection.png": "greedy selection step by step",
    "weights.png": "weights step by step",
    "size.png": "error against the number of members",
    "members.png": "members",
    "agreement.png": "errors that members have in common",
}

SPREADS = {
    "std": "±: standard deviation over n trainings or, with few labels, over n draws of the labels",
    "interval": "(a to b): 95 % interval of a single run (Wilson)",
    "range": "a to b: range of libraries that overlap, drawn from one pool",
}
# By the last word of a metric.
METRIC_NAMES = {"auc": "AUC", "1": "P@1", "r": "MAP@R"}
BOUND = "≤: an upper bound, because the machine did other work, too"
PARTIAL = "evaluation: its time was not taken"


Sweeps = list[tuple[Experiment, Result]]


class Page(NamedTuple):
    """What the sections of one script's page are made of.

    rows: of experiments.json, in its order. others: of all other runs. details: what the part of a run says
    beyond its key metric.
    """

    found: Collection
    script: str
    rows: list[Row]
    others: list[Row]
    details: Callable[[Row], str]

    def of_section(self, name: str) -> list[Row]:
        return [row for row in self.rows if row.experiment.section == name]

    @property
    def sweeps(self) -> Sweeps:
        """The sweeps of the script, in the order of experiments.json."""
        found = self.found.sweeps
        own = (experiment for experiment in self.found.experiments if experiment.script == self.script)
        return [(experiment, found[experiment.folder]) for experiment in own if experiment.folder in found]


def results_section(page: Page) -> str:
    """Return the table of a script's main results with its legend and devices."""
    rows = page.of_section("results")
    if not rows:
        return EMPTY
    head = ["method", "data", metric_title(rows), "n", "prior work", "time"]
    lines = []
    for row in rows:
        others = "<br>".join(f"{reference_value(r)} {reference_link(r)}" for r in rivals(row))
        lines.append([row.label, row.data, row.text, row.number.samples, others, row.time.text])
    return f"{table(head, lines)}\n\n{legend(page.found, rows)}"


def metric_title(rows: list[Row]) -> str:
    """ "test accuracy", or "test AUC or accuracy" for rows with one or the other."""
    names = [METRIC_NAMES.get(last := row.number.metric.rpartition("_")[2], last) for row in rows]
    return f"test {' or '.join(dict.fromkeys(names))}"


def legend(found: Collection, rows: list[Row]) -> str:
    """Return what the reader must know about a table: spreads, marks, times, devices."""
    kinds = {row.number.kind for row in rows}
    parts = [text for kind, text in SPREADS.items() if kind in kinds]
    parts += mark_legend([reference for row in rows for reference in rivals(row)])
    return f"{sentence(parts)} {time_legend(found, rows)}"


def time_legend(found: Collection, rows: list[Row]) -> str:
    """Return what times mean, and the devices."""
    parts = [f"time {BOUND}"] if any(row.time.bound for row in rows) else []
    parts += [PARTIAL] if any(row.time.partial for row in rows) else []
    alone = [entry for row in rows if (entry := timed_alone(found, row.result))]
    if alone:
        machines = devices_text([f"{entry['cpu']}, {entry['threads']} threads" for entry in alone])
        parts.append(f"times without ≤: epochs times an epoch measured alone on {machines}")
    devices = devices_text([row.result.metrics["device"] for row in rows])
    return f"{sentence([*parts, f'trained on {devices}'])}"


def timed_alone(found: Collection, result: Result) -> dict | None:
    """Return the entry of times.json for a run or its first member."""
    lines = result.history if "members" in result.arguments else []
    return timed(found, result, lines[0].get("model", "") if lines else "")


def sentence(parts: list[str]) -> str:
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." * bool(text)


# --- Prior work ---


def references_section(page: Page) -> str:
    """Return every reference of a script's rows with its protocol, also those selected on the test set."""
    experiments = [e for e in page.found.experiments if e.script == page.script]
    keys = [
        key for e in experiments for key in (*(k for spec in e.rows for k in spec.references), *e.references)
    ]
    given = [page.found.references[key] for key in dict.fromkeys(keys) if key in page.found.references]
    if not given:
        return EMPTY
    groups: dict[tuple, list[dict]] = {}
    for reference in given:
        groups.setdefault((reference_link(reference), reference.get("note")), []).append(reference)
    notes = "\n".join(map(reference_note, groups.values()))
    signs = mark_legend(given)
    return f"{notes}\n\n{sentence(signs)}" if signs else notes


def reference_note(references: list[dict]) -> str:
    """Return "- source: task value (n = 20); note" for references of one source and note.

    "second-hand" tells that nobody here read the source.
    """
    first, values = references[0], []
    for reference in references:
        count = f" (n = {reference['runs']})" if "runs" in reference else ""
        values.append(f"{reference['task']} {reference_value(reference)}{count}")
    notes = [first[key] for key in ("citation", "note") if key in first]
    notes += [] if first["verified"] else ["second-hand"]
    return "; ".join([f"- {reference_link(first)}: {', '.join(values)}", *notes]) + "."


# --- Runs one by one ---


def runs_section(page: Page) -> str:
    """Return a collapsed part for every run: command, values, origin, figures; then one for every sweep."""
    first: dict[str, Row] = {}
    for row in (*page.rows, *page.others):
        if not row.spec.cell:
            first.setdefault(row.result.key, row)
    parts = [run_part(row, page.found.attempt(page.details, row)) for row in first.values()]
    parts += [sweep_runs(*one) for one in page.sweeps]
    return "\n\n".join(parts) or EMPTY


def run_part(row: Row, details: str | None = None) -> str:
    """Return everything about one run. details: more of it, in Markdown."""
    folder = row.result.folder
    metric, values = row.number.metric.replace("_", " "), row.number.values
    lines = [
        f"```\n{command_of(row)}\n```",
        f"{metric}: {', '.join(value_text(row.number.metric, [value]) for value in values)}. "
        f"Everything else: [{folder.name}/metrics.json]({folder.name}/metrics.json).",
        made_with(row.result),
        *([details] if details else []),
        *run_pictures(folder),
    ]
    return collapsed(f"<b>{row.experiment.name}</b>: {row.label}, {row.text}", "\n\n".join(lines))


def sweep_runs(experiment: Experiment, sweep: Result) -> str:
    """Return where a sweep comes from; its numbers and figures are above."""
    name, (done, wanted) = experiment.name, sweep.metrics["trainings"]
    lines = [
        f"```\n{sweep.config['command']} --name {name}\n```",
        f"Everything: [{name}/sweep.json]({name}/sweep.json).",
        made_with(sweep),
    ]
    trainings = f"{done} of {wanted} trainings" if done < wanted else f"{done} trainings"
    return collapsed(f"<b>{name}</b>: {trainings}", "\n\n".join(lines))


def made_with(result: Result) -> str:
    """ "AMD EPYC, 1 thread; commit 0123456789ab; python 3.12.1, torch 2.11." """
    versions = ", ".join(f"{name} {version}" for name, version in result.config.get("versions", {}).items())
    return f"{devices_text([result.metrics['device']])}; {origin(result.config)}; {versions}."


def origin(content: dict) -> str:
    """ "commit 0123456789ab", with a warning where the code had uncommitted changes."""
    commit = content.get("commit")
    return f"commit {commit}" + ("" if is_clean(commit) else ", not a clean one") if commit else "no commit"


def run_pictures(folder: Path) -> list[str]:
    found = sorted(path.name for path in folder.glob("*.png"))
    names = [name for name in PICTURES if name in found] + [name for name in found if name not in PICTURES]
    return [
        f"![{folder.name}: {PICTURES.get(name, Path(name).stem)}]({folder.name}/{name})" for name in names
    ]


def command_of(row: Row) -> str:
    """Return the command that lands in this run's folder; without --name a run is called like its method."""
    name = row.experiment.name
    return row.result.config["command"] + (f" --name {name}" if name != method_of(row.result) else "")
