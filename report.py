"""Rewrite the README's tables and figures, and a page per paradigm, from the files in results/.

    python report.py              rewrites README.md, results/overview.png, results/<paradigm>/README.md
    python report.py --check      writes nothing; exit code 1 and a line for everything that is stale

Reads results/<paradigm>/<run>/{config,metrics}.json and history.jsonl, results/benchmarks/*.json, and two
files kept by hand: results/experiments.json (the headline experiments, in the order of the tables, which
reproduce.py runs) and results/references.json (figures of others, with their sources). Needs no GPU, no
weights and no data set. A file that is missing or damaged is named, the rest is rendered, exit code 1.
"""

import hashlib
import inspect
import json
import os
import re
import sys
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

from utils.cli import Parser, command
from utils.errors import UserError
from utils.evaluation.few_labels import LABELS_PER_CLASS
from utils.metrics.selection import COMBINATIONS
from utils.plots import ensemble as plots_ensemble
from utils.plots import overview as plots
from utils.plots import representation as plots_representation
from utils.plots.style import description
from utils.runs.results import (
    Experiment,
    Result,
    folder_name,
    is_sweep,
    read_benchmark,
    read_experiments,
    read_references,
    read_result,
    read_sweep,
    run_folders,
)


class Paradigm(NamedTuple):
    """What the report must know of a script.

    metric: its key figure, a name in metrics.json's mean. pictures: a function of its headline rows that
    gives {file name: (caption, Picture)}, figures of several runs for the README. timed: whether its rows are
    trainings of one kind, whose error against training time is worth a figure.
    """

    title: str
    metric: str
    pictures: object = lambda rows: {}
    timed: bool = False

    @property
    def figure(self):
        """What the rows have in common, whatever metric each has: "test accuracy"."""
        return f"test {self.metric.rpartition('_')[2].replace('auc', 'AUC')}"


# A new script is one row here and a pair of marker lines in the README.
PARADIGMS = {
    "train_cnn": Paradigm("Supervised classifiers", "test_accuracy", timed=True),
    "train_simclr": Paradigm(
        "Contrastive learning", "test_linear_accuracy", lambda rows: representation_pictures(rows)
    ),
    "train_mil": Paradigm("Multiple instance learning", "test_auc"),
    "ensemble": Paradigm("Ensembles", "test_accuracy"),
}

# The figures that a run's folder may hold, in the order of the page; others follow by name.
PICTURES = {
    "curves.png": "learning curves",
    "confusion.png": "confusion matrix",
    "mistakes.png": "most confident mistakes",
    "filters.png": "filters of the first layer",
    "views.png": "pairs of views",
    "neighbours.png": "nearest neighbours of test digits",
    "map.png": "map of raw pixels and of features",
    "bags.png": "test bags with the attention of each digit",
    "roc.png": "ROC curves",
    "combinations.png": "combinations side by side",
    "selection.png": "greedy selection step by step",
    "weights.png": "weights step by step",
    "size.png": "error against the number of members",
    "members.png": "members",
    "agreement.png": "errors that members have in common",
}

# The columns of an ensemble's table of combinations.
COMBINATION_FIGURES = (
    *("test_accuracy", "test_gain", "test_loss", "test_scaled_loss", "test_ece", "test_scaled_ece"),
    *("temperature", "val_loss"),
)

# The columns of the table of ablations: choices, hence on validation images.
ABLATION_FIGURES = (("val_knn_accuracy", "k-NN"), ("val_linear_accuracy", "linear probe"))

MARKER = "<!-- report:{} {} -->"
EMPTY = "No results yet."


