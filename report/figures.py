"""Figures of several runs: the data that is drawn, from rows; the plots are in utils/plots."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from report.results import Reference
from report.rows import Row
from report.sections import Page, distinct


class Picture(NamedTuple):
    """A figure: plot(data, path, description). data: plain lists, dicts, numbers and strings."""

    plot: Callable
    data: list | dict

    @property
    def digest(self) -> str:
        """Fingerprint of what the figure shows, kept inside the PNG.

        --check compares it in place of the pixels, which depend on the version of matplotlib.
        """
        content = f"{self.plot.__name__} {json.dumps(self.data, sort_keys=True)}"
        return f"inputs sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def point(row: Row) -> dict:
    """Return what a figure shows of a row."""
    values = {key: getattr(row.number, key) for key in ("values", "mean", "low", "high", "kind")}
    return {"label": row.label, "method": row.method, **values}


def overview(rows: list[Row], ceiling: Reference | None) -> dict:
    """Return the figure of README.md: every row beside the best comparable prior work."""
    data = []
    for row in rows:
        front, rivals = row.spec.front, row.rivals[:1]
        known = [{key: getattr(r, key) for key in ("value", "low", "std", "text")} for r in rivals]
        texts = {"task": front["task"], "label": front["method"].replace("`", ""), "text": row.number.short}
        references = [{key: value for key, value in entry.items() if value is not None} for entry in known]
        data.append({**point(row), **texts, "references": references})
    limit = {"value": ceiling.value, "task": ceiling.task} if ceiling else None
    return {"rows": data, "ceiling": limit}


def error_against_time(page: Page) -> list[dict]:
    """Return test error against training time with all labels: of each model the row with most trainings."""
    most: dict[str, Row] = {}
    for row in page.section("results"):
        if not row.result.arguments.get("labels_per_class"):
            most[row.method] = max(most.get(row.method, row), row, key=lambda row: len(row.number.values))
    return [{**point(row), "seconds": row.seconds} for row in most.values()]


def feature_maps(page: Page) -> list[dict]:
    """Return maps of raw pixels and of the features of every method, of its first run."""
    first: dict[str, Path] = {}
    for row in page.section("results"):
        first.setdefault(row.method, row.result.path.with_name("map.csv"))
    maps = []
    for method, path in first.items():
        if path.exists():
            head, *lines = path.read_text().splitlines()
            columns = zip(*(map(float, line.split(",")) for line in lines), strict=True)
            table = dict(zip(head.split(","), columns, strict=True))
            for title, x, y in (("raw pixels", "pixels_x", "pixels_y"), (f"features of {method}", "x", "y")):
                points = [list(point) for point in zip(table[x], table[y], strict=True)]
                labels = [int(digit) for digit in table["digit"]]
                maps.append({"title": title, "points": points, "labels": labels})
    return [item for i, item in enumerate(maps) if i == 0 or item["title"] != "raw pixels"]


def study_cells(page: Page) -> list[dict]:
    """Return the cells of the few-label study."""
    return [
        {
            "method": row.result.method,
            "labels": row.result.arguments["labels"],
            "mean": row.result.mean,
            "runs": [{"test_accuracy": value} for value in row.number.values],
        }
        for row in distinct(page.section("study"))
    ]


def hundred_labels(page: Page) -> list[dict]:
    return [cell for cell in study_cells(page) if cell["labels"] == 100]
