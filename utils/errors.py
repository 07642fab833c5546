"""The one exception for what the user can mend."""


class Fault(Exception):
    """Ends a script with its message as one line on standard error and exit code 2."""
