"""Numbers in words, and Markdown tables."""

import re
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, stdev

EMPTY = "No results yet."
UNITS: dict[str, Callable[[float], str]] = {"_p": "{:.2g}".format, "auc": "{:.4f}".format}
UNITS |= dict.fromkeys(("_models", "_mistakes", "_reviewed"), "{:.0f}".format)


def unit(metric: str) -> tuple[Callable[[float], str], str]:
    """Return how a metric is written: a function of its value, and its unit."""
    units = {"seconds": duration, **UNITS}
    write = next((function for ending, function in units.items() if metric.endswith(ending)), percent)
    return write, " %" if write is percent else ""


def values(metric: str, shares: Sequence[float]) -> str:
    """One value, or "low to high" of several, in the metric's unit: "99.77 %", "0.11 to 0.18", "36 min"."""
    write, sign = unit(metric)
    return " to ".join(dict.fromkeys(write(share) for share in (min(shares), max(shares)))) + sign


def spread(shares: Sequence[float], write: Callable[[float], str]) -> str:
    """Mean ± standard deviation: "99.76 ± 0.02"; of a single value the value."""
    if len(shares) == 1:
        return write(shares[0])
    return f"{write(fmean(shares))} ± {(deviation if write is percent else write)(stdev(shares))}"


def percent(share: float) -> str:
    return f"{100 * share:.2f}"


def deviation(share: float) -> str:
    """A standard deviation in points: two decimals, or three where two would read 0.00."""
    return f"{100 * share:.{3 if 5e-6 <= share < 1e-4 else 2}f}"


def duration(seconds: float) -> str:
    """ "7.4 s", "36 min", "2.6 h"."""
    size, name = (1, "s") if seconds < 120 else (60, "min") if seconds < 7200 else (3600, "h")
    return f"{seconds / size:.{1 if seconds / size < 10 else 0}f} {name}"


def time(seconds: float) -> str:
    """ "≤ 36 min": an upper bound, because other work on a machine only adds to a time."""
    return f"≤ {duration(seconds)}" if seconds else "none"


def significant(value: float) -> str:
    """Three digits: "0.0123", "41.9", "18,300"."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


class Markdown(str):
    """Text with links or HTML of our own, which a table shows as it is."""


def escape(words: str) -> str:
    """Return one printable line in which Markdown finds no HTML, no link and no end of a cell."""
    line = "".join(letter if letter.isprintable() else " " for letter in words)
    return re.sub(r"[<>\[\]|\\]|:(?=//)|(?<=www)\.", r"\\\g<0>", line)


def devices(names: Iterable[str]) -> str:
    """ "AMD EPYC, 1 thread; Intel Xeon Processor, 2 threads"."""
    return escape("; ".join(sorted({re.sub(r"\((R|TM)\)|(?<= 1 thread)s", "", name) for name in names})))


def sentence(parts: Iterable[str]) -> str:
    """Join parts with semicolons: "A; b; c."; nothing for no part."""
    joined = "; ".join(parts)
    return joined[:1].upper() + joined[1:] + "." * bool(joined)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; cells are strings, escaped unless they are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    texts = ([cell if isinstance(cell, Markdown) else escape(cell) for cell in line] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in texts)


def grid(corner: str, entries: Sequence[tuple[str, int, str]]) -> str:
    """Return a table of entries (label of the row, number of the column, text) with sorted columns."""
    columns = sorted({column for _, column, _ in entries})
    rows: dict[str, dict[int, str]] = {}
    for label, column, text in entries:
        rows.setdefault(label, {})[column] = text
    lines = [[label, *(row.get(column, "") for column in columns)] for label, row in rows.items()]
    return table([corner, *(f"{column:,}" for column in columns)], lines)


def collapsed(summary: str, content: str) -> str:
    """Return Markdown content that a reader unfolds; summary: one line of HTML."""
    return f"<details>\n<summary>{summary}</summary>\n\n{content}\n\n</details>"
