"""One row of a table: a metric of a run with its spread, the data it saw, its time, and prior work."""

import re
from statistics import fmean, median, stdev
from typing import NamedTuple

from report import text
from report.results import Experiment, Result, Results, RowSpec

# The share of the training images that train_simclr.py and train_moco.py hold out for validation.
ENCODER_VALIDATION = 0.1
# What the field "marks" of references.json says about the protocol of prior work.
MARKS = {
    "selected": ("†", "selected on the test set"),
    "transductive": ("‡", "transductive: it sees the test images"),
    "protocol": ("§", "another protocol, see the notes on prior work"),
}


class Number(NamedTuple):
    """A metric of a run: the values behind it, and what their spread is.

    kind: "std", standard deviation of independent values; "range" of libraries that overlap; "interval" of
    95 % of a single value; "none". low, high: its ends. samples: their number, e.g. "12 draws".
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
            return text.values(self.metric, self.values)
        write, unit = text.unit(self.metric)
        return text.spread(self.values, write) + unit

    @property
    def text(self) -> str:
        """`short`, for a single run with its interval: "99.76 % (99.64 to 99.84)"."""
        write, _ = text.unit(self.metric)
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
    noun = "draws" if draws or arguments.get("labels") else "folds" if arguments.get("folds") else "runs"
    return Number(metric, mean, mean - std, mean + std, "std", values, f"{count} {noun}")


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
    rivals: list[dict]
    data: str
    seconds: float

    @property
    def label(self) -> str:
        """Without one of its own the name of the run, or "attention, 50" for the cell "attention/50"."""
        return self.spec.label or (self.spec.cell or self.experiment.name).replace("/", ", ")

    @property
    def method(self) -> str:
        """The name that its colour in figures depends on."""
        return self.result.method or self.experiment.name.partition("-")[0]


def make_rows(results: Results, script: str, metric: str) -> list[Row]:
    """Return the rows of a script in the order of experiments.json; metric: what a row shows by default."""
    rows = []
    for experiment in (experiment for experiment in results.experiments if experiment.script == script):
        sweep = results.sweeps.get(experiment.folder)
        for spec in experiment.rows:
            names = [spec.cell] if spec.cell != "*" else list(sweep.cells) if sweep else []
            for cell in names:
                if result := results.result(f"{experiment.folder}/{cell}".rstrip("/")):
                    args = (results, experiment, spec._replace(cell=cell), result, spec.metric or metric)
                    rows.append(results.attempt(result.path, make_row, *args))
    return [row for row in rows if row]


def make_row(
    results: Results, experiment: Experiment, spec: RowSpec, result: Result, metric: str
) -> Row | None:
    """Return a row, or None and a note where the run lacks the metric, as older or newer code may."""
    if not has(result, metric):
        results.notes.append(f"{result.path}: lacks {metric}; its row is left out")
        return None
    references = (results.references[key] for key in spec.references if key in results.references)
    comparable = [reference for reference in references if "selected" not in reference.get("marks", ())]
    rivals = sorted(comparable, key=lambda reference: ("marks" in reference, -reference["value"]))
    trained = not metric.startswith(("test_random", "test_pixels"))
    seconds = training_time(results, result) if trained else 0
    data = data_text(results, result, metric)
    return Row(experiment, spec, result, number(result, metric), rivals, data, seconds)


def training_time(results: Results, result: Result) -> float:
    """Return the seconds of one training (median), of a study's shared work, and of loaded encoders."""
    seconds = median(record["seconds"] for record in result.records)
    seconds += max(record.get("shared_seconds", 0) for record in result.records)
    files = (result.arguments.get("encoder") or "").split("+")
    return seconds + sum(training_time(results, run) for file in files if (run := results.run_of(file)))


def value_text(reference: dict) -> str:
    """ "99.748 ± 0.028 % §", with the digits of its source."""
    scale, unit = (1, "") if reference["metric"].endswith("auc") else (100, " %")
    low, middle, std = (f"{round(scale * reference.get(key, 0), 6):g}" for key in ("low", "value", "std"))
    shares = f"{low} to {middle}" if "low" in reference else middle
    signs = "".join(f" {MARKS[mark][0]}" for mark in reference.get("marks", ()))
    return f"{shares} ± {std}{unit}{signs}" if "std" in reference else f"{shares}{unit}{signs}"


def link(reference: dict) -> str:
    return f"[{reference['source']}]({reference['url']})"


def mark_legend(references: list[dict]) -> list[str]:
    """Explain every mark that these references have."""
    used = {mark for reference in references for mark in reference.get("marks", ())}
    return [f"{sign} {meaning}" for mark, (sign, meaning) in MARKS.items() if mark in used]


def data_text(results: Results, result: Result, metric: str) -> str:
    """Return training and validation data in words: "100 labelled, 53,900 unlabelled", "50 balanced bags"."""
    arguments, mean, images = result.arguments, result.mean, result.mean.get("train_images", 0)
    few, unlabelled = re.search(r"_(\d+)_accuracy$", metric), 0.0
    if "builder" in arguments:
        return bags_text(results, result)
    if "labels" in arguments:  # a cell of the few-label study
        labelled: float = arguments["labels"]
        unlabelled = images - labelled
    elif per_class := arguments.get("labels_per_class"):
        labelled = 10 * per_class
    elif is_unsupervised(result) and (few or "kmeans" in metric):
        labelled, unlabelled = 10 * int(few[1]) if few else 0, images
    elif folds := arguments.get("folds") or arguments.get("member_folds"):
        labelled = images * folds / (folds - 1)
    else:
        share = ENCODER_VALIDATION if "test_knn_accuracy" in mean else arguments.get("val_fraction") or 0
        labelled = images + mean["val_images"] if "val_images" in mean else images / (1 - share)
    counts = ((round(labelled), "labelled"), (round(unlabelled), "unlabelled"))
    return ", ".join(f"{count:,} {kind}" for count, kind in counts if count > 0)


def bags_text(results: Results, result: Result) -> str:
    """Return the bags, training and validation, and the images of a loaded encoder."""
    arguments, file = result.arguments, result.arguments.get("encoder")
    validation = f" + {arguments['val_bags']}" if arguments.get("val_bags") else ""
    bags = f"{arguments['train_bags']}{validation} {arguments['builder']} bags"
    run = results.run_of(file) if file else None
    if run is None or "train_images" not in run.mean:
        return f"{bags}, a pre-trained encoder" if file else bags
    kind = "unlabelled" if is_unsupervised(run) else "labelled"
    return f"{bags}, {run.mean['train_images']:,.0f} {kind} images"


def is_unsupervised(result: Result) -> bool:
    return result.path.parts[-3] in ("simclr", "moco") and result.method != "supcon"
