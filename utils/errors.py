"""The one exception for errors that the user can fix."""

import contextlib
from collections.abc import Iterator


class UserError(Exception):
    """An error the user can fix; shown as one line without a traceback, exit code 2."""


@contextlib.contextmanager
def value_errors_as(message: str) -> Iterator[None]:
    """Turn a ValueError within into a UserError "<message>: <its text>"."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{message}: {error}") from error
