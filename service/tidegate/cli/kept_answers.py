"""What an earlier run of `tidegate stream` left in its output file, so that the next one goes on there.

Every row of input has one row of output, written once it is answered. So the rows that are whole say
which input rows are done; what steps those were, the input says (`cli/replaying.py`). What a killed run
had written of one more row is no row, and is cut off.

A file whose first row was not step 0 of its session has a note beside it, written before the file's
first line, that says which step it was.
"""

from __future__ import annotations

import csv
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tidegate.errors import ConfigError

NOTE_SUFFIX = ".first-step"


@dataclass(frozen=True)
class KeptAnswers:
    """The whole rows of an output file.

    Attributes:
        num_bytes: Length of the header and the rows.
        answered: Per row 1 if it has answers, 0 if its input row was skipped or dropped.
        first_step: Step of the first answered row.
        times: Per row the `time_mark` of its time; empty where there is no time column.
    """

    num_bytes: int
    answered: bytes
    first_step: int
    times: Sequence[int] = ()

    def is_of(self, row: int, time: str) -> bool:
        """Whether a row, counted from 0, is of an input row with this time, as far as can be told."""
        return not self.times or self.times[row] == time_mark(time)


def time_mark(text: str) -> int:
    """What is kept in memory of a row's time: a file may have more rows than memory has room for texts."""
    return zlib.crc32(text.encode())


def read_kept(path: Path, columns: Sequence[str], *, has_time: bool) -> KeptAnswers | None:
    """Read what a file has.

    Args:
        path: The output file.
        columns: Its header, as this run would write it.
        has_time: Whether the first column is the input's time, which skipped rows have too.

    Returns:
        None where there is no file, or not even a whole header in it: no step was sent by then. None for
        a pipe or a device, too.

    Raises:
        ConfigError: It is no output of this model, or cannot be read.
    """
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            return _read(file, path, list(columns), has_time=has_time)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def note_first_step(path: Path, step: int) -> None:
    """Remember, before anything is written to a new output file, which step its first answer is of.

    A pipe or a device cannot be gone on with, and gets no note.

    Raises:
        ConfigError: The note cannot be written.
    """
    if not path.is_file():
        return
    note = _note(path)
    try:
        if step == 0:
            note.unlink(missing_ok=True)
            return
        part = note.with_name(note.name + ".part")
        part.write_text(f"{step}\n", encoding="ascii")
        part.replace(note)
    except OSError as error:
        raise ConfigError(f"{note}: {error.strerror}") from error


def _read(file: BinaryIO, path: Path, columns: list[str], *, has_time: bool) -> KeptAnswers | None:
    answered, times, num_bytes = bytearray(), array("I"), 0
    for number, record in enumerate(_whole_records(file)):
        num_bytes += len(record)
        cells = _cells(record, path, number)
        if number == 0 and cells != columns:
            raise ConfigError(
                f"{path}: expected a file of answers with the columns {', '.join(columns)}, to go on with; "
                f"got the columns {', '.join(cells)}"
            )
        if len(cells) != len(columns):
            raise ConfigError(f"{path}: row {number}: expected {len(columns)} cells, got {len(cells)}")
        if number:
            answered.append(any(cells[has_time:]))
            times.extend(time_mark(cells[0]) for _ in range(has_time))
    if not num_bytes:
        return None
    return KeptAnswers(num_bytes, bytes(answered), _first_step(path), times)


def _cells(record: bytes, path: Path, number: int) -> list[str]:
    try:
        return next(csv.reader([record.decode(errors="replace")]))
    except csv.Error as error:
        raise ConfigError(f"{path}: row {number}: {error}") from None


def _whole_records(file: BinaryIO) -> Iterator[bytes]:
    """The records that end with a line break; one inside quotes ends none."""
    record = b""
    for line in file:
        record += line
        if line.endswith(b"\n") and record.count(b'"') % 2 == 0:
            yield record
            record = b""


def _first_step(path: Path) -> int:
    note = _note(path)
    try:
        return int(note.read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0
    except ValueError:
        raise ConfigError(f"{note}: expected the number of a step") from None


def _note(path: Path) -> Path:
    return path.with_name(path.name + NOTE_SUFFIX)
