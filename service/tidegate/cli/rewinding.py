"""Lines that can be read twice, whatever they come from: what was read of a pipe is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from tempfile import SpooledTemporaryFile

MAX_MEMORY_BYTES = 16 * 1024 * 1024
"""More than that goes to a file."""


class Rewindable(Iterator[str], AbstractContextManager["Rewindable"]):
    """Lines that are kept as they are read, until `rewind` or `go_on`."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._kept = SpooledTemporaryFile(MAX_MEMORY_BYTES, "w+", encoding="utf-8", newline="")  # noqa: SIM115 - closed in __exit__
        self._is_keeping = True
        self._is_behind = False

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    def __next__(self) -> str:
        if self._is_behind:
            line = self._kept.readline()
            if line:
                return line
            self._is_behind = False
        line = next(self._lines)
        if self._is_keeping:
            self._kept.write(line)
        return line

    def rewind(self) -> None:
        """Begin again with the first line; once."""
        self._kept.seek(0)
        self._is_keeping, self._is_behind = False, True

    def go_on(self) -> None:
        """Keep no more: they will not be read again."""
        self._is_keeping = False
