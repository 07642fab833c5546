"""Numbers in words, and Markdown tables."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, stdev

EMPTY = "No results yet."
Cell = str | tuple[float, str]


def unit(metric: str) -> tuple[Callable[[float], str], str]:
    """Return how a metric is written: a function of its value, and its unit."""
    units = {"seconds": duration, "auc": thousandths, "size": thousandths}
    units |= {"_p": "{:.2g}".format, "loss": "{:.4f}".format, "mce": "{:.2f}".format}
    counted = "models", "mistakes", "reviewed", "disputed", "alone", "right", "in_15", "in_50", "in_100"
    units |= {f"_{name}": "{:.0f}".format for name in counted}
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
    mean = write(fmean(shares))
    return mean if mean.startswith(">") else f"{mean} ± {write(stdev(shares))}"


def percent(share: float) -> str:
    """ "99.76"; "< 0.01" for what is no zero."""
    return f"{100 * share:.2f}" if not 0 < share < 5e-5 else "< 0.01"


def thousandths(area: float) -> str:
    """ "0.957"; "> 0.999" for what is no one, "< 0.001" for what is no zero."""
    if 0 < area < 5e-4:
        return "< 0.001"
    return f"{area:.3f}" if not 0.9995 <= area < 1 else "> 0.999"


def duration(seconds: float) -> str:
    """ "7.4 s", "36 min", "2.6 h"."""
    size, name = (1, "s") if seconds < 120 else (60, "min") if seconds < 7200 else (3600, "h")
    return f"{seconds / size:.{1 if seconds / size < 10 else 0}f} {name}"


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


def ranked(head: Sequence[str], rows: Iterable[Sequence[Cell]], lowest: Iterable[str] = ()) -> str:
    """Return a table, the best row first by the first column of (value, text) cells; no empty column.

    The best of each such column is bold; lowest: the heads of those in which less is better.
    """
    lines, signs = list(rows), [-1 if title in lowest else 1 for title in head]

    def score(line: Sequence[Cell], i: int) -> float:
        return signs[i] * cell[0] if isinstance(cell := line[i], tuple) else -math.inf

    places = [i for i in range(len(head)) if any(isinstance(line[i], tuple) for line in lines)]
    lines.sort(key=lambda line: -score(line, places[0]) if places else 0)
    kept = [i for i in range(len(head)) if any(line[i] for line in lines)]
    best = {i: max(score(line, i) for line in lines) if len(lines) > 1 else math.inf for i in kept}
    texts = []
    for line in lines:
        bold = {i: "**" * (score(line, i) == best[i]) for i in places}
        cells = ((i, line[i]) for i in kept)
        texts.append([f"{bold[i]}{x[1]}{bold[i]}" if isinstance(x, tuple) else x for i, x in cells])
    return table([head[i] for i in kept], texts)


def collapsed(summary: str, content: str) -> str:
    """Return Markdown content that a reader unfolds; summary: one line of HTML."""
    return f"<details>\n<summary>{summary}</summary>\n\n{content}\n\n</details>"
