"""The one exception for errors that the user can fix."""


class UserError(Exception):
    """An error the user can fix; shown as one line without a traceback, exit code 2."""
