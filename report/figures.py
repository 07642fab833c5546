"""Figures of several runs: what is drawn, from rows; the drawing itself is in utils/plots."""

import hashlib
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from report.results import Result, read_sweep
from report.rows import Row, reference_value, rivals
from utils.errors import UserError
from utils.plots import contrastive as representation_plots
from utils.plots import few_labels as few_label_plots
from utils.plots import report as plots
from utils.plots import style

SHOWN_LABELS = 100  # in the figure of single draws
LABELS_PER_CLASS = (1, 10, 100)  # of the few-label scores that pre-training runs have
# Name in the metrics, text, colour and line of what is scored with few labels.
LABEL_CURVES = (
    ("linear", "linear probe", 0, "-"),
    ("knn", "k-NN", 1, "-"),
    ("finetuned", "fine-tuned", 2, "-"),
    ("spread", "labels spread", 3, "-"),
    ("self_trained", "self-trained", 4, "-"),
    ("random_finetuned", "trained from scratch", 2, ":"),
    ("pixels_linear", "linear, raw pixels", 0, ":"),
    ("pixels_knn", "k-NN, raw pixels", 1, ":"),
)


class Picture(NamedTuple):
    """A figure to draw: draw(data, path, description). data: plain lists, dicts, numbers and strings."""

    draw: Callable
    data: object

    @property
    def digest(self) -> str:
        """Fingerprint of what goes into the figure: its data, and the source of all that draws it.

        It is kept inside the PNG, and --check compares it in place of the pixels: another version of
        matplotlib renders the same figure to other bytes, and a machine that only checks must not fail
        for that.
        """
        sources = [inspect.getsource(sys.modules[self.draw.__module__]), inspect.getsource(style)]
        content = json.dumps(self.data, sort_keys=True) + "".join(sources)
        return f"inputs sha256:{hashlib.sha256(content.encode()).hexdigest()}"


Pictures = dict[str, Picture]


def overview_picture(rows: list[Row], ceiling: dict | None) -> Picture:
    """Return the figure of README.md: every row beside the best comparable prior work."""
    data = [{"task": row.spec.front["task"], **drawn(row)} for row in rows]
    limit = {key: ceiling[key] for key in ("value", "task")} if ceiling else None
    return Picture(plots.plot_overview, {"rows": data, "ceiling": limit})


def drawn(row: Row) -> dict:
    """Return what the figures need of a row."""
    found, others = row.number, rivals(row)[:1]
    kept = {key: getattr(found, key) for key in ("values", "mean", "low", "high", "kind")}
    return {
        "label": row.spec.front["method"].replace("`", "") if row.spec.front else row.label,
        "method": row.method,
        **kept,
        "text": row.text.partition(" (")[0],  # the interval is drawn
        "references": [
            {**{k: r[k] for k in ("value", "low", "std") if k in r}, "text": reference_value(r)}
            for r in others
        ],
    }


def classifier_pictures(rows: list[Row]) -> Pictures:
    """Return test error against training time with all labels: of each model the row with most trainings."""
    most: dict[str, Row] = {}
    for row in (row for row in rows if not row.result.arguments.get("labels_per_class")):
        most[row.method] = max(most.get(row.method, row), row, key=lambda row: len(row.number.values))
    data = [
        {**drawn(row), "label": row.label, "seconds": row.time.seconds, "bound": row.time.bound}
        for row in most.values()
    ]
    return {"comparison.png": Picture(plots.plot_error_against_time, data)} if data else {}


def representation_pictures(rows: list[Row]) -> Pictures:
    """Return accuracy against labels of the first run, and maps of every method's features beside pixels."""
    first: dict[str, Result] = {}
    for row in rows:
        first.setdefault(row.method, row.result)
    pictures = {}
    if rows and (curves := label_curves(rows[0].result.records)):
        pictures["labels.png"] = Picture(representation_plots.plot_error_against_labels, curves)
    read = {method: read_map(result.folder) for method, result in first.items()}
    tables = {method: table for method, table in read.items() if table}
    if tables:
        maps = [feature_map("raw pixels", next(iter(tables.values())), "pixels_x", "pixels_y")]
        maps += [feature_map(f"features of {method}", table, "x", "y") for method, table in tables.items()]
        pictures["maps.png"] = Picture(representation_plots.plot_maps, maps)
    return pictures


def few_label_pictures(rows: list[Row]) -> Pictures:
    """Return error against labels of all sweeps that have a row, and the single draws of 100 labels."""
    folders = dict.fromkeys(row.result.folder for row in rows)
    found: dict[tuple, dict] = {}
    for sweep in map(read_sweep, folders):
        for cell in sweep.metrics["cells"] if sweep else []:
            drawn = {key: cell[key] for key in ("method", "labels", "mean")}
            drawn["runs"] = [{"test_accuracy": run["test_accuracy"]} for run in cell["runs"]]
            key = cell["method"], cell["labels"]
            found[key] = max(found.get(key, drawn), drawn, key=lambda cell: len(cell["runs"]))
    cells = list(found.values())  # where sweeps overlap, the cell with the most draws
    curves = [cell for cell in cells if cell["labels"]]
    pictures = {"labels.png": Picture(few_label_plots.plot_error_against_labels, curves)} if curves else {}
    if shown := [cell for cell in cells if cell["labels"] == SHOWN_LABELS]:
        pictures["draws.png"] = Picture(few_label_plots.plot_draws, shown)
    return pictures


def label_curves(records: list[dict]) -> list[dict]:
    """Return the curves of accuracy_against_labels: the draws of all trainings together."""
    curves = []
    for what, label, color, line in LABEL_CURVES:
        points = []
        for n in LABELS_PER_CLASS:
            draws = [value for record in records for value in record.get(f"test_{what}_{n}_accuracies", [])]
            points += [[n, draws]] if draws else []
        everything = [r[f"test_{what}_accuracy"] for r in records if f"test_{what}_accuracy" in r]
        points += [[round(records[0]["train_images"] / 10), everything]] if everything else []
        if points:
            curves.append({"label": label, "color": color, "style": line, "points": points})
    return curves


def read_map(folder: Path) -> dict[str, list[float]] | None:
    """Return the columns of a run's map.csv, or None when it has none."""
    path = folder / "map.csv"
    if not path.exists():
        return None
    try:
        head, *lines = path.read_text().splitlines()
        columns = zip(*(map(float, line.split(",")) for line in lines), strict=True)
        table = dict(zip(head.split(","), map(list, columns), strict=True))
        return {name: table[name] for name in ("digit", "x", "y", "pixels_x", "pixels_y")}
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: not a map ({error}); half-written?") from error


def feature_map(title: str, table: dict, x: str, y: str) -> dict:
    points = [list(point) for point in zip(table[x], table[y], strict=True)]
    return {"title": title, "points": points, "labels": [int(digit) for digit in table["digit"]]}
