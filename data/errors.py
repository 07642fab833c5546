"""The one exception of this folder."""


class DataError(ValueError):
    """Data is missing, damaged or too small for what is asked of it; the message says what to do."""
