"""The data of the figures that show committed results; utils/plots plots them."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation.differences import mcnemar_margin
from models import create
from report.rows import TEST_IMAGES, Row, value_text
from report.sections import Page, most_trained, sizes
from utils.plots import contrastive, ensemble, few_labels
from utils.plots import report as plots

SELECTIONS = ("greedy_loss", "greedy_accuracy", "bagged")
LIBRARIES = {"best": "22 strong ones of four recipes", "cnn-20": "10 cnn", "lenet-10": "10 lenet"}
LIBRARIES |= {"mixed-10": "10 of unequal strength"}
LONG = "test-time augmentation over "  # before "nine shifts"
COSTS = {"parameters": "parameters", "seconds": "training time of one run (at most, s)"}
# The lines of the few-label figure, the best last.
LINES = ("pixels-linear", "simclr-linear", "moco-spread", "simclr-spread", "simclr-self_labelled")


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
    keys = {"value", "low", "std", "source"}
    rivals = [{key: r[key] for key in keys & r.keys()} | {"text": value_text(r)} for r in row.rivals]
    return {"label": row.label, "method": row.method, "rivals": rivals, **values}


def overview(rows: list[Row]) -> list[dict]:
    """Return the figure of README.md: every row beside the best comparable prior work."""
    data = []
    for row in rows:
        label = row.spec.front["method"].replace("`", "").replace(LONG, "")
        texts = {"task": row.spec.front["task"], "label": label, "text": row.number.short}
        data.append({**point(row), **texts, "auc": row.number.metric.endswith("auc")})
    return data


def error_against(cost: str, page: Page) -> dict:
    """Return each model's row with what it costs, a key of COSTS, and prior work whose cost is known."""
    hidden, keys = ("shifts", "labels_per_class", "teacher"), ("mean", "low", "high", "kind")
    rows = [r for r in page.section("results") if not any(map(r.result.arguments.get, hidden))]
    ours, prior = [], []
    for row in most_trained(rows, lambda row: (row.method,)):
        values = {key: getattr(row.number, key) for key in keys}
        costs = {"seconds": row.seconds, **sizes(create(row.method))}
        ours.append({"label": row.method, "cost": costs[cost], **values})
    for rival in (each for each in page.results.references.values() if cost in each):
        name = rival["source"].partition("/")[0] + value_text(rival).partition("%")[2]
        prior.append({"name": name, "cost": rival[cost], "value": rival["value"]})
    return {"cost": COSTS[cost], "ours": ours, "prior": prior}


def feature_maps(page: Page) -> list[dict]:
    """Return maps of raw pixels and of the features of each method's first run."""
    first: dict[str, Path] = {}
    for row in page.section("results"):
        first.setdefault(row.method, row.result.path.with_name("map.csv"))
    maps: list[dict] = []
    load = partial(np.loadtxt, delimiter=",", skiprows=1, ndmin=2)
    for method, path in first.items():
        if path.exists() and (table := page.results.attempt(path, load, path)) is not None:
            parts = {} if maps else {"raw pixels": table[:, 3:]}
            parts |= {f"features of {method}": table[:, 1:3]}  # before those of the pixels
            labels = table[:, 0].astype(int).tolist()
            maps += [{"title": t, "points": p.tolist(), "labels": labels} for t, p in parts.items()]
    return maps


def few_label_lines(page: Page) -> list[dict]:
    """Return the cells of LINES in the few-label study, and the prior work of its table."""
    study = page.section("study")
    cells = [(r.result.method, r.result.arguments["labels"], r.number.values) for r in most_trained(study)]
    for reference in page.results.prior_work(key for row in study for key in row.experiment.references):
        cells.append(("prior-best", reference["column"], [reference["value"]]))
    order = [*LINES, "prior-best"]
    cells = sorted((c for c in cells if c[0] in order), key=lambda cell: (order.index(cell[0]), cell[1]))
    return [{"method": m, "labels": n, "runs": [{"test_accuracy": x} for x in xs]} for m, n, xs in cells]


def epochs(page: Page) -> list[dict]:
    """Return the validation errors of contrastive encoders against the epochs of pre-training."""
    long = "simclr/stroke", "moco/moco"  # of 16 epochs
    everything = page.results.runs.items()
    runs = [(n, r) for n, r in everything if "/epochs-" in n or (n in long and "epochs" in r.arguments)]
    panels: list[dict] = []
    for key, title in (("knn", "k-NN"), ("linear", "linear probe")):
        curves: dict[str, list] = {}
        for name, run in runs:
            shares = [record[f"val_{key}_accuracy"] for record in run.records]
            label = few_labels.NAMES[name.partition("/")[0]]
            curves.setdefault(label, []).append([run.arguments["epochs"], shares])
        panels.append(panel(title, "epochs", curves))
    return panels if runs else []


def race(page: Page) -> list[dict]:
    """Return the test errors of our quickest network and of the usual program against seconds of training."""
    curves = page.results.benchmarks.get("fast", {}).get("curves")
    return [panel("", "seconds of training", curves)] if curves else []


def panel(title: str, xlabel: str, curves: dict[str, list]) -> dict:
    """Return a panel for `plot_curves`; curves: points by label."""
    named = [{"label": label, "points": points} for label, points in curves.items()]
    return {"title": title, "xlabel": xlabel, "curves": named}


def gains(page: Page) -> list[dict]:
    """Return the gain of each selection on the plain average, library by library."""
    libraries = []
    for name, words in LIBRARIES.items():
        if (run := page.results.runs.get(f"ensemble/{name}")) is None:
            return []
        records = run.records
        words += f"\n{len(records)} overlapping libraries" if len(records) > 1 else ""
        pairs = {key: [gain(record, key) for record in records] for key in SELECTIONS}
        libraries.append({"name": words, "gains": pairs})
    return libraries


def gain(record: dict, selection: str) -> list:
    """Return a gain and half of its 95 % interval in points, see `mcnemar_margin`."""
    share, p = record[f"{selection}_test_gain"], record[f"{selection}_test_mcnemar_p"]
    half = mcnemar_margin(round(share * TEST_IMAGES), p, TEST_IMAGES)
    return [round(100 * share, 6), half and round(100 * half, 6)]


# By script and file name: the plot, and what gives its data; a figure without data is left out.
FIGURES: dict[str, dict[str, tuple[Callable, Callable[[Page], list | dict | None]]]] = {
    "train_cnn": {
        "front.png": (plots.plot_error_against_cost, partial(error_against, "parameters")),
        "seconds.png": (plots.plot_error_against_cost, partial(error_against, "seconds")),
        "race.png": (plots.plot_curves, race),
    },
    "ensemble": {"gains.png": (ensemble.plot_gains, gains)},
    "train_simclr": {
        "maps.png": (contrastive.plot_maps, feature_maps),
        "epochs.png": (plots.plot_curves, epochs),
    },
    "train_few_labels": {"labels.png": (few_labels.plot_error_against_labels, few_label_lines)},
}
