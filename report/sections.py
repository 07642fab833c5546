"""The sections between the markers of a page: tables, prior work, runs one by one."""

from collections.abc import Callable
from statistics import fmean
from typing import NamedTuple

from data.robustness import CORRUPTIONS, LEVELS
from models import ENCODERS, RECIPES, create
from report import text
from report.results import Results, is_clean
from report.rows import Row, link, mark_legend, short_text, value_text
from utils.plots.ensemble import LABELS as COMBINATION_LABELS

SPREADS = {
    "std": "±: standard deviation over n trainings or, with few labels, over n draws of the labels",
    "interval": "(a to b): 95 % interval of a single run (Wilson)",
    "range": "a to b: range over libraries that overlap, because they are drawn from one pool",
}
TIME = "Time: training of one run (median), including the encoder it loads; ≤: on a shared machine"
METRIC_NAMES = {"auc": "AUC", "1": "P@1", "r": "MAP@R"}  # by the last word of a metric
RECIPE_COLUMNS = {"epochs": "epochs", "batch_size": "batch", "lr": "peak rate", "augment": "augmentation"}
LOSSES = {"loss": "loss", "ece": "ECE", "scaled_loss": "loss, scaled", "scaled_ece": "ECE, scaled"}


class Page(NamedTuple):
    """The input of the sections of one script's page. rows: in the order of experiments.json."""

    results: Results
    rows: list[Row]

    def section(self, name: str) -> list[Row]:
        return [row for row in self.rows if row.spec.section == name]


def results_section(page: Page) -> str:
    """Return the table of a script's main results with its legend."""
    rows = page.section("results")
    if not rows:
        return text.EMPTY
    names = [METRIC_NAMES.get(last := row.number.metric.rpartition("_")[2], last) for row in rows]
    lines = []
    for row in rows:
        prior = text.Markdown("<br>".join(f"{value_text(rival)} {link(rival)}" for rival in row.rivals))
        lines.append(
            [row.label, row.data, row.number.text, row.number.samples, prior, text.time(row.seconds)]
        )
    kinds = {row.number.kind for row in rows}
    parts = [words for kind, words in SPREADS.items() if kind in kinds]
    parts += mark_legend([rival for row in rows for rival in row.rivals])
    head = ["method", "data", f"test {' or '.join(dict.fromkeys(names))}", "n", "prior work", "time"]
    return f"{text.table(head, lines)}\n\n{' '.join(filter(None, [text.sentence(parts), time_legend(rows)]))}"


def time_legend(rows: list[Row]) -> str:
    return f"{TIME}. Trained on {text.devices(row.result.device for row in rows)}."


def references_section(page: Page) -> str:
    """Return all prior work of a script's rows with its protocol, also what was selected on the test set."""
    keys: dict[str, None] = {}
    for row in page.rows:
        keys |= dict.fromkeys((*row.spec.references, *row.experiment.references))
    known = page.results.references
    references = [known[key] for key in keys if key in known]
    groups: dict[tuple, list[dict]] = {}
    for reference in references:
        groups.setdefault((link(reference), reference.get("note")), []).append(reference)
    lines = []
    for (source, note), group in groups.items():
        runs = [f" (n = {reference['runs']})" if "runs" in reference else "" for reference in group]
        values = [f"{r['task']} {value_text(r)}{n}" for r, n in zip(group, runs, strict=True)]
        notes = [group[0].get("citation"), note, None if group[0]["verified"] else "second-hand"]
        lines.append("; ".join(filter(None, [f"- {source}: {', '.join(values)}", *notes])) + ".")
    return "\n\n".join(filter(None, ["\n".join(lines), text.sentence(mark_legend(references))])) or text.EMPTY


