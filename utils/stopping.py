"""Ctrl-C and SIGTERM end a script in a line or two at any moment: exit code 130 or 143.

The scripts import this module first, so that it also holds while PyTorch loads. Whatever is on disk stays
usable, because every write is safe against a crash: see utils/runs/files.py and utils/runs/opening.py.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent


class Stopped(KeyboardInterrupt):
    """Raised by a signal within `raised`; its argument is the exit code."""


# Seconds until the process ends all the same when Stopped gets lost, as it does in a destructor.
GRACE = 10

_code = 0
# Whether a signal raises Stopped, or ends the process at once with this message.
_raises, _message = False, "stopped while loading; the same command starts again"


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM within raise Stopped."""
    global _raises, _message
    _raises, _message = True, "stopped; finished work is kept"
    try:
        yield
    finally:
        _raises = False


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return 128 + the number of the signal."""
    return stop.args[0] if isinstance(stop, Stopped) else 130


def _handle(number: int, frame: FrameType | None) -> None:
    global _raises, _code
    if number != signal.SIGALRM:
        _code = 128 + number
    if _raises:
        _raises = False  # a second signal ends at once
        signal.alarm(GRACE)
        raise Stopped(_code)
    if int(os.environ.get("RANK", 0)) == 0:
        os.write(2, f"\n{_message}\n".encode())
    os._exit(_code)


def _is_script() -> bool:
    """Whether the program is a script of this repository, and not e.g. a test that imports one."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    return path is not None and Path(path).resolve().parent == ROOT


if _is_script():
    for _signal in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(_signal) != signal.SIG_IGN:  # a shell's background jobs ignore Ctrl-C
            signal.signal(_signal, _handle)
    signal.signal(signal.SIGALRM, _handle)
