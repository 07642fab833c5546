"""The sections between the markers of a page: tables, prior work, runs one by one."""

from collections.abc import Callable, Iterable
from functools import partial
from operator import attrgetter
from statistics import fmean
from typing import NamedTuple

from torch import nn

from data.robustness import CORRUPTIONS, LEVELS
from models import ENCODERS, RECIPES, create
from models.cnn import multiply_adds
from report import text
from report.results import Results
from report.rows import HEADS, Row, has, link, mark_legend, number, value_text
from utils.errors import UserError
from utils.plots.ensemble import LABELS as COMBINATION_LABELS

SPREADS = {
    "std": "±: standard deviation over n trainings or, with few labels, over n draws of the labels",
    "interval": "(a to b): 95 % interval of a single run",
    "range": "a to b: range over libraries that overlap, because they are drawn from one pool",
}
WITHIN_NOISE = "≈ the difference is within noise (t-test, 5 %, or 95 % interval)"
TIME = "Minutes: training of one run (median) with the encoder it loads, on a shared machine: upper bounds"
RECIPE_COLUMNS = {"epochs": "epochs", "batch_size": "batch", "lr": "peak rate", "augment": "augmentation"}
CELL = attrgetter("spec.cell", "spec.label")
LOSSES = {"loss": "loss", "ece": "ECE", "scaled_loss": "loss, scaled", "scaled_ece": "ECE, scaled"}


class Page(NamedTuple):
    """The input of the sections of one script's page. rows: in the order of experiments.json."""

    results: Results
    rows: list[Row]

    def section(self, name: str) -> list[Row]:
        return [row for row in self.rows if row.spec.section == name]


def grouped(rows: list[Row], make: Callable[[list[Row]], str]) -> str:
    """Return a table for every group of rows, under its title."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(f"**{text.escape(row.spec.group)}**\n\n" if row.spec.group else "", []).append(row)
    return "\n\n".join(title + make(group) for title, group in groups.items())


def results_section(page: Page) -> str:
    """Return the tables of a script's main results with their legend."""
    rows = page.section("results")
    return f"{grouped(rows, results_table)}\n\n{legend(rows)}" if rows else text.EMPTY


def results_table(rows: list[Row]) -> str:
    """Return a table of rows of one measure, each beside the best comparable work found."""
    lines: list[list[text.Cell]] = []
    for row in rows:
        values = row.number.values
        worst = text.percent(min(values)) if row.result.arguments.get("labels") else ""
        line: list[text.Cell] = [row.label, row.number.cell, worst, str(len(values)), rival_text(row)]
        lines.append([*line, data_text(row), f"{float(f'{row.seconds / 60:.2g}'):g}" if row.seconds else ""])
    columns = ["method", head_of(rows[0]), "worst draw", "n", "comparable work", "data", "minutes"]
    return text.ranked(columns, lines)


def head_of(row: Row) -> str:
    return HEADS.get(row.number.metric.rpartition("_")[2], "accuracy, %")


def data_text(row: Row) -> str:
    """ "60,000" images with labels, "100 + 53,900" without, "0 + 54,000"."""
    return f"{row.labelled:,}" + f" + {row.unlabelled:,}" * bool(row.unlabelled)


def rival_text(row: Row) -> str:
    """The best comparable prior work: "99.748 ± 0.028, [Matuzas77](url)"; ≈ where the difference is noise."""
    texts = []
    for rival in row.rivals:
        sign = "" if row.number.is_beyond_noise(rival) else "≈ "
        name = text.escape(rival["source"].partition("/")[0])
        texts.append(f"{sign}{value_text(rival).replace(' %', '')}, [{name}]({rival['url']})")
    return text.Markdown("; ".join(texts))


def legend(rows: list[Row]) -> str:
    """Explain the signs of these rows, their time and where they were trained."""
    kinds, cells = {row.number.kind for row in rows}, [rival_text(row) for row in rows]
    parts = [words for kind, words in SPREADS.items() if kind in kinds]
    parts += [WITHIN_NOISE] if any("≈" in cell for cell in cells) else []
    parts += mark_legend([rival for row in rows for rival in row.rivals])
    parts += ["data: images with labels, those for validation included, + images without"]
    return f"{text.sentence(parts)} {TIME}. Trained on {text.devices(row.result.device for row in rows)}."