def runs_section(page: Page, details: Callable[[Row], str] = lambda row: "") -> str:
    """Return a collapsed part for every run: command, origin and values; sweeps are last."""
    rows: dict[str, Row] = {}
    for row in page.rows:
        rows.setdefault(row.experiment.folder, row)
    parts = []
    for row in sorted(rows.values(), key=lambda row: bool(row.spec.cell)):
        name, path, (done, wanted) = row.experiment.name, row.result.path, row.result.trainings
        title, content = f"{done} trainings" if done == wanted else f"{done} of {wanted} trainings", []
        if not row.spec.cell:
            title, metric = f"{row.label}, {row.number.text}", row.number.metric
            values = ", ".join(text.values(metric, [share]) for share in row.number.values)
            content = [f"{metric.replace('_', ' ')}: {values}.", page.results.attempt(path, details, row)]
        command = f"```\n{row.experiment.command} --name {name}\n```"
        if row.experiment.retired:
            command = f"From commit {row.experiment.retired}; today's scripts can't repeat it."
        versions = ", ".join(" ".join(pair) for pair in row.result.config.get("versions", {}).items())
        origin = f"{text.devices([row.result.device])}; {commit_text(row.result.config)}"
        origin += f"; {text.escape(versions)}."
        numbers = f"All numbers: [{name}/{path.name}]({name}/{path.name})."
        lines = "\n\n".join(filter(None, [command, f"{origin} {numbers}", *content]))
        parts.append(text.collapsed(f"<b>{name}</b>: {text.escape(title)}", lines))
    return "\n\n".join(parts) or text.EMPTY


def commit_text(content: dict) -> str:
    """ "commit 0123456789ab and 456789abcdef-dirty (not clean)" of a run that was resumed."""
    commits = [part.get("commit") for part in (content, *content.get("resumed", []))]
    texts = [commit if is_clean(commit) else f"{commit} (not clean)" for commit in commits]
    return text.escape(f"commit {' and '.join(texts)}")


def table_section(page: Page, name: str) -> str:
    """Return a table: the rows of its section by metrics where it has columns, else the cells of sweeps.

    A row's own metric, in which the first column's is replaced by each in turn, says which metrics: the
    columns precision_at_1 and map_at_r of the metric test_unseen_precision_at_1 have test_unseen_map_at_r.
    """
    spec = page.results.tables[name]
    rows, columns = page.section(name.partition("/")[2]), spec.get("columns", {})
    if not (rows and columns):
        return cells_table(page, distinct(rows), spec["corner"]) if rows else text.EMPTY
    lines = []
    for row in rows:
        metrics = (row.number.metric.replace(next(iter(columns)), metric) for metric in columns)
        lines.append([row.label, *(short_text(row.result, metric) for metric in metrics), row.number.samples])
    return text.table([spec["corner"], *columns.values(), "n"], lines)


def cells_table(page: Page, rows: list[Row], corner: str) -> str:
    """Return cells by method and number, and prior work, whose task reads "50 training bags, method"."""
    entries = []
    for row in rows:
        method, _, column = row.spec.cell.partition("/")
        label = f"{method}, {row.spec.label}" if row.spec.label else method
        entries.append((label, int(column), f"{row.number.short} ({len(row.result.records)})"))
    keys = dict.fromkeys(key for row in rows for key in row.experiment.references)
    references = [known for key in keys if (known := page.results.references.get(key))]
    for reference in references:
        task, _, method = reference["task"].partition(", ")
        label = text.Markdown(f"{text.escape(method)}, {link(reference)}")
        entries.append((label, int(task.split()[0]), value_text(reference)))
    legend = ["mean ± standard deviation (n)", *mark_legend(references)]
    return f"{text.grid(corner, entries)}\n\n{text.sentence(legend)}"


def distinct(rows: list[Row]) -> list[Row]:
    """Return one row for each cell and label: where sweeps overlap, the one with most trainings."""
    largest: dict[tuple, Row] = {}
    for row in rows:
        key = row.spec.cell, row.spec.label
        largest[key] = max(largest.get(key, row), row, key=lambda row: len(row.result.records))
    return list(largest.values())


def models_section(page: Page) -> str:
    """Return the architecture, parameters and recipe of every classifier with results."""
    names, lines = {row.result.method for row in page.rows}, []
    for name in (name for name in ENCODERS if name in names):
        parameters = sum(parameter.numel() for parameter in create(name).parameters())
        summary = (ENCODERS[name].__doc__ or "").partition("\n")[0].rstrip(".")
        recipe = (str(RECIPES[name][key]) for key in RECIPE_COLUMNS)
        lines.append([f"`{name}`", summary, f"{parameters:,}", *recipe])
    return text.table(["model", "", "parameters", *RECIPE_COLUMNS.values()], lines) if lines else text.EMPTY


