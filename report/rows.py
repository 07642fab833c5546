"""One row of a table: a metric of a run with its spread, the data it saw, its time, and prior work."""

import re
from collections.abc import Callable, Sequence
from statistics import fmean, median, stdev
from typing import NamedTuple

from report.results import MARKS, Experiment, Reference, Result, Results, RowSpec
from report.tables import spread_text, time_text, unit_of, value_text

# The share of the training images that train_simclr.py and its like hold out for validation.
ENCODER_VALIDATION = 0.1

DataText = Callable[[Results, Result, str], str]


class Number(NamedTuple):
    """A metric of a run: the values behind it, and what their spread is.

    kind: "std", standard deviation of independent values; "range" of libraries that overlap; "interval" of
    95 % of a single value; "none". low, high: its ends. samples: how many of what, e.g. "12 draws".
    """

    metric: str
    mean: float
    low: float
    high: float
    kind: str
    values: list[float]
    samples: str

    @property
    def short(self) -> str:
        """ "99.76 ± 0.02 %", "99.64 to 99.66 %" for a range, "99.76 %" for a single run."""
        if self.kind == "range":
            return value_text(self.metric, self.values)
        write, unit = unit_of(self.metric)
        return spread_text(self.values, write) + unit

    @property
    def text(self) -> str:
        """The same, for a single run with its interval: "99.76 % (99.64 to 99.84)"."""
        write, _ = unit_of(self.metric)
        interval = f" ({write(self.low)} to {write(self.high)})" if self.kind == "interval" else ""
        return self.short + interval


def number(result: Result, metric: str) -> Number:
    """Return a metric of a run with its spread; KeyError when a record lacks it.

    Where a training scored several draws of few labels, the values are those of all draws.
    """
    records, arguments = result.records, result.arguments
    of_draws = f"{metric.removesuffix('accuracy')}accuracies"
    draws = [value for record in records for value in record.get(of_draws, [])]
    values = draws or [record[metric] for record in records]
    mean, count = fmean(values), len(values)
    if count == 1:
        low, high = (records[0].get(f"{metric}_{end}", mean) for end in ("low", "high"))
        return Number(metric, mean, low, high, "interval" if low < high else "none", values, "1")
    if arguments.get("sources"):
        return Number(
            metric, mean, min(values), max(values), "range", values, f"{count} overlapping libraries"
        )
    std = stdev(values)
    what = "draws" if draws or arguments.get("labels") else "folds" if arguments.get("folds") else "runs"
    return Number(metric, mean, mean - std, mean + std, "std", values, f"{count} {what}")


def has(result: Result, metric: str) -> bool:
    return all(metric in values for values in (*result.records, result.mean))


def short_text(result: Result, metric: str) -> str:
    """Return a metric with its spread, without an interval; empty where the run lacks it."""
    return number(result, metric).short if has(result, metric) else ""


class Row(NamedTuple):
    """What a table and a figure show of one metric of a run.

    rivals: prior work it may be compared with, the best comparable first. seconds: see `training_time`.
    """

    experiment: Experiment
    spec: RowSpec
    result: Result
    number: Number
    rivals: list[Reference]
    data: str
    seconds: float

    @property
    def label(self) -> str:
        """Without one of its own the name of the run, or "attention, 50" for the cell "attention/50"."""
        return self.spec.label or (self.spec.cell or self.experiment.name).replace("/", ", ")

    @property
    def method(self) -> str:
        """What its colour in figures depends on."""
        return self.result.method or self.experiment.name.partition("-")[0]

    @property
    def time(self) -> str:
        return time_text(self.seconds)


def make_rows(results: Results, experiments: Sequence[Experiment], metric: str, data: DataText) -> list[Row]:
    """Return the rows of experiments; a run without the metric of a row is a note.

    metric, data: what a row shows by default, and what its runs see, see Paradigm.
    """
    rows = []
    for experiment in experiments:
        sweep = results.sweeps.get(experiment.folder)
        for spec in experiment.rows:
            names = [spec.cell] if spec.cell != "*" else list(sweep.cells) if sweep else []
            for cell in names:
                if result := results.result(f"{experiment.folder}/{cell}".rstrip("/")):
                    args = (
                        results,
                        experiment,
                        spec._replace(cell=cell),
                        result,
                        spec.metric or metric,
                        data,
                    )
                    rows.append(results.attempt(result.path, make_row, *args))
    return [row for row in rows if row]


