"""One row of a table: a metric of a run with its spread, the data it saw, its time, and prior work."""

import re
from collections.abc import Callable
from typing import NamedTuple

from report.results import Collection, Experiment, Result, RowSpec, folder_name, is_sweep
from report.tables import Number, number, number_text
from report.times import Time, number_time
from utils.errors import UserError

# Where another protocol differs, in the field "marks" of references.json.
MARKS = {
    "selected": ("†", "selected on the test set"),
    "transductive": ("‡", "transductive: it sees the test images"),
    "protocol": ("§", "another protocol, see the notes on prior work"),
}
# The share of the training images that train_simclr.py and its like hold out for validation.
ENCODER_VALIDATION = 0.1

DataText = Callable[[Collection, Result, str], str]


class Row(NamedTuple):
    """What a table and a figure show of one metric of a run. references: the best comparable one first."""

    experiment: Experiment
    spec: RowSpec
    result: Result
    number: Number
    references: list[dict]
    data: str
    time: Time

    @property
    def label(self) -> str:
        label = self.spec.label or self.experiment.name
        dataset = self.result.metrics["dataset"]
        return label if dataset == "mnist" else f"{label} ({dataset})"

    @property
    def method(self) -> str:
        """What fixes its colour."""
        return method_of(self.result, self.experiment.name.partition("-")[0])

    @property
    def text(self) -> str:
        return number_text(self.number)


def method_of(result: Result, otherwise: str = "") -> str:
    """Return the method of a run or, where its script has but one, the model."""
    return result.arguments.get("method") or result.arguments.get("model") or otherwise


def make_rows(found: Collection, script: str, metric: str, data: DataText) -> list[Row]:
    """Return the rows of one script in the order of experiments.json; what can't be shown is a fault.

    metric, data: the script's key metric and what its runs see, see Paradigm.
    """
    rows = []
    for experiment in found.experiments:
        if experiment.script != script:
            continue
        for spec in experiment.rows:
            result = found.results.get(experiment.folder)
            if spec.cell:
                sweep = found.sweeps.get(experiment.folder)
                result = found.attempt(cell, sweep, spec.cell) if sweep else None
            if result:
                chosen = spec.metric or metric
                rows.append(found.attempt(make_row, found, experiment, spec, result, chosen, data))
    return [row for row in rows if row]


def other_rows(found: Collection, script: str, metric: str, data: DataText) -> list[Row]:
    """Return a row for every run of a script that is no experiment."""
    rows = []
    for key, result in found.results.items():
        if key.startswith(f"{folder_name(script)}/") and not found.experiment(key):
            experiment = Experiment(result.folder.name, f"python {script}.py")
            rows.append(found.attempt(make_row, found, experiment, RowSpec(), result, metric, data))
    return [row for row in rows if row]


def make_row(
    found: Collection,
    experiment: Experiment,
    spec: RowSpec,
    result: Result,
    metric: str,
    data: DataText,
) -> Row:
    if missing := [key for key in spec.references if key not in found.references]:
        raise UserError(f"{found.folder / 'references.json'}: lacks {', '.join(missing)}")
    need(result, metric)
    references = ordered([found.references[key] for key in spec.references])
    time = number_time(found, result, metric)
    return Row(
        experiment, spec, result, number(result, metric), references, data(found, result, metric), time
    )


def need(result: Result, *metrics: str) -> None:
    """Raise a UserError that names the metrics which not all of a run's records have."""
    everything = (*result.records, result.metrics["mean"])
    if lacking := [metric for metric in metrics if any(metric not in values for values in everything)]:
        name = "sweep.json" if is_sweep(result.folder) else "metrics.json"
        raise UserError(f"{result.folder / name}: lacks {', '.join(lacking)}")


def cells(sweep: Result) -> list[Result]:
    """Return every cell of a sweep as a Result; its arguments are the sweep's with those of the cell.

    Where the sweep has several encoders, "encoder" is the file of the one that the cell's method uses.
    """
    found = []
    encoders = dict(text.split("=", 1) for text in sweep.arguments.get("encoders") or ())
    for content in sweep.metrics["cells"]:
        head = {key: value for key, value in content.items() if isinstance(value, int | str)}
        if file := encoders.get(str(head.get("method")).partition("-")[0]):
            head["encoder"] = file
        config = {**sweep.config, "arguments": {**sweep.arguments, **head}}
        shared = {"dataset": sweep.arguments.get("dataset", "mnist"), "device": sweep.metrics["device"]}
        metrics = {key: content[key] for key in ("runs", "mean", "std")}
        found.append(Result(sweep.folder, config, {**shared, **metrics}, []))
    return found


def cell(sweep: Result, selector: dict) -> Result:
    """Return the cell of a sweep with these values; UserError when there is none."""
    for found in cells(sweep):
        if all(found.arguments.get(key) == value for key, value in selector.items()):
            return found
    values = ", ".join(f"{key} {value}" for key, value in selector.items())
    raise UserError(f"{sweep.folder / 'sweep.json'}: no cell with {values}")


