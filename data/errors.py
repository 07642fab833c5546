"""The one exception of this folder."""


class DataError(Exception):
    """Data or a picture is missing or damaged; the message says which file and what to do."""