def references_section(page: Page) -> str:
    """Return all prior work of a script's rows with its protocol, also what was selected on the test set."""
    keys = (key for row in page.rows for key in (*row.spec.references, *row.experiment.references))
    references, lines = page.results.prior_work(keys), []
    for reference in references:
        runs = f" (n = {reference['runs']})" if "runs" in reference else ""
        first = f"- {link(reference)}: {reference['task']} {value_text(reference)}{runs}"
        notes = (reference.get(key) for key in ("citation", "note"))
        read = "" if reference["verified"] else "second-hand"
        lines.append("; ".join(filter(None, (first, *notes, read))) + ".")
    return "\n\n".join(filter(None, ["\n".join(lines), text.sentence(mark_legend(references))])) or text.EMPTY


def table_section(page: Page, name: str) -> str:
    """Return a table: the rows of its section by metrics where it has columns, else the cells of sweeps.

    A row's own metric, in which the first column's is replaced by each in turn, says which metrics: the
    columns precision_at_1 and map_at_r of the metric test_unseen_precision_at_1 have test_unseen_map_at_r.
    """
    spec, rows = page.results.tables[name], page.section(name.partition("/")[2])
    if not rows:
        return text.EMPTY
    if not spec.get("columns"):
        return cells_table(page, most_trained(rows), spec["corner"])
    return grouped(rows, partial(metrics_table, corner=spec["corner"], columns=spec["columns"]))


def metrics_table(rows: list[Row], corner: str, columns: dict[str, str]) -> str:
    """Return a table of rows by metrics; columns: {metric: head}. Rates of errors are best when low."""
    lines: list[list[text.Cell]] = []
    for row in rows:
        if (first := next(iter(columns))) not in row.number.metric:
            raise UserError(f"experiments.json: {row.experiment.name}: no {first} in {row.number.metric}")
        metrics = [row.number.metric.replace(first, metric) for metric in columns]
        numbers = [number(row.result, metric) if has(row.result, metric) else None for metric in metrics]
        cells = [(found.mean, found.short.replace(" %", "")) if found else "" for found in numbers]
        lines.append([row.label, *cells, str(len(row.number.values))])
    errors = "error_rate", "accept_rate", "mce"
    lowest = [head for metric, head in columns.items() if metric.endswith(errors)]
    return text.ranked([corner, *columns.values(), "n"], lines, lowest)


def cells_table(page: Page, rows: list[Row], corner: str) -> str:
    """Return cells by method and number, and prior work, whose task reads "50 training bags, method".

    A method with a single number, where others have several, is in other tables.
    """
    entries: dict[str, dict[int, text.Cell]] = {}
    sizes: dict[str, dict[str, None]] = {}
    for row in rows:
        method, _, column = row.spec.cell.partition("/")
        label = f"{method}, {row.spec.label}" if row.spec.label else method
        sizes.setdefault(label, {})[str(len(row.number.values))] = None
        entries.setdefault(label, {})[int(column)] = row.number.mean, row.number.short.replace(" %", "")
    if max(map(len, entries.values())) > 1:
        entries = {label: cells for label, cells in entries.items() if len(cells) > 1}
    references = page.results.prior_work(key for row in rows for key in row.experiment.references)
    for reference in references:
        method, words = reference["task"].partition(", ")[2], value_text(reference).replace(" %", "")
        label = text.Markdown(f"{text.escape(method)}, {link(reference)}")
        cell = words if "marks" in reference else (reference["value"], words)
        entries.setdefault(label, {})[reference["column"]] = cell
    columns = sorted({column for cells in entries.values() for column in cells})
    lines = []
    for label, cells in entries.items():
        lines.append([label, ", ".join(sizes.get(label, ())), *(cells.get(column, "") for column in columns)])
    signs = text.sentence(["mean ± standard deviation", *mark_legend(references)])
    return f"{text.ranked([corner, 'n', *(f'{column:,}' for column in columns)], lines)}\n\n{signs}"