def named_cell(sweep: Result, values: list[str]) -> Result:
    """Return the cell with these values, e.g. ["simclr-spread", "100"]; UserError when there is none."""
    for content, found in zip(sweep.metrics["cells"], cells(sweep), strict=True):
        if [str(value) for value in content.values() if isinstance(value, int | str)] == values:
            return found
    raise UserError(f"{sweep.folder / 'sweep.json'}: no cell {'/'.join(values)}")


# --- Prior work ---


def ordered(references: list[dict]) -> list[dict]:
    """Sort references: those without a mark first, then the better ones."""
    return sorted(references, key=lambda reference: (bool(reference.get("marks")), -reference["value"]))


def rivals(row: Row) -> list[dict]:
    """Return the references that a row may be compared with: none that was selected on the test set."""
    return [reference for reference in row.references if "selected" not in reference.get("marks", ())]


def reference_value(reference: dict) -> str:
    """ "99.748 ± 0.028 %", with the digits of its source; marks follow."""
    scale, unit = (1, "") if reference["metric"].endswith("auc") else (100, " %")

    def shown(key):
        return f"{round(scale * reference[key], 6):g}"

    low = f"{shown('low')} to " if "low" in reference else ""
    std = f" ± {shown('std')}" if "std" in reference else ""
    marks = " ".join(MARKS[mark][0] for mark in reference.get("marks", ()))
    return f"{low}{shown('value')}{std}{unit}" + (f" {marks}" if marks else "")


def reference_link(reference: dict) -> str:
    return f"[{reference['source']}]({reference['url']})"


def mark_legend(references: list[dict]) -> list[str]:
    """Return the meaning of every mark that these references have."""
    used = {mark for reference in references for mark in reference.get("marks", ())}
    return [f"{sign} {meaning}" for mark, (sign, meaning) in MARKS.items() if mark in used]


# --- Data ---


def image_data(found: Collection, result: Result, metric: str) -> str:
    """Return the labelled images of a classifier, with those that validate: "60,000 labelled"."""
    arguments, images = result.arguments, result.metrics["mean"].get("train_images")
    if per_class := arguments.get("labels_per_class"):
        return f"{10 * per_class:,} labelled"
    if images is None:
        return ""
    if folds := arguments.get("folds") or arguments.get("member_folds"):
        return f"{round(images * folds / (folds - 1)):,} labelled"
    if "val_images" in result.metrics["mean"]:
        return f"{round(images + result.metrics['mean']['val_images']):,} labelled"
    return f"{round(images / (1 - (arguments.get('val_fraction') or 0))):,} labelled"


def encoder_data(found: Collection, result: Result, metric: str) -> str:
    """Return the images of a score of a pre-trained encoder: "100 labelled, 54,000 unlabelled"."""
    images = result.metrics["mean"].get("train_images")
    if images is None:
        return ""
    everything = f"{round(images / (1 - ENCODER_VALIDATION)):,} labelled"
    few = re.search(r"_(\d+)_accuracy$", metric)
    if method_of(result) == "supcon" or not (few or "kmeans" in metric):
        return everything
    labelled = f"{10 * int(few[1]):,} labelled, " if few else ""
    return f"{labelled}{images:,.0f} unlabelled"


def few_label_data(found: Collection, result: Result, metric: str) -> str:
    """Return the images of a cell of the few-label study: "100 labelled, 53,900 unlabelled"."""
    labels, images = result.arguments["labels"], result.metrics["mean"].get("train_images", 0)
    parts = [f"{labels:,} labelled"] if labels else []
    return ", ".join(parts + [f"{images - labels:,.0f} unlabelled"] * (images > labels))


def embedding_data(found: Collection, result: Result, metric: str) -> str:
    """Return the labelled images of an embedding, with those that validate: "300 labelled"."""
    counts = [result.metrics["mean"].get(key) for key in ("train_images", "val_images")]
    return "" if None in counts else f"{sum(counts):,.0f} labelled"


def bag_data(found: Collection, result: Result, metric: str) -> str:
    """Return the bags of a run with their builder: "50 + 200 balanced bags", training and validation."""
    arguments = result.arguments
    val = arguments.get("val_bags", 0)
    text = f"{arguments['train_bags']}{f' + {val}' if val else ''} {arguments['builder']} bags"
    if encoder := arguments.get("encoder"):
        base = next((r for key, r in found.results.items() if f"/{key}/" in f"/{encoder}"), None)
        images = base.metrics["mean"].get("train_images") if base else None
        supervised = base is None or "method" not in base.arguments or method_of(base) == "supcon"
        kind = "labelled" if supervised else "unlabelled"
        text += f", {images:,.0f} {kind} images" if images else ", a pre-trained encoder"
    return text