class Row(NamedTuple):
    """One line of a table: a run, which figure of it to show, and whom to compare it with."""

    experiment: Experiment
    result: Result
    references: list
    metric: str

    @property
    def label(self):
        dataset = self.result.metrics["dataset"]
        label = self.experiment.label or self.experiment.name
        return label if dataset == "mnist" else f"{label} ({dataset})"

    @property
    def method(self):
        """What fixes the colour."""
        return called(self.result.config["arguments"], self.experiment.name.partition("-")[0])

    @property
    def mean(self):
        return self.result.metrics["mean"][self.metric]

    @property
    def values(self):
        return [record[self.metric] for record in self.result.metrics["runs"]]

    @property
    def interval(self):
        """One standard deviation about the mean; for a single run its own 95 % interval."""
        std = self.result.metrics["std"].get(self.metric)
        if std is not None:
            return self.mean - std, self.mean + std
        run = self.result.metrics["runs"][0]
        return run.get(f"{self.metric}_low", self.mean), run.get(f"{self.metric}_high", self.mean)

    @property
    def command(self):
        """The command that lands in this run's folder; without --name a run is called like its method."""
        config, name = self.result.config, self.experiment.name
        return config["command"] + (f" --name {name}" if name != called(config["arguments"]) else "")


class Picture(NamedTuple):
    """A figure to draw: draw(data, path, description). data: plain lists, dicts, numbers and strings."""

    draw: object
    data: object

    @property
    def digest(self):
        """Fingerprint of what goes into the figure: the data and the text of the drawing function.

        It is kept inside the PNG, and --check compares it in place of the pixels: another version of
        matplotlib renders the same figure to other bytes, and a machine that only checks must not fail
        for that.
        """
        content = json.dumps(self.data, sort_keys=True) + inspect.getsource(self.draw)
        return f"inputs sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def called(arguments, otherwise=None):
    """The method of a run, or where a script has but one, its model."""
    return arguments.get("method", arguments.get("model", otherwise))


# --- Numbers in words ---------------------------------------------------------------------------------


def percent(value):
    return f"{100 * value:.2f}"


def deviation(value):
    """A standard deviation in points: two decimals, three where two would show nothing."""
    return f"{100 * value:.{3 if 5e-6 <= value < 1e-4 else 2}f}"


def figure_text(row):
    """The key figure with its spread: "99.76 ± 0.02 %", or "99.76 % (99.64 to 99.84)" for one run."""
    if row.metric.endswith("auc"):
        shown, spread, unit = "{:.4f}".format, "{:.4f}".format, ""
    else:
        shown, spread, unit = percent, deviation, " %"
    low, high = row.interval
    std = row.result.metrics["std"].get(row.metric)
    if std is not None:
        return f"{shown(row.mean)} ± {spread(std)}{unit}"
    return f"{shown(row.mean)}{unit}" + (f" ({shown(low)} to {shown(high)})" if low < high else "")


def reference_figure(reference):
    """With the digits that its source gives: "99.748 ± 0.028 %", "98.59 to 98.64 %"."""
    scale, unit = (1, "") if reference["metric"].endswith("auc") else (100, " %")

    def shown(key):
        return f"{round(scale * reference[key], 6):g}"

    low = f"{shown('low')} to " if "low" in reference else ""
    std = f" ± {shown('std')}" if "std" in reference else ""
    return f"{low}{shown('value')}{std}{unit}"


def source(reference):
    return f"[{reference['source']}]({reference['url']})" if "url" in reference else reference["source"]


def duration(seconds):
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (float("inf"), 3600, "h")):
        if seconds < limit:
            value = seconds / unit
            return f"{value:.{1 if value < 10 else 0}f} {name}"
    raise ValueError(f"not a duration: {seconds}")


def training_time(metrics):
    total = duration(metrics["seconds"])
    if len(metrics["runs"]) == 1:
        return total
    return f"{duration(run_seconds(metrics))} a run, {total} in all"


def run_seconds(metrics):
    """Training time of one run: the median, because other work on a machine only ever adds to it."""
    return median(record["seconds"] for record in metrics["runs"])


def device(metrics):
    return re.sub(r"\((R|TM)\)", "", metrics["device"])


def plain(value):
    """Three digits that tell something: "0.0123", "41.9", "18,300"."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(head, rows):
    """A Markdown table; cells are strings."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


# --- Reading ------------------------------------------------------------------------------------------


def attempt(faults, function, *args):
    """The function's result; after a UserError None, and the fault's line is kept."""
    try:
        return function(*args)
    except UserError as fault:
        faults.append(str(fault))
        return None