def make_row(
    results: Results, experiment: Experiment, spec: RowSpec, result: Result, metric: str, data: DataText
) -> Row | None:
    if not has(result, metric):
        results.notes.append(f"{result.path}: lacks {metric}; its row is left out")
        return None
    references = (results.references[key] for key in spec.references if key in results.references)
    comparable = [reference for reference in references if "selected" not in reference.marks]
    rivals = sorted(comparable, key=lambda reference: (bool(reference.marks), -reference.value))
    trained = not metric.startswith(("test_random", "test_pixels"))
    seconds = training_time(results, result) if trained else 0
    return Row(
        experiment, spec, result, number(result, metric), rivals, data(results, result, metric), seconds
    )


def training_time(results: Results, result: Result) -> float:
    """Return the seconds of one training (the median), of what a study shares, and of loaded encoders."""
    seconds = median(record["seconds"] for record in result.records)
    seconds += max(record.get("shared_seconds", 0) for record in result.records)
    files = (result.arguments.get("encoder") or "").split("+")
    return seconds + sum(training_time(results, run) for file in files if (run := results.run_of(file)))


def mark_legend(references: list[Reference]) -> list[str]:
    """Return the meaning of every mark that these references have."""
    used = {mark for reference in references for mark in reference.marks}
    return [f"{sign} {meaning}" for mark, (sign, meaning) in MARKS.items() if mark in used]


# --- The data that a number saw, in words ---------------------------------------------------------------


def image_data(results: Results, result: Result, metric: str) -> str:
    """Return the labelled images, with those that validate: "60,000 labelled"."""
    arguments, images = result.arguments, result.mean.get("train_images")
    if per_class := arguments.get("labels_per_class"):
        return f"{10 * per_class:,} labelled"
    if images is None:
        return ""
    if folds := arguments.get("folds") or arguments.get("member_folds"):
        return f"{round(images * folds / (folds - 1)):,} labelled"
    share = 0 if "val_images" in result.mean else arguments.get("val_fraction") or 0
    return f"{round(images / (1 - share) + result.mean.get('val_images', 0)):,} labelled"


def encoder_data(results: Results, result: Result, metric: str) -> str:
    """Return the images of a score of a pre-trained encoder: "100 labelled, 54,000 unlabelled"."""
    images = result.mean["train_images"]
    few = re.search(r"_(\d+)_accuracy$", metric)
    if result.method == "supcon" or not (few or "kmeans" in metric):
        return f"{round(images / (1 - ENCODER_VALIDATION)):,} labelled"
    return (f"{10 * int(few[1]):,} labelled, " if few else "") + f"{images:,.0f} unlabelled"


def few_label_data(results: Results, result: Result, metric: str) -> str:
    """Return the images of a cell of the few-label study: "100 labelled, 53,900 unlabelled"."""
    labels, images = result.arguments["labels"], result.mean.get("train_images", 0)
    parts = [f"{labels:,} labelled"] if labels else []
    return ", ".join(parts + [f"{images - labels:,.0f} unlabelled"] * (images > labels))


def bag_data(results: Results, result: Result, metric: str) -> str:
    """Return the bags, training and validation, and the images: "50 + 200 balanced bags"."""
    arguments, file = result.arguments, result.arguments.get("encoder")
    validation = f" + {arguments['val_bags']}" if arguments.get("val_bags") else ""
    text = f"{arguments['train_bags']}{validation} {arguments['builder']} bags"
    run = results.run_of(file) if file else None
    if run is None or "train_images" not in run.mean:
        return f"{text}, a pre-trained encoder" if file else text
    unlabelled = run.path.parts[-3] in ("simclr", "moco") and run.method != "supcon"
    return f"{text}, {run.mean['train_images']:,.0f} {'un' * unlabelled}labelled images"
