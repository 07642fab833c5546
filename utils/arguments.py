"""Argument types of flags. Each returns the value, or an error that says in one line what it expects."""

import os
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from data import DATASETS

# Every seed of a script is --seed plus a number of trainings; scikit-learn takes seeds below 2^32.
LARGEST_SEED = 2**31 - 1
LONGEST_NAME = 200  # bytes; file systems take 255


@dataclass(frozen=True)
class Number:
    """A finite int or float from `low` to `high`; --help and the error name these bounds."""

    kind: type
    low: float
    high: float

    @property
    def bounds(self) -> str:
        return f"{self.low:,} to {self.high:,}"

    def __call__(self, text: str) -> Any:
        try:
            value = self.kind(text if text.isascii() else "")  # Python reads the digits of all scripts
        except ValueError:
            noun = "a whole number" if self.kind is int else "a number"
            raise ArgumentTypeError(f"expected {noun}, not {text[:80]!r}") from None
        if not self.low <= value <= self.high:  # false for NaN
            raise ArgumentTypeError(f"must be {self.bounds}, not {text[:80]}")
        return value


def list_of(item: Callable[[str], Any] = str, known: Collection = (), least: int = 1) -> Callable:
    """Return the type of a list with commas: `least` or more different items, of `known` if any are."""

    def parse(text):
        items = [item(word) for word in text.split(",")]
        if unknown := [name for name in items if known and name not in known]:
            raise ArgumentTypeError(f"unknown name {unknown[0][:80]!r}: choose from {', '.join(known)}")
        if len(set(items)) < max(len(items), least):
            raise ArgumentTypeError(f"expected {least} or more different items, not {text[:80]!r}")
        return items

    return parse


def with_commas(value: Any) -> str:
    """Return a value as it is written on the command line, e.g. "1,2" for [1, 2]."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def any_path(text: str) -> str:
    """A path that is valid on this system, whether or not it exists."""
    try:
        text.encode()
        os.stat(text or "\0")
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except (OSError, ValueError) as error:  # too long, a circle of links, empty, a zero byte, not UTF-8
        reason = getattr(error, "strerror", None) or "empty, or with characters that no path can have"
        raise ArgumentTypeError(f"not a path: {reason}: {text[:80]!r}") from None
    return text


def named_path(text: str) -> str:
    """NAME=PATH, with a name that tables and figures can show."""
    name, _, where = text.partition("=")
    if not re.fullmatch(r"[a-z]\w{0,40}", name) or not where:
        example = "NAME=FILE as in simclr=encoder.pt, the name in small letters"
        raise ArgumentTypeError(f"expected {example}, not {text[:80]!r}")
    any_path(where)
    return text


def run_name(text: str) -> str:
    """The name of a run's folder."""
    if not re.fullmatch(r"\w[\w.-]*", text) or len(text.encode()) > LONGEST_NAME:
        allowed = f"letters, digits, '.', '_' and '-' only, and at most {LONGEST_NAME} bytes"
        raise ArgumentTypeError(f"a run's name has {allowed}, not {text[:80]!r}")
    return text


def dataset(text: str) -> str:
    """One of DATASETS, or the path of the user's own data set."""
    if text not in DATASETS and not os.path.exists(any_path(text)):
        names = ", ".join(DATASETS)
        raise ArgumentTypeError(f"no data set and no path {text[:80]!r}: choose from {names}, or name a path")
    return text
