"""A line for every committed result in results.csv, and paired tests."""

import csv
import io
from statistics import stdev

from evaluation.differences import difference
from report import text
from report.results import Results
from report.rows import Row, values_of
from utils.errors import UserError
from utils.runs.folder import FRACTION

COLUMNS = ["page", "name", "metric", "mean", "spread", "n", "labelled", "unlabelled", "seconds"]
COLUMNS += ["device", "command", "commit"]


def results_csv(rows: list[Row]) -> bytes:
    """Return results.csv: a line for every run or cell and metric that the pages show."""
    lines, file = {}, io.StringIO()
    for row in rows:
        page, name = row.experiment.folder.split("/")
        number, name = row.number, f"{name}/{row.spec.cell}".rstrip("/")
        spread = f"{stdev(number.values):.6f}" if number.kind == "std" else ""
        line = [page, name, number.metric, f"{number.mean:.6f}", spread, len(number.values), row.labelled]
        line += [row.unlabelled, f"{row.seconds:.1f}", row.result.device, row.experiment.command]
        lines[page, name, number.metric] = [*line, row.result.config.get("commit", "")]
    csv.writer(file, lineterminator="\n").writerows([COLUMNS, *lines.values()])
    return file.getvalue().encode()


def compare(results: Results, names: list[str], metrics: list[str]) -> str:
    """Return the difference of two runs in words, with its 95 % interval and the test's p.

    A paired t-test where both have the same seeds and draws, else Welch's test.
    metrics: of the two, or one of both. UserError where there is nothing to test.
    """
    metrics = (metrics * 2)[:2]
    a, b = (values_by_seed(results, *pair) for pair in zip(names, metrics, strict=True))
    if min(len(a), len(b)) < 2:
        raise UserError(f"{' and '.join(names)}: a single training has no spread to test with")
    if a == b:
        raise UserError(f"{' and '.join(names)}: the same values")
    paired = a.keys() == b.keys()
    kind = f"paired t-test, n = {len(a)}" if paired else f"Welch's t-test, n = {len(a)} and {len(b)}"
    found = difference([*a.values()], [b[key] for key in (a if paired else b)], paired)
    is_share = bool(text.unit(metrics[0])[1] and FRACTION.fullmatch(metrics[0]))
    mean, low, high = (f"{value * (100 if is_share else 1):+.2g}" for value in found[:3])
    return f"{mean}{' points' * is_share} ({low} to {high}; {kind}; p = {found.p:.2g})"


def values_by_seed(results: Results, name: str, metric: str) -> dict[tuple[int, int], float]:
    """Return {(seed, draw): value}; a UserError names what is missing or not independent."""
    if (result := results.runs.get(name)) is None:
        raise UserError(f"{results.folder / name}: no such result; results/results.csv lists them")
    if not result.records:
        cells = ", ".join(key for key in results.runs if key.startswith(f"{name}/"))
        raise UserError(f"{name} is a sweep; choose a cell: {cells}")
    if result.arguments.get("sources"):
        raise UserError(f"{name}: libraries of one pool overlap; its page has McNemar's test of each")
    records = [(record["seed"], values_of(record)) for record in result.records]
    if lacking := [known for _, known in records if metric not in known]:
        raise UserError(f"{name} has no {metric}; choose from {', '.join(lacking[0])}")
    return {(seed, i): value for seed, known in records for i, value in enumerate(known[metric])}
