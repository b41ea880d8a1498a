"""A CSV text as rows of cells under a header, one by one; the one reading of such files.

Rows count from 1, the header not counted, and blank lines are none. A row that is malformed is refused with
its number, and reading may go on after it. What the cells mean is others' to say.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from tidegate.errors import ConfigError, InvalidRequest


class CsvTable(Iterator[list[str]]):
    """The rows of a file, each with as many cells as the header.

    Attributes:
        header: The column names.
        newest: The cells of the newest row, malformed or not; empty before the first one.
        num_rows: Rows read so far, malformed ones too.
    """

    def __init__(self, lines: Iterable[str], *, source: str) -> None:
        """Read the header.

        Args:
            lines: The file, or whatever yields its lines, ends of lines included.
            source: What to call the file in an error.

        Raises:
            ConfigError: The file is empty, or its header no CSV.
        """
        self._source = source
        self._records = csv.reader(_without_mark(lines))
        try:
            names = next(self._records, [])
        except csv.Error as error:
            raise ConfigError(f"{source}: expected a header with column names: {error}") from None
        self.header = tuple(name.strip() for name in names)
        if not self.header:
            raise ConfigError(f"{source}: expected a header with column names, got an empty file")
        self.newest: list[str] = []
        self.num_rows = 0

    def __next__(self) -> list[str]:
        """The cells of the next row.

        Raises:
            InvalidRequest: It is malformed, or has not one cell per column; names the row.
        """
        self.newest = []
        self.num_rows += 1
        try:
            self.newest = next(record for record in self._records if record)
        except csv.Error as error:
            raise self.refusal(str(error)) from None
        except StopIteration:
            self.num_rows -= 1
            raise
        if len(self.newest) != len(self.header):
            raise self.refusal(f"expected {len(self.header)} cells, got {len(self.newest)}")
        return self.newest

    def position(self, name: str) -> int:
        """Where a column stands.

        Raises:
            ConfigError: It is not there, or twice.
        """
        if self.header.count(name) != 1:
            problem = "more than once" if name in self.header else "no such column"
            raise ConfigError(f"{self._source}: column {name!r}: {problem}; got {', '.join(self.header)}")
        return self.header.index(name)

    def refusal(self, problem: str) -> InvalidRequest:
        """The error that says what is wrong with the newest row."""
        return InvalidRequest(f"row {self.num_rows}: {problem}")


def lines_of(content: bytes, *, source: str) -> Iterable[str]:
    """The lines of a file that was read whole, the same that a stream of it has.

    Args:
        content: The file's bytes.
        source: What to call the file in an error.

    Raises:
        ConfigError: It is no UTF-8 text.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: expected UTF-8 text: {error}") from error
    return io.StringIO(text, newline="")


def _without_mark(lines: Iterable[str]) -> Iterator[str]:
    """The lines without the byte order mark that some programs write first."""
    for number, line in enumerate(lines):
        yield line if number else line.removeprefix("\ufeff")
