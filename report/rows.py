"""One row of a table: a metric of a run with its spread, the data it saw, its time, and prior work."""

import re
from statistics import fmean, median, stdev
from typing import NamedTuple

from evaluation.cnn import wilson_interval
from evaluation.differences import differs
from report import text
from report.results import Experiment, Result, Results, RowSpec
from utils.training.flags import VAL_FRACTION

# What the field "marks" of references.json says about the protocol of prior work.
MARKS = {
    "selected": ("†", "selected on the test set"),
    "transductive": ("‡", "transductive: it sees the test images"),
    "protocol": ("§", "another protocol, see the notes"),
    "unknown": ("¶", "stopping and selection unknown"),
}
TEST_IMAGES = 10_000  # of MNIST, Fashion-MNIST and KMNIST
HEADS = {"auc": "test AUC", "1": "P@1, %", "r": "MAP@R, %"}  # of a table, by the last word of its metric


class Number(NamedTuple):
    """A metric of a run: the values behind it, and what their spread is.

    kind: "std", standard deviation of independent values; "range" of libraries that overlap; "interval" of
    95 % of a single value; "none". low, high: its ends.
    """

    metric: str
    mean: float
    low: float
    high: float
    kind: str
    values: list[float]

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

    @property
    def cell(self) -> tuple[float, str]:
        """Value and text in a table, whose head has the unit."""
        return self.mean, self.text.replace(" %", "")

    def is_beyond_noise(self, reference: dict) -> bool:
        """Whether it differs from prior work: by `differs`, or outside the interval or range."""
        if self.kind != "std":
            return not self.low <= reference["value"] <= self.high
        return differs(self.values, reference["value"], reference.get("std"), reference.get("runs"))


def number(result: Result, metric: str) -> Number:
    """Return a metric of a run with its spread; KeyError when a record lacks it.

    Where a training scored several draws of few labels, the values are those of all draws.
    """
    values = [value for record in result.records for value in values_of(record)[metric]]
    mean = fmean(values)
    if len(values) == 1:
        low = high = mean
        if re.fullmatch(r"test_(?!.*(\dway|verif)).*(accuracy|at_1)", metric):  # a share of the test images
            low, high = wilson_interval(round(mean * TEST_IMAGES), TEST_IMAGES)
        low, high = (result.records[0].get(f"{metric}_{end}", x) for end, x in (("low", low), ("high", high)))
        return Number(metric, mean, low, high, "interval" if low < high else "none", values)
    if result.arguments.get("sources"):
        return Number(metric, mean, min(values), max(values), "range", values)
    std = stdev(values)
    return Number(metric, mean, mean - std, mean + std, "std", values)


def values_of(record: dict) -> dict[str, list[float]]:
    """Return {metric: its values} of a training: those of all draws where it scored several."""
    values = {key: [value] for key, value in record.items() if isinstance(value, int | float)}
    draws = (key for key in record if key.endswith(("accuracies", "mces")))
    values |= {re.sub("ies$", "y", key).removesuffix("s"): record[key] for key in draws}
    return {key: value for key, value in values.items() if key != "seed"}


def has(result: Result, metric: str) -> bool:
    return all(metric in values for values in (*result.records, result.mean))


class Row(NamedTuple):
    """What a table and a figure show of one metric of a run.

    rivals: the best prior work of the fewest marks and, if higher, of all. seconds: see `training_time`.
    """

    experiment: Experiment
    spec: RowSpec
    result: Result
    number: Number
    rivals: list[dict]
    labelled: int
    unlabelled: int
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
        start = f"{experiment.folder}/"
        cells = [name.removeprefix(start) for name in results.runs if name.startswith(start)]
        for spec in experiment.rows:
            for cell in cells if spec.cell == "*" else [spec.cell]:
                if result := results.runs.get(f"{start}{cell}".rstrip("/")):
                    own = spec._replace(cell=cell, metric=spec.metric or metric)
                    rows.append(results.attempt(result.path, make_row, results, experiment, own, result))
    return [row for row in rows if row]


def make_row(results: Results, experiment: Experiment, spec: RowSpec, result: Result) -> Row | None:
    """Return a row, or None and a note where the run lacks the metric, as older or newer code may."""
    if not has(result, metric := spec.metric):
        results.notes.append(f"{result.path}: lacks {metric}; its row is left out")
        return None
    ranked = sorted(results.prior_work(spec.references), key=lambda reference: -reference["value"])
    rivals = sorted(ranked, key=lambda reference: len(reference.get("marks", ())))[:1]
    rivals += [each for each in ranked[:1] if each["value"] > rivals[0]["value"]]
    seconds = 0 if is_untrained(metric) else training_time(results, result)
    counts = data_counts(results, result, metric)
    return Row(experiment, spec, result, number(result, metric), rivals, *counts, seconds)


def is_untrained(metric: str) -> bool:
    """Whether a metric is of raw pixels or of a random encoder."""
    return metric.startswith(("test_random", "test_pixels", "test_untrained", "test_deformed"))


def training_time(results: Results, result: Result) -> float:
    """Return the seconds of one training (median), of a study's shared work, and of loaded encoders."""
    seconds = median(record["seconds"] for record in result.records)
    seconds += max(record.get("shared_seconds", 0) for record in result.records)
    files = (result.arguments.get("encoder") or "").split(",")  # of which a draw uses one
    encoders = filter(None, map(results.run_of, files))
    return seconds + max((training_time(results, run) for run in encoders), default=0)


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


def data_counts(results: Results, result: Result, metric: str) -> tuple[int, int]:
    """Return the labelled images (MIL: bags), those for validation included, and the unlabelled images.

    With all labels, images that an encoder saw without labels count in both.
    """
    arguments, mean, images = result.arguments, result.mean, result.mean.get("train_images", 0)
    few, unlabelled = re.search(r"_(\d+)_accuracy$", metric), 0.0
    if "builder" in arguments:
        run = results.run_of(arguments.get("encoder") or "")
        labelled: float = arguments["train_bags"] + (arguments.get("val_bags") or 0)
        images = run.mean.get("train_images", 0) if run else 0
        labelled, unlabelled = (labelled, images) if run and is_unsupervised(run) else (labelled + images, 0)
    elif "labels" in arguments:  # a cell of the few-label study
        labelled = arguments["labels"]
        unlabelled = 0 if result.method.startswith("pixels") else images - labelled
    elif per_class := arguments.get("labels_per_class"):
        labelled = 10 * per_class
    elif is_unsupervised(result) and (few or "kmeans" in metric):
        labelled = 10 * int(few[1]) if few else 0
        unlabelled = images - labelled
    elif folds := arguments.get("folds"):
        labelled = images * folds / (folds - 1)
    else:
        share = VAL_FRACTION if "test_knn_accuracy" in mean else arguments.get("val_fraction") or 0
        labelled = images + mean["val_images"] if "val_images" in mean else images / (1 - share)
        unlabelled = images if is_unsupervised(result) and not is_untrained(metric) else 0
    return round(labelled), round(unlabelled)


def is_unsupervised(result: Result) -> bool:
    return result.path.parts[-3] in ("simclr", "moco") and result.method != "supcon"
