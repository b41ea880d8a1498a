"""Session ids that nobody else uses: tests share servers."""

from __future__ import annotations

import itertools
import os

_numbers = itertools.count(1)


def new_id(what: str = "session") -> str:
    """An id of its own for one session."""
    return f"{what}-{os.getpid()}-{next(_numbers)}"
