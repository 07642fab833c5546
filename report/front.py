"""What README.md shows of all scripts together: the best of every task, and how long everything takes."""

from report.results import Collection, Experiment
from report.rows import Row, cells, reference_link, reference_value, rivals
from report.sections import BOUND, EMPTY, Page, time_legend
from report.tables import table
from report.times import Time, run_time, total


def front_rows(pages: list[Page]) -> list[Row]:
    """Return the rows of the front page: of each task the first that has results."""
    found: dict[str, Row] = {}
    for row in (row for page in pages for row in page.rows if row.spec.front):
        found.setdefault(row.spec.front["task"], row)
    return list(found.values())


def front_section(found: Collection, rows: list[Row]) -> str:
    """Return the table of README.md: the best of every task beside the best comparable prior work."""
    if not rows:
        return EMPTY
    lines = []
    for row in rows:
        others = [f"{reference_value(r)} {reference_link(r)}" for r in rivals(row)[:1]]
        result = f"{row.text}, n = {row.number.samples}"
        names = [row.spec.front[key] for key in ("task", "method")]
        lines.append([*names, result, *(others or ["none with a source"]), row.data, row.time.text])
    head = ["task", "method", "test accuracy or AUC", "best prior work", "data", "time"]
    return f"{table(head, lines)}\n\n{time_legend(found, rows)}"


def reproduce_section(pages: list[Page]) -> str:
    """Return how long the experiments of each script take."""
    times = {page.script: script_time(page.found, page.script) for page in pages}
    parts = [f"`{script}.py` {time.text}" for script, time in times.items() if time.seconds]
    bound = f" ({BOUND})" if any(time.bound for time in times.values()) else ""
    return f"CPU time of all experiments: {', '.join(parts)}{bound}." if parts else EMPTY


def script_time(found: Collection, script: str) -> Time:
    times = [experiment_time(found, e) for e in found.experiments if e.script == script]
    return total([time for time in times if time])


def experiment_time(found: Collection, experiment: Experiment) -> Time | None:
    """Return what the committed run of an experiment took, None without one."""
    if sweep := found.sweeps.get(experiment.folder):
        return total([run_time(found, cell) for cell in cells(sweep)])
    result = found.results.get(experiment.folder)
    return run_time(found, result) if result else None
