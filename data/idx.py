"""IDX files, the format of MNIST: as they are or compressed by gzip."""

import gzip
import hashlib
import math
import re
import struct
import zlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch

from data.errors import DataError

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# Bytes of the arrays of one file: more than any data set of small images needs, less than a computer has.
MOST_BYTES = 2**32


def check_bytes(count: int, path: Path) -> None:
    """Raise DataError for a file with more than MOST_BYTES of uncompressed content."""
    if count > MOST_BYTES:
        most = f"at most {MOST_BYTES:,} can be read: use fewer images"
        raise DataError(f"{path}: {count:,} bytes of arrays; {most}")


def read_packed(path: Path, remedy: str, most: int) -> bytes:
    """Read `most` bytes or a mebibyte more, unpacked where gzip has packed them, whatever the name says."""
    try:
        with path.open("rb") as file:
            source = gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == b"\x1f\x8b" else file
            return b"".join(islice(iter(lambda: source.read(2**20), b""), 1 + most // 2**20))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error}); {remedy}") from error
    except MemoryError as error:
        raise DataError(f"{path}: does not fit into memory; {remedy}") from error


# The names that MNIST, EMNIST and copies of them have: prefix, part, kind.
NAME = re.compile(r"(?:(.*)[-_.])?(train|t10k|test)[-_.](images|labels)[-_.]idx[13][-_.]ubyte(?:\.gz)?")


def find_idx(folder: Path) -> tuple[list, str]:
    """Return [images, labels] of the training and maybe of the test part, and the prefix of their names.

    Files may end in .gz. Without a training part, or without the folder, the list is empty.
    """
    found: dict[str, dict[tuple[str, str], Path]] = {}
    for file in sorted(folder.glob("*")):
        if (match := NAME.fullmatch(file.name.lower())) and file.is_file():
            prefix, part, kind = match.groups()
            found.setdefault(prefix or "", {}).setdefault(("test" if part != "train" else part, kind), file)
    if len(found) > 1:
        raise DataError(f"{folder}: IDX files of {len(found)} data sets: keep each in a folder of its own")
    prefix, files = next(iter(found.items()), ("", {}))
    pairs = [[files.get((part, kind)) for kind in ("images", "labels")] for part in ("train", "test")]
    whole = [pair for pair in pairs if None not in pair]
    return whole if pairs[:1] == whole[:1] else [], prefix


def read_idx(path: Path, remedy: str, size: tuple[int, int] | None, checksum: str | None) -> torch.Tensor:
    """Read a file of images (N, H, W) or, when its name says so, of labels (N,): uint8.

    size: the only (H, W) allowed. checksum: the MD5 that the uncompressed file must have. Raises DataError
    for a file that is damaged or whose size contradicts its header; the message ends with the remedy.
    """
    dims = 3 if "idx3" in path.name.lower() else 1
    head = 4 + 4 * dims
    content = read_packed(path, remedy, head)
    if len(content) < head:
        raise DataError(f"{path}: expected an IDX header, found {len(content)} bytes; {remedy}")
    magic, count, *shape = struct.unpack_from(f">{1 + dims}I", content)
    if magic != 0x0800 + dims:
        raise DataError(f"{path}: expected IDX magic {0x0800 + dims}, found {magic}; {remedy}")
    if dims == 3 and size and tuple(shape) != size:
        raise DataError(f"{path}: expected images of {size}, found {tuple(shape)}; {remedy}")
    expected = head + count * math.prod(shape)
    check_bytes(expected, path)
    content = read_packed(path, remedy, expected + 1)
    if len(content) != expected:
        found = "more" if len(content) > expected else f"{len(content):,}"
        raise DataError(f"{path}: expected {expected:,} bytes, found {found}; {remedy}")
    if count == 0:
        raise DataError(f"{path}: expected at least one item, found none; {remedy}")
    if checksum and (md5 := hashlib.md5(content, usedforsecurity=False).hexdigest()) != checksum:
        problem = f"not the published file (MD5 {md5} instead of {checksum})"
        raise DataError(f"{path}: {problem}; {remedy}, or train on it as it is with --unverified")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=head).view(count, *shape)


def read_idx_pair(
    files: Sequence[Path],
    remedy: str = "get it again",
    size: tuple[int, int] | None = None,
    checksums: Sequence[str | None] = (None, None),
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read (N, H, W) images and their (N,) labels, see `read_idx`; DataError also for unequal numbers."""
    images, labels = files
    x, y = read_idx(images, remedy, size, checksums[0]), read_idx(labels, remedy, None, checksums[1])
    if len(x) != len(y):
        kind = "training" if images.name.startswith("train") else "test"
        raise DataError(f"{images.parent}: {len(x)} {kind} images but {len(y)} labels; {remedy}")
    return x, y
