"""What is printed: numbers in one style, progress bars, and signs that a terminal may lack."""

import codecs
import shutil
import sys
from collections.abc import Sequence

from tqdm import tqdm

PLAIN = {"±": "+-", "→": "->", "≤": "<=", "≥": ">=", "×": "x"}  # for terminals without the sign
WIDTH = 80  # of a bar, in columns


def write_any_sign() -> None:
    """Replace what the encoding of stdout and stderr lacks, e.g. on Windows, instead of failing."""

    def plain(error):
        return PLAIN.get(error.object[error.start], "?"), error.start + 1

    codecs.register_error("plain", plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="plain")


def percent(share: float, std: float | None = None) -> str:
    """ "99.21 %", or with a standard deviation "99.21 ± 0.05 %"."""
    return f"{100 * share:.2f}{'' if std is None else f' ± {100 * std:.2f}'} %"


def score(part: dict, metric: str) -> str:
    """Write a metric of a run or of a cell of a sweep, with its deviation where there are several values."""
    mean, std = part["mean"][metric], part["std"][metric]
    if not metric.endswith("auc"):
        return percent(mean, std)
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for every row of a table, its columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def progress(total: int, quiet: bool, unit: str = "step", done: int = 0) -> tqdm:
    """Return a bar that a terminal shows until it is closed; a file gets none."""
    columns = min(WIDTH, shutil.get_terminal_size().columns - 1)
    look = {"mininterval": 0.5, "ncols": columns, "leave": False}
    return tqdm(total=total, initial=done, unit=unit, disable=quiet or None, **look)  # None: not in a file


def print_line(line: str) -> None:
    """Print a line that stays above the bar."""
    tqdm.write(line)
    sys.stdout.flush()
