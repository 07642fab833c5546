"""Numbers in words, and Markdown tables."""

import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from report.results import Result


class Number(NamedTuple):
    """A metric of a run: its mean, what its spread is, and the values behind it.

    low, high: ends of what `kind` says: "std", one standard deviation about the mean of independent values;
    "range", the least and the greatest of libraries that overlap; "interval", the 95 % interval of a single
    value; "none". samples: how many of what, e.g. "12 draws".
    """

    metric: str
    mean: float
    low: float
    high: float
    kind: str
    values: list[float]
    samples: str


def number(result: Result, metric: str) -> Number:
    """Return a metric of a run with its spread; KeyError when a record lacks it.

    Where a training scores several draws of few labels, the values are those of all draws.
    """
    records, arguments = result.records, result.arguments
    single_draws = f"{metric.removesuffix('accuracy')}accuracies"
    draws = [value for record in records for value in record.get(single_draws, [])]
    values = draws or [record[metric] for record in records]
    mean = statistics.fmean(values)
    if len(values) == 1:
        low, high = (records[0].get(f"{metric}_{end}", mean) for end in ("low", "high"))
        return Number(metric, mean, low, high, "interval" if low < high else "none", values, "1")
    if arguments.get("sources"):
        count = f"{len(values)} overlapping libraries"
        return Number(metric, mean, min(values), max(values), "range", values, count)
    std = statistics.stdev(values)
    what = "draws" if draws or arguments.get("labels") else "folds" if arguments.get("folds") else "runs"
    return Number(metric, mean, mean - std, mean + std, "std", values, f"{len(values)} {what}")


def number_text(found: Number) -> str:
    """ "99.76 ± 0.02 %", "99.64 to 99.66 %" for a range, "99.76 % (99.64 to 99.84)" for a single run."""
    area = found.metric.endswith("auc")
    shown, unit = ("{:.4f}".format, "") if area else (percent, " %")
    low, high = shown(found.low), shown(found.high)
    if found.kind == "std":
        std = found.high - found.mean
        return f"{shown(found.mean)} ± {shown(std) if area else deviation(std)}{unit}"
    if found.kind == "range":
        return f"{low} to {high}{unit}" if low != high else f"{low}{unit}"
    return f"{shown(found.mean)}{unit}" + (f" ({low} to {high})" if found.kind == "interval" else "")


def value_text(metric: str, values: Sequence[float]) -> str:
    """One value, or "low to high" of several, in the metric's unit: "99.77 %", "0.11 to 0.18", "36 min"."""
    kinds: dict[str, Callable[[float], str]]
    kinds = {"seconds": duration, "_p": "{:.2g}".format, "auc": "{:.4f}".format}
    shown = next((function for ending, function in kinds.items() if metric.endswith(ending)), percent)
    unit = " %" if shown is percent else ""
    ends = list(dict.fromkeys(shown(value) for value in (min(values), max(values))))
    return " to ".join(ends) + unit


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def deviation(value: float) -> str:
    """A standard deviation in points: two decimals, three where two would show nothing."""
    return f"{100 * value:.{3 if 5e-6 <= value < 1e-4 else 2}f}"


def duration(seconds: float) -> str:
    """ "7.4 s", "36 min", "2.6 h"."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (float("inf"), 3600, "h")):
        if seconds < limit:
            value = seconds / unit
            return f"{value:.{1 if value < 10 else 0}f} {name}"
    raise ValueError(f"not a duration: {seconds}")


def significant(value: float) -> str:
    """Three digits: "0.0123", "41.9", "18,300"."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def devices_text(devices: Sequence[str]) -> str:
    """Name devices, those that differ in their threads together: "Intel Xeon Processor, 1 or 2 threads"."""
    found: dict[str, set[int]] = {}
    for device in devices:
        name, _, threads = re.sub(r"\((R|TM)\)", "", device).partition(", ")
        found.setdefault(name, set()).update(map(int, re.findall(r"^\d+", threads)))
    texts = []
    for name, counts in sorted(found.items()):
        numbers = " or ".join(map(str, sorted(counts)))
        texts.append(f"{name}, {numbers} thread{'s' * (counts != {1})}" if counts else name)
    return "; ".join(texts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; cells are strings."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def collapsed(summary: str, content: str) -> str:
    """Return Markdown content that a reader unfolds; summary: one line of HTML."""
    return f"<details>\n<summary>{summary}</summary>\n\n{content}\n\n</details>"
