"""The data of figures that show several runs; utils/plots plots them."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from report.rows import Row, value_text
from report.sections import Page, distinct


class Figure(NamedTuple):
    """A figure: plot(data, path, description) writes it. data: plain lists, dicts, numbers and strings."""

    plot: Callable
    data: list | dict

    @property
    def digest(self) -> str:
        """Fingerprint of what the figure shows, kept in the PNG: pixels depend on matplotlib's version."""
        content = f"{self.plot.__name__} {json.dumps(self.data, sort_keys=True)}"
        return f"inputs sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def point(row: Row) -> dict:
    """Return what a figure shows of a row."""
    values = {key: getattr(row.number, key) for key in ("values", "mean", "low", "high", "kind")}
    return {"label": row.label, "method": row.method, **values}


def overview(rows: list[Row], ceiling: dict | None) -> dict:
    """Return the figure of README.md: every row beside the best comparable prior work."""
    data = []
    for row in rows:
        front, references = row.spec.front, []
        for rival in row.rivals[:1]:
            shares = {key: rival[key] for key in ("value", "low", "std") if key in rival}
            references.append({**shares, "text": value_text(rival)})
        texts = {"task": front["task"], "label": front["method"].replace("`", ""), "text": row.number.short}
        data.append({**point(row), **texts, "references": references})
    return {"rows": data, "ceiling": ceiling and {key: ceiling[key] for key in ("value", "task")}}


def error_against_time(page: Page) -> list[dict]:
    """Return each model's row with the most trainings on all labels, with its training time."""
    most: dict[str, Row] = {}
    for row in page.section("results"):
        if not row.result.arguments.get("labels_per_class"):
            most[row.method] = max(most.get(row.method, row), row, key=lambda row: len(row.number.values))
    return [{**point(row), "seconds": row.seconds} for row in most.values()]


def feature_maps(page: Page) -> list[dict]:
    """Return maps of raw pixels and of the features of each method's first run."""
    first: dict[str, Path] = {}
    for row in page.section("results"):
        first.setdefault(row.method, row.result.path.with_name("map.csv"))
    maps: list[dict] = []
    load = partial(np.loadtxt, delimiter=",", skiprows=1, ndmin=2)
    for method, path in ((method, path) for method, path in first.items() if path.exists()):
        if (table := page.results.attempt(path, load, path)) is not None:
            labels = table[:, 0].astype(int).tolist()  # then x, y of the features and of the pixels
            pixels = {"title": "raw pixels", "points": table[:, 3:].tolist(), "labels": labels}
            maps += [] if maps else [pixels]
            maps.append(
                {"title": f"features of {method}", "points": table[:, 1:3].tolist(), "labels": labels}
            )
    return maps


def study_cells(page: Page, labels: int | None = None) -> list[dict]:
    """Return the cells of the few-label study: all, or those with this number of labels."""
    cells = []
    for row in distinct(page.section("study")):
        if labels in (None, row.result.arguments["labels"]):
            runs = [{"test_accuracy": accuracy} for accuracy in row.number.values]
            head = {"method": row.result.method, "labels": row.result.arguments["labels"]}
            cells.append({**head, "mean": {"test_accuracy": row.number.mean}, "runs": runs})
    return cells