def read_results(results_dir, experiments, faults):
    """{folder: Result} of every run that is there and whole, and of every experiment."""
    wanted = {results_dir / experiment.folder for experiment in experiments}
    wanted = {folder for folder in wanted if not is_sweep(folder)}
    folders = sorted(wanted.union(run_folders(results_dir)))
    known = {folder_name(script) for script in PARADIGMS}
    for stranger in sorted({folder.parent for folder in folders if folder.parent.name not in known}):
        faults.append(f"{stranger}: no row for it in PARADIGMS of report.py")
    read = {folder: attempt(faults, read_result, folder) for folder in folders if folder.parent.name in known}
    return {folder: result for folder, result in read.items() if result}


def make_rows(script, results_dir, results, experiments, references, faults):
    """(headline rows in the order of experiments.json, rows of all other runs by name) of one script."""
    headlines = [e for e in experiments if e.script == script and not e.ablation]
    listed = {results_dir / experiment.folder for experiment in headlines}
    others = [
        Experiment(folder.name, f"python {script}.py")
        for folder in results
        if folder.parent.name == folder_name(script) and folder not in listed
    ]
    rows = []
    for group in (headlines, others):
        found = [(experiment, results.get(results_dir / experiment.folder)) for experiment in group]
        made = [attempt(faults, make_row, e, result, references) for e, result in found if result]
        rows.append([row for row in made if row])
    return rows


def make_row(experiment, result, references):
    metric = experiment.metric or PARADIGMS[experiment.script].metric
    missing = [key for key in experiment.references if key not in references]
    if missing:
        raise UserError(f"{result.folder.parent.parent / 'references.json'}: lacks {', '.join(missing)}")
    runs, path = result.metrics["runs"], result.folder / "metrics.json"
    if not runs or any(metric not in values for values in (*runs, result.metrics["mean"])):
        raise UserError(f"{path}: lacks {metric}")
    return Row(experiment, result, [references[key] for key in experiment.references], metric)


# --- Markdown -----------------------------------------------------------------------------------------


def results_table(rows, figure):
    head = ["method", "training images", figure, "runs", "ancestor or reference"]
    head += ["device", "training time", "command"]
    lines = []
    for row in rows:
        metrics = row.result.metrics
        images = metrics["mean"].get("train_images")
        others = (f"{reference_figure(r)} {source(r)}" for r in row.references)
        lines.append(
            [
                row.label,
                f"{images:,.0f}" if images is not None else "",
                f"**{figure_text(row)}**",
                str(len(metrics["runs"])),
                "<br>".join(others),
                device(metrics),
                training_time(metrics),
                f"`{row.command}`",
            ]
        )
    return table(head, lines)


def section(script, headline, page, pictures):
    """The README's section of one script. page: link to all its runs. pictures: {link: caption}."""
    if not headline:
        return EMPTY
    paradigm = PARADIGMS[script]
    text = (
        f"{results_table(headline, paradigm.figure)}\n\n"
        "Mean ± standard deviation over the runs; for one run the 95 % Wilson interval, where there is one. "
        f"Every single run, its curves and its mistakes: [{page}]({page})."
    )
    return "\n\n".join([text, *(f"![{caption}]({path})" for path, caption in pictures.items())])


def overview_section(picture):
    return (
        f"![Error of every method beside the figures of others]({picture})\n\n"
        "Large dots are means over the runs with one standard deviation (a single run: its 95 % interval), "
        "small dots the runs themselves, diamonds the honest figures of ancestors and references."
    )


def page(script, headline, others):
    """results/<paradigm>/README.md: the table of all runs, the comparison, then run by run."""
    paradigm, rows = PARADIGMS[script], headline + others
    parts = [
        f"# {paradigm.title}: every run of `{script}.py`",
        "Written by `python report.py` from the files in this folder; changes by hand will be lost.",
        results_table(rows, paradigm.figure),
    ]
    if headline and paradigm.timed:
        parts += [
            "![Error against training time](comparison.png)",
            "Lines: error on the validation images after each epoch, where a run has any. "
            "Points: test error at the end.",
        ]
    notes = {
        (reference["source"], reference["task"]): reference for row in rows for reference in row.references
    }
    if notes:
        parts += ["## The figures of others", "\n".join(map(reference_note, notes.values()))]
    return "\n\n".join(parts + [run_part(row) for row in once_a_run(rows)]) + "\n"


