"""Files that survive a crash: whole and on disk when a call returns, and read again with one-line errors."""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from utils.errors import UserError

LARGEST = 2**30  # bytes of a file of JSON


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call write(temporary path), sync the result to disk and rename it to `path`: old or new, never half."""
    temporary = path.with_name(path.name + ".tmp")
    with _naming(path):
        try:
            temporary.unlink(missing_ok=True)
            temporary.touch(exist_ok=False)  # a file of our own, never what a link leads to
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)  # on a full disk it would be in the way
            raise


def check_output(path: Path, suffixes: Sequence[str], overwrite: bool, inputs: Iterable = ()) -> None:
    """Raise UserError unless a file with one of the suffixes may be written at `path`.

    Nothing may stand there or, with `overwrite`, a regular file that is none of the paths `inputs`.
    """
    regular = path.is_file() or not os.path.lexists(path)
    broken = {
        f"the name must end in {', '.join(suffixes)}": path.suffix not in suffixes,
        "not a regular file in a folder that exists": not (regular and path.parent.is_dir()),
        "it exists; choose another name, or add --overwrite": path.exists() and not overwrite,
        "it is read": path.exists() and any(path.samefile(p) for p in inputs if os.path.exists(p)),
    }
    for reason in filter(broken.get, broken):
        raise UserError(f"cannot write {path}: {reason}")


def append_line(path: Path, record: dict) -> None:
    """Append a line of JSON and sync it to disk; a torn line before it stays a line of its own."""

    def opener(name, flags):  # no link is followed, and no pipe waited for
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)

    check_file(path)
    with _naming(path), open(path, "ab+", opener=opener) as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def parse(text: bytes) -> Any:
    """Return the value of a JSON text; ValueError also for a number that is not finite or half a letter."""
    content = json.loads(text, parse_float=_finite, parse_constant=_finite, parse_int=_whole)
    if b"\\ud" in text.lower():
        json.dumps(content, ensure_ascii=False).encode()  # fails for a lone surrogate, which no file can hold
    return content


def read_lines(path: Path) -> list[dict]:
    """Return the JSON objects in the lines of a file, if there is one; a torn line is left out."""
    records = []
    for line in check_file(path, LARGEST).read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError, RecursionError):
            records.append(parse(line))
    return [record for record in records if isinstance(record, dict)]


def read_object(path: Path, way_out: str = "half-written?") -> dict:
    """Return the JSON object in a file; UserError, which ends with the way out, when there is none."""
    try:
        content = parse(check_file(path, LARGEST).read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not valid JSON; {way_out}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object; {way_out}")
    return content


def check_file(path: Path, largest: float = math.inf) -> Path:
    """Return the path; UserError for a pipe, which would be waited for, a folder, and too large a file."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: not a regular file")
    if path.exists() and path.stat().st_size > largest:
        raise UserError(f"{path}: more than {largest:,} bytes")
    return path


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not a finite number")
    return value


def _whole(text: str) -> int:
    _finite(text)
    return int(text)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an OSError within, e.g. of a full disk, name the file."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
