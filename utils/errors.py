"""The one exception for errors that the user can fix, and names made fit to be shown."""

DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # what wrong contents raise
signals: list[int] = []  # what asks this process to end, see `check_signals`


class UserError(Exception):
    """An error the user can fix; shown as one line without a traceback, exit code 2."""


def check_signals() -> None:
    """Raise KeyboardInterrupt once a signal has come: what its handler throws into a destructor is lost."""
    if signals:
        raise KeyboardInterrupt(128 + signals[0])


def printable(text: str) -> str:
    """Return a text with escapes for what does not print: control characters, bytes that are not UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