def once_a_run(rows):
    """The first row of every run: one with several figures in the table has a row for each."""
    return [row for i, row in enumerate(rows) if row.result not in [other.result for other in rows[:i]]]


def reference_note(reference):
    runs = f" (n = {reference['runs']})" if "runs" in reference else ""
    note = f": {reference['note']}" if "note" in reference else ""
    return f"- {source(reference)}, {reference['task']}: {reference_figure(reference)}{runs}{note}"


def run_part(row):
    """Everything about one run: command, versions, its raw figures, its pictures."""
    config, folder = row.result.config, row.result.folder
    versions = ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items())
    found = sorted(path.name for path in folder.glob("*.png"))
    names = [name for name in PICTURES if name in found] + [name for name in found if name not in PICTURES]
    pictures = [
        f"![{row.label}: {PICTURES.get(name, Path(name).stem)}]({folder.name}/{name})" for name in names
    ]
    return "\n\n".join(
        [
            f"## {row.label}",
            f"```\n{row.command}\n```",
            f"{device(row.result.metrics)}; commit {config.get('commit') or 'unknown'}; {versions}.",
            *([combinations_table(row.result.metrics)] if "combine" in config["arguments"] else []),
            raw_table(row.result.metrics["runs"]),
            *pictures,
        ]
    )


def combinations_table(metrics):
    """Every way to combine the members of an ensemble: means over the libraries, with deviations."""
    head = ["combination", "test accuracy", "above the average", "loss", "scaled", "ECE", "scaled"]
    head += ["temperature", "validation loss", "McNemar's p, each library"]
    mean, std, lines = metrics["mean"], metrics["std"], []
    for name in COMBINATIONS:
        own = {key: mean[f"{name}_{key}"] for key in COMBINATION_FIGURES}
        spread = std[f"{name}_test_accuracy"]
        accuracy = f"{percent(own['test_accuracy'])}" + ("" if spread is None else f" ± {deviation(spread)}")
        values = [f"{own[key]:.4f}" for key in COMBINATION_FIGURES[2:]]
        p = ", ".join(f"{record[f'{name}_test_mcnemar_p']:.2g}" for record in metrics["runs"])
        lines.append(
            [plots_ensemble.LABELS[name], f"{accuracy} %", f"{100 * own['test_gain']:+.3f}", *values, p]
        )
    bounds = {"mean single": "mean_single_test_accuracy", "any member right (bound)": "oracle_test_accuracy"}
    lines += [
        [label, f"{percent(mean[key])} %", f"{100 * (mean[key] - mean['average_test_accuracy']):+.3f}"]
        + [""] * (len(head) - 3)
        for label, key in bounds.items()
    ]
    return table(head, lines)


def raw_table(records):
    """Every number of every run; a figure with an interval takes it into its own cell."""
    hidden = ("_low", "_high", "train_seconds")
    elsewhere = tuple(f"{name}_" for name in COMBINATIONS)
    keys = [
        key
        for key, value in records[0].items()
        if isinstance(value, (int, float)) and not key.endswith(hidden) and not key.startswith(elsewhere)
    ]
    return table(
        [key.replace("seconds", "training time").replace("_", " ") for key in keys],
        [[raw_cell(record, key) for key in keys] for record in records],
    )


