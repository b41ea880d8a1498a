"""How a file of values becomes steps: the one reading of time that training, client and CLI share.

A `RowReader` takes the lines of a CSV file one by one, so a file of any length can be streamed, and gives
for each data row the values of the model's inputs. The columns are found by the names of the features.
A row that cannot be a step is refused with its number, and reading may go on after it: the caller
decides. Rows count from 1, the header not counted, so row n is step n - 1 where none is refused.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import numpy as np

from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.manifest import InputSpec, TimeRules
from tidegate.tensor import Array, DType

GAP_FACTOR = 1.5
"""A stamp this many cadences after the one before means that a row is missing. Calendar months differ
by a tenth and clocks jitter, so exactly one cadence would be too strict."""

_MISSING = ("", "nan", "na", "null", "none")


@dataclass(frozen=True)
class Row:
    """One step as a file holds it.

    Attributes:
        number: Counts the data rows from 1.
        time: The row's stamp; None where the file has no time column.
        values: Per input, in the manifest's order, an array of `step_shape`.
        filled: Features whose cell was missing and was filled by the manifest's rule.
    """

    number: int
    time: datetime | None
    values: tuple[Array, ...]
    filled: frozenset[str]


class TimeOrder:
    """Refuses stamps that do not follow the one before by about one cadence."""

    def __init__(self, cadence_s: float) -> None:
        self._cadence_s = cadence_s
        self._newest: datetime | None = None

    def accept(self, time: datetime, number: int) -> None:
        """Take the stamp of row `number`.

        Raises:
            InvalidRequest: It repeats or precedes an earlier stamp, or a row is missing before it. A stamp
                after a gap still counts as the newest, so that the rows behind it are accepted.
        """
        previous, self._newest = self._newest, max(self._newest or time, time)
        if previous is None:
            return
        if time <= previous:
            relation = "repeats" if time == previous else "goes back behind"
            raise InvalidRequest(f"row {number}: time {_text(time)} {relation} {_text(previous)}")
        elapsed_s = (time - previous).total_seconds()
        if self._cadence_s and elapsed_s >= GAP_FACTOR * self._cadence_s:
            expected = f"expected {self._cadence_s:g} s after {_text(previous)}, got {elapsed_s:g} s"
            raise InvalidRequest(f"row {number}: time {_text(time)} leaves a gap: {expected}")


class RowReader(Iterator[Row]):
    """The steps of a CSV file, row by row.

    Iterating raises InvalidRequest for a row that is refused; the next row is then still to be had.
    Not thread-safe.

    Attributes:
        header: The file's column names.
        time_text: The stamp of the newest row as the file has it, refused or not; "" where it has none.
    """

    def __init__(
        self, lines: Iterable[str], inputs: Sequence[InputSpec], rules: TimeRules, *, source: str
    ) -> None:
        """Read the header.

        Args:
            lines: The file, or whatever yields its lines.
            inputs: The model's inputs, whose features are columns.
            rules: The manifest's rules about time.
            source: What to call the file in an error.

        Raises:
            ConfigError: The file is empty, a column is missing or there twice, or an input cannot come
                from columns.
        """
        self._records = csv.reader(_without_mark(lines))
        self._source = source
        self.header = tuple(name.strip() for name in next(self._records, []))
        if not self.header:
            raise ConfigError(f"{source}: expected a header with column names, got an empty file")
        self._inputs = tuple(inputs)
        self._columns = tuple(tuple((name, self._position(name)) for name in column_names(i)) for i in inputs)
        self._missing = rules.missing
        self._time_position = self.header.index(rules.column) if rules.column in self.header else None
        self._order = TimeOrder(rules.cadence_s)
        self._last: dict[str, float] = {}
        self._number = 0
        self.time_text = ""

    def __next__(self) -> Row:
        """The next row.

        Raises:
            InvalidRequest: The row cannot be a step: cells are missing, not numbers or not finite, or its
                time does not follow. Names the row and the column.
        """
        self.time_text = ""
        record = self._next_record()
        self.time_text = self._stamp(record)
        if len(record) != len(self.header):
            raise self._refusal(f"expected {len(self.header)} cells, got {len(record)}")
        time = self._time(record)
        filled: set[str] = set()
        values = tuple(
            np.array([self._cell(record, c, i, filled) for c in columns], i.dtype.numpy).reshape(i.step_shape)
            for i, columns in zip(self._inputs, self._columns, strict=True)
        )
        return Row(self._number, time, values, frozenset(filled))

    def _stamp(self, record: Sequence[str]) -> str:
        position = self._time_position
        return "" if position is None or position >= len(record) else record[position]

    def _next_record(self) -> list[str]:
        self._number += 1
        try:
            return next(record for record in self._records if record)
        except csv.Error as error:
            raise self._refusal(str(error)) from None

    def _time(self, record: Sequence[str]) -> datetime | None:
        if self._time_position is None:
            return None
        try:
            time = parse_time(record[self._time_position])
        except InvalidRequest as error:
            raise self._refusal(str(error)) from None
        self._order.accept(time, self._number)
        return time

    def _cell(
        self, record: Sequence[str], column: tuple[str, int], spec: InputSpec, filled: set[str]
    ) -> float:
        name, position = column
        text = record[position].strip()
        if text.lower() in _MISSING:
            return self._fill(name, spec, filled)
        try:
            value = parse_number(text, spec.dtype)
        except InvalidRequest as error:
            raise self._refusal(f"column {name!r}: {error}") from None
        self._last[name] = value
        return value

    def _fill(self, name: str, spec: InputSpec, filled: set[str]) -> float:
        if spec.accepts_missing:
            filled.add(name)
            return math.nan
        if self._missing == "refuse":
            raise self._refusal(f"column {name!r}: expected a number, got a missing value")
        if name not in self._last:
            raise self._refusal(f"column {name!r}: missing value, and none before it to repeat")
        filled.add(name)
        return self._last[name]

    def _position(self, name: str) -> int:
        if self.header.count(name) != 1:
            problem = "more than once" if name in self.header else "no such column"
            raise ConfigError(f"{self._source}: column {name!r}: {problem}; got {', '.join(self.header)}")
        return self.header.index(name)

    def _refusal(self, problem: str) -> InvalidRequest:
        return InvalidRequest(f"row {self._number}: {problem}")


def column_names(spec: InputSpec) -> tuple[str, ...]:
    """The columns that feed an input: its features or, for a single number without one, its own name.

    Raises:
        ConfigError: The input has more elements than named features.
    """
    width = math.prod(spec.step_shape)
    names = spec.features or (spec.name,)
    if len(names) != width:
        raise ConfigError(f"input {spec.name!r}: {width} elements but {len(spec.features)} named features")
    return names


def parse_number(text: str, dtype: DType) -> float:
    """A finite number that an input of this type can hold.

    Raises:
        InvalidRequest: It is none.
    """
    kind = "number" if dtype.is_float else "whole number"
    try:
        value = float(text) if dtype.is_float else int(text)
    except ValueError:
        raise InvalidRequest(f"expected a {kind}, got {text!r}") from None
    if "_" in text:  # Python's digit grouping; in a file it is a slip
        raise InvalidRequest(f"expected a {kind}, got {text!r}")
    if not math.isfinite(value):
        raise InvalidRequest(f"expected a finite number, got {text!r}")
    low, high = _range(dtype)
    if not low <= value <= high:
        raise InvalidRequest(f"expected a number that fits {dtype}, got {text!r}")
    return value


def parse_time(text: str) -> datetime:
    """An ISO 8601 date or date and time; UTC where it names no zone.

    Raises:
        InvalidRequest: It is neither.
    """
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidRequest(f"expected an ISO 8601 date or time, got {text!r}") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


@cache
def _range(dtype: DType) -> tuple[float, float]:
    if dtype is DType.BOOL:
        return 0, 1
    if dtype.is_float:
        largest = float(np.finfo(dtype.numpy).max)
        return -largest, largest
    limits = np.iinfo(dtype.numpy)
    return limits.min, limits.max


def _without_mark(lines: Iterable[str]) -> Iterator[str]:
    """The lines without the byte order mark that some programs write first."""
    for number, line in enumerate(lines):
        yield line if number else line.removeprefix("\ufeff")


def _text(time: datetime) -> str:
    return time.isoformat(sep=" ", timespec="auto").removesuffix("+00:00").removesuffix(" 00:00:00")
