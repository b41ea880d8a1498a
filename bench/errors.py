"""What makes a measurement worthless."""


class BenchError(Exception):
    """A run that cannot be trusted: an answer carried an error, or a process did not do its part."""