def most_trained(rows: Iterable[Row], kind: Callable[[Row], tuple] = CELL) -> list[Row]:
    """Return one row of each kind, by default of each cell and label: the one with the most values."""
    most: dict[tuple, Row] = {}
    for row in rows:
        most[kind(row)] = max(most.get(kind(row), row), row, key=lambda row: len(row.number.values))
    return list(most.values())


def sizes(model: nn.Module) -> dict[str, int]:
    """Return the parameters of a classifier, and the multiply-adds of one image."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "multiply_adds": multiply_adds(model)}


def models_section(page: Page) -> str:
    """Return what every classifier with results is, its size and its recipe; a family is described once."""
    names, lines = {row.result.method for row in page.rows}, []
    summaries: dict[str, list[str]] = {}
    for name in (name for name in ENCODERS if name in names):
        build, model = ENCODERS[name], create(name)
        summary = (getattr(build, "func", build).__doc__ or "").splitlines()[0]
        summaries.setdefault(summary, []).append(f"`{name}`")
        counts = [f"{count:,}" for count in sizes(model).values()]
        lines.append([f"`{name}`", *counts, *(str(RECIPES[name][key]) for key in RECIPE_COLUMNS)])
    listed = [f"- {', '.join(same)}: {summary}" for summary, same in summaries.items()]
    recipes = text.table(["model", "parameters", "multiply-adds", *RECIPE_COLUMNS.values()], lines)
    return "\n".join([*listed, "", recipes]) if lines else text.EMPTY


def combinations_section(page: Page) -> str:
    """Return the combinations of every ensemble, each in a collapsed part."""
    parts = {row.experiment.name: combinations_table(row) for row in page.rows}
    return "\n\n".join(text.collapsed(f"<b>{name}</b>", table) for name, table in parts.items()) or text.EMPTY


def combinations_table(row: Row) -> str:
    """Return the metrics of every combination of an ensemble, with its paired test against the average."""
    mean, lines = row.result.mean, []
    losses = {key: title for key, title in LOSSES.items() if f"average_test_{key}" in mean}
    for name in (name for name in COMBINATION_LABELS if f"{name}_test_accuracy" in mean):
        p = ", ".join(f"{record[f'{name}_test_mcnemar_p']:.2g}" for record in row.result.records)
        test = ["", ""] if name == "average" else [f"{100 * mean[f'{name}_test_gain']:+.3f}", p]
        values = (f"{mean[f'{name}_test_{key}']:.4f}" for key in losses)
        accuracy = number(row.result, f"{name}_test_accuracy").short.removesuffix(" %")
        lines.append([COMBINATION_LABELS[name], accuracy, *test, *values])
    for label, name in (("mean single", "mean_single"), ("any member right", "oracle")):
        share = mean[f"{name}_test_accuracy"]
        gain = f"{100 * (share - mean['average_test_accuracy']):+.3f}"
        lines.append([label, text.percent(share), gain, "", *[""] * len(losses)])
    return text.table(["combination", "accuracy, %", "gain, points", "p", *losses.values()], lines)


def corruptions_section(page: Page) -> str:
    """Return the mean error of every model of robustness.py under each corruption."""
    kinds = {"geometry": slice(0, 4), "appearance": slice(4, len(CORRUPTIONS))}
    tables = {kind: [f"{kind}: error, %", "mean", *list(CORRUPTIONS)[part]] for kind, part in kinds.items()}
    lines: dict[str, list[list[text.Cell]]] = {kind: [] for kind in kinds}
    for row in page.rows:
        # Of all strengths of the first corruption, the second, ...
        errors = row.result.records[0][row.number.metric.replace("corrupted_accuracy", "errors")]
        means = [fmean(errors[i : i + LEVELS]) for i in range(0, len(errors), LEVELS)]
        for kind, part in kinds.items():
            shares = (fmean(means[part]), *means[part])
            lines[kind].append([row.label, *((share, f"{100 * share:.1f}") for share in shares)])
    return "\n\n".join(text.ranked(head, lines[kind], head) for kind, head in tables.items())