def raw_cell(record, key):
    value = record.get(key)
    if not isinstance(value, (int, float)):
        return ""
    if key.endswith("accuracy"):
        text = f"{percent(value)} %"
        if f"{key}_low" in record:
            text += f" ({percent(record[key + '_low'])} to {percent(record[key + '_high'])})"
        return text
    if key.endswith("seconds"):
        return duration(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def sweep_section(results_dir, experiments, references, readme, faults):
    """A table of methods by training bags for every headline that is a sweep, and its figures."""
    parts = []
    for experiment in experiments:
        folder = results_dir / experiment.folder
        if is_sweep(folder) and (content := attempt(faults, read_sweep, folder)):
            others = [references[key] for key in experiment.references if key in references]
            parts.append(sweep_part(experiment, content, others, link(folder, readme)))
    return "\n\n".join(parts) or EMPTY


def sweep_part(experiment, content, references, folder):
    cells = {(cell["method"], cell["train_bags"]): cell for cell in content["cells"]}
    methods = list(dict.fromkeys(method for method, _ in cells))
    counts = sorted({count for _, count in cells})
    means = {key: cell["mean"].get("test_auc") for key, cell in cells.items()}
    rows = []
    for method in methods:
        line = [method]
        for count in counts:
            column = [mean for (_, bags), mean in means.items() if bags == count and mean is not None]
            best = max(column, default=None)
            line.append(auc_cell(cells.get((method, count)), best))
        rows.append(line)
    for name in dict.fromkeys(r["task"].partition(", ")[2] for r in references):
        given = {r["task"].partition(" ")[0]: r for r in references if r["task"].endswith(f", {name}")}
        shown = [reference_figure(given[str(count)]) if str(count) in given else "" for count in counts]
        rows.append([f"published: {name}, {source(next(iter(given.values())))}", *shown])
    repeats = sorted({len(cell["runs"]) for cell in content["cells"]})
    repeats = " or ".join(map(str, repeats)) + (" repeat" if repeats == [1] else " repeats")
    done, wanted = content["trainings"]
    if done < wanted:
        repeats += f" (not finished: {done} of {wanted} trainings)"
    return "\n\n".join(
        [
            f"{experiment.label or experiment.name}: test AUC, mean ± standard deviation of {repeats}.",
            table(["training bags", *map(str, counts)], rows),
            f"`{content['command']} --name {experiment.name}`: {device(content)}, "
            f"{duration(content['seconds'])} of training. Every figure: [{folder}]({folder}/sweep.json).",
            *([f"![AUC against training bags]({folder}/auc.png)"] if len(counts) > 1 else []),
        ]
    )


def auc_cell(cell, best):
    """ "0.9912 ± 0.0021", bold if it is the best of its column; empty where none is."""
    mean, std = (cell and cell[key].get("test_auc") for key in ("mean", "std"))
    if mean is None:
        return ""
    text = f"{mean:.4f}" + (f" ± {std:.4f}" if std is not None else "")
    return f"**{text}**" if mean == best else text


def ablation_section(results_dir, experiments, results):
    """A table of validation accuracies, a line for each experiment that is an ablation; the best are bold."""
    found = [(e, results.get(results_dir / e.folder)) for e in experiments if e.ablation]
    rows = [Row(experiment, result, [], None) for experiment, result in found if result]
    if not rows:
        return EMPTY
    best = {key: max(row.result.metrics["mean"][key] for row in rows) for key, _ in ABLATION_FIGURES}
    lines = []
    for row in rows:
        values = {key: row.result.metrics["mean"][key] for key in best}
        cells = [f"**{percent(v)}**" if v == best[key] else percent(v) for key, v in values.items()]
        lines.append([row.label, *cells, training_time(row.result.metrics), f"`{row.command}`"])
    head = ["", *(name for _, name in ABLATION_FIGURES), "training time", "command"]
    devices = ", ".join(sorted({device(row.result.metrics) for row in rows}))
    return f"{table(head, lines)}\n\nAccuracy on the validation images, %. {devices}."


def benchmarks_section(results_dir, faults):
    """A line per benchmark: ours, the standard way and their ratios, measured side by side."""
    paths = sorted((results_dir / "benchmarks").glob("*.json"))
    lines = [line for path in paths if (line := attempt(faults, benchmark_line, path))]
    head = ["benchmark", "ours", "the standard way", "ratio", "device"]
    return f"{table(head, lines)}\n\nMedians of repeats." if lines else EMPTY


def benchmark_line(path):
    content = read_benchmark(path)
    try:
        sides = [measured(content["rows"], side) for side in ("ours", "standard way")]
        ratios = "<br>".join(map(ratio_text, content["ratios"]))
        bounds = [f"{name}: {found['bound']}." for name, found in content.get("models", {}).items()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a benchmark's file, {error!r}") from error
    what = "<br>".join([f"**{content['benchmark']}**: {content['what']}", *bounds])
    return [what, *sides, ratios, device(content)]


def measured(rows, side):
    """One side's rows, named "ours" or "ours, <detail>"; rows of other names stay in the file."""
    texts = []
    for row in rows:
        name, _, detail = row["name"].partition(", ")
        if name == side:
            value = "not reached" if row["median"] is None else f"{plain(row['median'])} {row['unit']}"
            texts.append(f"{detail}: {value}" if detail else value)
    return "<br>".join(texts)


def ratio_text(ratio):
    value = "not reached" if ratio["value"] is None else plain(ratio["value"])
    aim = "" if ratio.get("target") is None else f" (target: at least {plain(ratio['target'])})"
    return f"{ratio['name']}: **{value}**{aim}"


def fill_sections(readme, sections, faults):
    """The README's text with everything between its markers renewed; None if there is no README."""
    try:
        text = readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        faults.append(f"{readme}: missing or not text")
        return None
    for name in sorted(set(re.findall(r"^<!-- report:(\S+) (?:begin|end) -->$", text, re.M)) - set(sections)):
        faults.append(f"{readme}: report.py makes no section {name}")
    for name, content in sections.items():
        begin, end = MARKER.format(name, "begin"), MARKER.format(name, "end")
        pattern = re.compile(f"^{begin}$.*?^{end}$", re.M | re.S)
        if len(pattern.findall(text)) != 1:
            faults.append(f"{readme}: needs the lines {begin} and {end}, once")
            continue
        new = f"{begin}\n\n{content}\n\n{end}"
        text = pattern.sub(lambda _, new=new: new, text)
    return text


# --- Figures ------------------------------------------------------------------------------------------


def drawn(row):
    """What the figures need of a row."""
    low, high = row.interval
    return {
        "label": row.label,
        "method": row.method,
        "values": row.values,
        "mean": row.mean,
        "low": low,
        "high": high,
        "text": figure_text(row).partition(" (")[0],  # the interval is drawn
        "references": [
            {**{k: r[k] for k in ("value", "low", "std") if k in r}, "text": reference_figure(r)}
            for r in row.references
        ],
    }


def comparison_data(headline):
    return [
        {
            **drawn(row),
            "seconds": run_seconds(row.result.metrics),
            "curve": mean_curve(row.result.history, row.metric.replace("test_", "val_")),
        }
        for row in once_a_run(headline)
    ]


def mean_curve(history, metric):
    """[[seconds, share on validation data], ...]: means over the runs for epochs that all of them reached."""
    epochs = {}
    for line in history:
        if line.get(metric) is not None:
            epochs.setdefault(line["epoch"], []).append((line["seconds"], line[metric]))
    runs = max(map(len, epochs.values()), default=0)
    return [
        [fmean(column) for column in zip(*epochs[e], strict=True)]
        for e in sorted(epochs)
        if len(epochs[e]) == runs
    ]


# --- Contrastive learning: figures of several runs ------------------------------------------------------

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


def representation_pictures(rows):
    """Accuracy against labels of the first run, and maps of each method's features beside raw pixels."""
    first, found = {}, {}
    for row in rows:
        first.setdefault(row.result.config["arguments"]["method"], row.result)
    if rows:
        curves = label_curves(rows[0].result.metrics["runs"])
        picture = Picture(plots_representation.accuracy_against_labels, curves)
        found["labels.png"] = (f"Test error of {rows[0].experiment.name} against labels per class", picture)
    tables = {method: read_map(result.folder) for method, result in first.items()}
    tables = {method: table for method, table in tables.items() if table}
    if tables:
        maps = [feature_map("raw pixels", next(iter(tables.values())), "pixels_x", "pixels_y")]
        maps += [feature_map(f"features of {method}", table, "x", "y") for method, table in tables.items()]
        picture = Picture(plots_representation.feature_maps, maps)
        found["maps.png"] = ("t-SNE of test images: raw pixels and features, coloured by digit", picture)
    return found


def label_curves(runs):
    """For accuracy_against_labels: the draws of all runs together."""
    curves = []
    for what, label, color, style in LABEL_CURVES:
        points = []
        for n in LABELS_PER_CLASS:
            draws = [value for run in runs for value in run.get(f"test_{what}_{n}_accuracies", [])]
            points += [[n, draws]] if draws else []
        everything = [run[f"test_{what}_accuracy"] for run in runs if f"test_{what}_accuracy" in run]
        points += [[round(runs[0]["train_images"] / 10), everything]] if everything else []
        if points:
            curves.append({"label": label, "color": color, "style": style, "points": points})
    return curves


def read_map(folder):
    """The columns of a run's map.csv as lists of numbers, or None when it has none."""
    path = folder / "map.csv"
    if not path.exists():
        return None
    head, *lines = path.read_text().splitlines()
    columns = zip(*(map(float, line.split(",")) for line in lines), strict=True)
    return dict(zip(head.split(","), map(list, columns), strict=True))


def feature_map(title, table, x, y):
    points = [list(point) for point in zip(table[x], table[y], strict=True)]
    return {"title": title, "points": points, "labels": [int(digit) for digit in table["digit"]]}


# --- The whole ----------------------------------------------------------------------------------------


def render(results_dir, readme, faults):
    """{path: bytes or Picture} of everything that the report keeps up to date."""
    experiments = attempt(faults, read_experiments, results_dir) or []
    references = attempt(faults, read_references, results_dir) or {}
    results = read_results(results_dir, experiments, faults)
    outputs, sections, groups = {}, {"overview": EMPTY}, []
    for script, paradigm in PARADIGMS.items():
        headline, others = make_rows(script, results_dir, results, experiments, references, faults)
        folder = results_dir / folder_name(script)
        pictures = {folder / name: found for name, found in paradigm.pictures(headline).items()}
        outputs |= {path: picture for path, (_, picture) in pictures.items()}
        captions = {link(path, readme): caption for path, (caption, _) in pictures.items()}
        sections[script] = section(script, headline, link(folder / "README.md", readme), captions)
        if headline or others:
            outputs[folder / "README.md"] = page(script, headline, others).encode()
        if headline:
            if paradigm.timed:
                data = comparison_data(headline)
                outputs[folder / "comparison.png"] = Picture(plots.error_against_time, data)
            rows = list(map(drawn, headline))
            groups.append({"title": paradigm.title, "metric": paradigm.figure, "rows": rows})
    if groups:
        path = results_dir / "overview.png"
        sections["overview"] = overview_section(link(path, readme))
        outputs[path] = Picture(plots.overview, {"groups": groups, "ceiling": references.get("ceiling")})
    sections["sweeps"] = sweep_section(results_dir, experiments, references, readme, faults)
    sections["ablations"] = ablation_section(results_dir, experiments, results)
    sections["benchmarks"] = benchmarks_section(results_dir, faults)
    text = fill_sections(readme, sections, faults)
    return outputs if text is None else {readme: text.encode(), **outputs}


def link(path, readme):
    return Path(os.path.relpath(path, readme.parent)).as_posix()


def is_fresh(path, output):
    if isinstance(output, Picture):
        return description(path) == output.digest
    return path.exists() and path.read_bytes() == output


def write(path, output):
    """Whole or not at all: to a temporary file beside it, then renamed."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        if isinstance(output, Picture):
            output.draw(output.data, temporary, output.digest)
        else:
            temporary.write_bytes(output)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def make_parser():
    parser = Parser(prog="report.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, name what is stale")
    parser.add_argument(
        "--results-dir", type=Path, default=Path("results"), metavar="DIR", help="default: results"
    )
    parser.add_argument(
        "--readme", type=Path, default=Path("README.md"), metavar="FILE", help="default: README.md"
    )
    return parser


@command
def main(argv=None):
    """0, or 1 when anything is missing, damaged or (with --check) stale."""
    args = make_parser().parse_args(argv)
    faults = []
    outputs = render(args.results_dir, args.readme, faults)
    if args.check:
        stale = [path for path, output in outputs.items() if not is_fresh(path, output)]
        faults += [f"{path}: stale; renew it with python report.py" for path in stale]
    else:
        for path, output in outputs.items():
            write(path, output)
        print(f"wrote {', '.join(map(str, outputs))}")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
