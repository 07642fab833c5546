"""CSV files with an image in each row, as those of Kaggle: a label and the pixels, or the pixels alone."""

import math
import re
from pathlib import Path

import numpy as np

from data.errors import DataError
from data.idx import MOST_BYTES, check_bytes, read_packed

LABELS = {"label", "labels", "class", "target", "digit", "y"}  # names of a column, in small letters
NUMBER = re.compile(r"-?\d+\.?\d*(e[-+]?\d+)?", re.IGNORECASE)


def read_table(path: Path) -> dict[str, np.ndarray]:
    """Read rows with commas, semicolons or tabs: "x_train" (N, pixels) and, with labels, "y_train" (N,).

    Labels, numbers or names, are in the column that the first line calls one of LABELS, else in the first or
    last, that with fewer values, but not with one, if it is beyond a square number of pixels. Beside a named
    one there may be one more, before the pixels, which is left out. The file may be in gzip, or a pipe.
    """
    content = read_packed(path, "get it again", MOST_BYTES + 1)
    check_bytes(len(content), path)
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    lines = [x for x in content.decode(encoding, "backslashreplace").splitlines() if x.strip(" ,;\t")]
    lines = lines or ["label"]
    separator = max(",;\t", key=lines[0].count)
    names = [name.strip(' "').lower() for name in lines[0].split(separator)]
    rows = lines[not LABELS.isdisjoint(names) or sum(not NUMBER.fullmatch(name) for name in names) > 1 :]
    label = next((i for i, name in enumerate(names) if name in LABELS), None)
    pixels = [i for i in range(len(names)) if i != label]
    count = math.isqrt(len(pixels)) ** 2
    if label is None and rows and len(pixels) == count + 1:
        ends = [(row.partition(separator)[0], row.rpartition(separator)[2]) for row in rows]
        first, last = (len(set(values)) for values in zip(*ends, strict=True))
        label = pixels.pop(-(first == 1 or 1 < last < first))
    if not rows or not 4 <= count >= len(pixels) - 1:
        found = f"found {len(rows):,} rows of {len(names):,} columns; unpack a .zip, else use numpy.savez"
        raise DataError(f"{path}: expected the label and the pixels of a square image in each row, {found}")
    words: dict[str, int] = {}  # of the columns that may hold names
    others = set(range(len(names))) - set(pixels[-count:])
    read: dict = dict.fromkeys(others, lambda word: words.setdefault(word.strip(), len(words)))
    try:
        values = np.loadtxt(rows, np.float32, None, separator, read, quotechar='"', ndmin=2)
    except ValueError as error:
        reason = str(error).partition("; use")[0]
        raise DataError(f"{path}: expected numbers, the same count in every row: {reason}") from error
    arrays = {"x_train": values[:, pixels[-count:]]}
    if label is not None:
        labels = np.array(list(words))[values[:, label].astype(int)]
        if "" in labels:
            raise DataError(f"{path}: row {1 + int((labels == '').argmax())} has no label")
        arrays["y_train"] = labels.astype(float if all(map(NUMBER.fullmatch, set(labels.tolist()))) else str)
    return arrays
