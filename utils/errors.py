"""The one exception for errors that the user can fix, and names made fit to be shown."""


class UserError(Exception):
    """An error the user can fix; shown as one line without a traceback, exit code 2."""


def printable(text: str) -> str:
    """Return a text with escapes for what does not print: control characters, bytes that are not UTF-8."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
