"""Sections of the page of metric learning: floors, seen and unseen classes, accept rates, sweeps."""

from statistics import fmean

from report.results import Result
from report.rows import Row, cells
from report.sections import EMPTY, Page
from report.tables import number, number_text, percent, table

# Metrics of an encoder, without "test_" and the prefix of the encoder, and the heads of their columns.
EPISODES = {
    "10way_1shot_accuracy": "10-way 1-shot",
    "10way_5shot_accuracy": "10-way 5-shot",
    "unseen_7way_1shot_accuracy": "7-way 1-shot, unseen digits",
    "precision_at_1": "P@1",
    "map_at_r": "MAP@R",
}
FLOORS = {
    "pixels_": "raw pixels",
    "deformed_": "nearest of 32 deformed copies, pixels",
    "untrained_": "the same encoder, untrained",
    "other_": "SimCLR, from 54,000 unlabelled images of all digits: other data",
}
GROUPS = {"": "all", "seen_": "trained on", "unseen_": "unseen"}
GROUP_METRICS = {
    "precision_at_1": "P@1",
    "r_precision": "R-precision",
    "map_at_r": "MAP@R",
    "equal_error_rate": "equal error rate",
    "verification_accuracy": "accuracy",
    "false_accept_rate": "false-accept rate",
}


def shown(result: Result, metric: str) -> str:
    """Return a metric with its spread, without its interval; empty where the run lacks it."""
    if metric not in result.metrics["mean"]:
        return ""
    return number_text(number(result, metric)).partition(" (")[0]


def first_of_runs(page: Page) -> list[Row]:
    """Return the first row of every run in the table of results."""
    first: dict[str, Row] = {}
    for row in page.of_section("results"):
        first.setdefault(row.result.key, row)
    return list(first.values())


def floors_section(page: Page) -> str:
    """Return what the first run has to beat: the encoders of --floors and --compare, of whichever run."""
    trained = [(row, "", row.experiment.name) for row in first_of_runs(page)[:1]]
    floors = [
        (row, prefix, name)
        for row in page.of_section("floors")
        for prefix, name in FLOORS.items()
        if f"test_{prefix}10way_1shot_accuracy" in row.result.metrics["mean"]
    ]
    if not floors:
        return EMPTY
    lines = [
        [name, *(shown(row.result, f"test_{prefix}{metric}") for metric in EPISODES), row.number.samples]
        for row, prefix, name in (*trained, *floors)
    ]
    return table(["embedding", *EPISODES.values(), "n"], lines)


def groups_section(page: Page) -> str:
    """Return retrieval and verification of every run, digits that were trained on and unseen ones apart."""
    lines = [
        [row.experiment.name, name, *(shown(row.result, f"test_{group}{m}") for m in GROUP_METRICS)]
        for row in first_of_runs(page)
        for group, name in GROUPS.items()
        if f"test_{group}precision_at_1" in row.result.metrics["mean"]
    ]
    return table(["run", "digits", *GROUP_METRICS.values()], lines) if lines else EMPTY


def accepts_section(page: Page) -> str:
    """Return, digit by digit, which shares of its own and of all other test images a reference accepts."""
    rows = [row for row in first_of_runs(page) if "test_class_accept_rates" in row.result.records[0]]
    if not rows:
        return EMPTY
    columns = [
        [fmean(values) for values in zip(*(record[key] for record in row.result.records), strict=True)]
        for row in rows
        for key in ("test_class_accept_rates", "test_class_false_accept_rates")
    ]
    head = [
        text for row in rows for text in (f"{row.experiment.name}: own", f"{row.experiment.name}: others")
    ]
    lines = [
        [str(digit), *(f"{percent(value)} %" for value in values)]
        for digit, values in enumerate(zip(*columns, strict=True))
    ]
    return table(["digit", *head], lines)


def losses_section(page: Page) -> str:
    """Return the losses and miners side by side."""
    rows = page.of_section("losses")
    if not rows:
        return EMPTY
    lines = [[row.label, *(shown(row.result, f"test_{metric}") for metric in EPISODES)] for row in rows]
    runs = " or ".join(sorted({row.number.samples for row in rows}))
    return f"{table(['', *EPISODES.values()], lines)}\n\nn = {runs}."


def training_data_section(page: Page) -> str:
    """Return the accuracy against the number of digits trained on, and against images of three digits."""
    parts = []
    for experiment, sweep in page.sweeps:
        lines = [
            [
                *(f"{cell.arguments[key]:,}" for key in ("digits", "images")),
                *(shown(cell, f"test_{metric}") for metric in list(EPISODES)[:2]),
                *(shown(cell, f"test_unseen_{m}") for m in ("precision_at_1", "map_at_r")),
                str(len(cell.records)),
            ]
            for cell in cells(sweep)
        ]
        head = ["digits", "images of each", *list(EPISODES.values())[:2], "P@1, unseen", "MAP@R, unseen", "n"]
        parts += [f"![Accuracy against training data]({experiment.name}/accuracy.png)", table(head, lines)]
        done, wanted = sweep.metrics["trainings"]
        parts += [f"Not finished: {done} of {wanted} trainings."] if done < wanted else []
    return "\n\n".join(parts) or EMPTY