def combinations_table(row: Row) -> str:
    """Return the metrics of every combination of an ensemble, with its paired test against the average."""
    mean, lines = row.result.mean, []
    losses = {key: title for key, title in LOSSES.items() if f"average_test_{key}" in mean}
    for name in (name for name in COMBINATION_LABELS if f"{name}_test_accuracy" in mean):
        p = ", ".join(f"{record[f'{name}_test_mcnemar_p']:.2g}" for record in row.result.records)
        test = ["", ""] if name == "average" else [f"{100 * mean[f'{name}_test_gain']:+.3f}", p]
        values = (f"{mean[f'{name}_test_{key}']:.4f}" for key in losses)
        accuracy = short_text(row.result, f"{name}_test_accuracy")
        lines.append([COMBINATION_LABELS[name], accuracy, *test, *values])
    for label, name in (("mean single", "mean_single"), ("any member right", "oracle")):
        share = mean[f"{name}_test_accuracy"]
        gain = f"{100 * (share - mean['average_test_accuracy']):+.3f}"
        lines.append([label, f"{text.percent(share)} %", gain, "", *[""] * len(losses)])
    return text.table(["combination", "accuracy", "gain", "p", *losses.values()], lines)


def draws_section(page: Page) -> str:
    """Return the methods of the few-label study with 100 labels, the best first, and their worst draws."""
    rows = [row for row in distinct(page.section("study")) if row.spec.cell.endswith("/100")]
    lines = []
    for row in sorted(rows, key=lambda row: -row.number.mean):
        ends = (text.values("accuracy", [end(row.number.values)]) for end in (min, max))
        lines.append([row.result.method, row.number.text, *ends, row.number.samples, text.time(row.seconds)])
    head = ["method", "test accuracy", "worst draw", "best draw", "n", "time"]
    return text.table(head, lines) if lines else text.EMPTY


def accepts_section(page: Page) -> str:
    """Return for each digit the shares of its own and of all other test images that a reference accepts."""
    head, columns = ["digit"], []
    for row in page.section("accepts"):
        for key, title in (("test_class_accept_rates", "own"), ("test_class_false_accept_rates", "others")):
            values = zip(*(record[key] for record in row.result.records), strict=True)
            columns.append([f"{text.percent(fmean(shares))} %" for shares in values])
            head.append(f"{row.experiment.name}: {title}")
    lines = [[str(digit), *texts] for digit, texts in enumerate(zip(*columns, strict=True))]
    return text.table(head, lines) if lines else text.EMPTY


def robustness_section(page: Page) -> str:
    """Return a row per model: clean and corrupted accuracy, and the mean error by corruption."""
    lines = []
    for record in page.rows[0].result.records if page.rows else ():
        for name in (key.removesuffix("_trainings") for key in record if key.endswith("_trainings")):
            shares = [record.get(f"{name}_{key}") for key in ("accuracies", "corrupted_accuracies")]
            ratios = [record.get(f"{name}_{key}") for key in ("mces", "relative_mces")]
            texts = [text.spread(values, text.percent) if values else "" for values in shares]
            texts += [text.spread(values, tenths) if values else "" for values in ratios]
            errors = record[f"{name}_errors"]  # of all strengths of the first corruption, the second, ...
            errors = [fmean(errors[i : i + LEVELS]) for i in range(0, LEVELS * len(CORRUPTIONS), LEVELS)]
            label = f"{name.replace('_', ' ')}, n = {record[f'{name}_trainings']}"
            lines.append([label, *texts, *map(tenths, errors)])
    head = ["model", "clean accuracy, %", "corrupted, %", "mCE, %", "relative mCE, %", *CORRUPTIONS]
    return text.table(head, lines) if lines else text.EMPTY


def tenths(share: float) -> str:
    return f"{100 * share:.1f}"
