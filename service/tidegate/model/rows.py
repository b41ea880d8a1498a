"""The rows of a CSV file as steps, one by one, so that a file of any length can be streamed.

The columns are found by the names of the features; what becomes of times and missing values is the
`StepMaker`'s to say. A row that cannot be a step is refused with its number, and reading may go on after
it: the caller decides. Rows count from 1, the header not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from tidegate.errors import InvalidRequest
from tidegate.model.csv_table import CsvTable
from tidegate.model.parsing import parse_cell, parse_time
from tidegate.model.steps import StepMaker, Steps
from tidegate.model.time_rules import FeatureInput, TimeRules, feature_names
from tidegate.tensor import Array


@dataclass(frozen=True)
class Row:
    """A row of a file, and the steps that it makes.

    Attributes:
        number: Counts the data rows from 1.
        steps: Those that fill the gap before the row, then its own; none where the rules drop it.
    """

    number: int
    steps: Steps

    @property
    def time(self) -> datetime | None:
        """The row's time in UTC; None where the file has no time column, and for a dropped row."""
        return self.steps.times[-1] if self.steps.times else None

    @property
    def values(self) -> tuple[Array, ...]:
        """The row's own values: per input an array of `step_shape`. A dropped row has none: IndexError."""
        return tuple(values[-1] for values in self.steps.values)

    @property
    def filled(self) -> frozenset[str]:
        """Features whose cell was missing and was filled or masked."""
        return self.steps.filled


class RowReader(Iterator[Row]):
    """The steps of a CSV file, row by row.

    Iterating raises InvalidRequest for a row that is refused; the next row is then still to be had.
    Not thread-safe.
    """

    def __init__(
        self, lines: Iterable[str], inputs: Sequence[FeatureInput], rules: TimeRules, *, source: str
    ) -> None:
        """Read the header.

        Args:
            lines: The file, or whatever yields its lines.
            inputs: The model's inputs, whose features are columns or come from the calendar.
            rules: The model's rules about time.
            source: What to call the file in an error.

        Raises:
            ConfigError: The file is empty, a column is missing or there twice, or an input cannot come
                from columns.
        """
        self._table = CsvTable(lines, source=source)
        self._maker = StepMaker(inputs, rules)
        names = {name: None for spec in inputs for name in feature_names(spec)}
        computed = rules.computed_features
        self._positions = {name: self._table.position(name) for name in names if name not in computed}
        self._zone = rules.zone
        self._time_position = None
        # A column without a name, which tables with an index have, is not the one that the rules do not name.
        if rules.column and (rules.column in self.header or computed & set(names)):
            self._time_position = self._table.position(rules.column)

    @property
    def header(self) -> tuple[str, ...]:
        """The file's column names."""
        return self._table.header

    @property
    def time_column(self) -> str | None:
        """The column that the rows' times come from; None where the file has none."""
        return None if self._time_position is None else self.header[self._time_position]

    @property
    def time_text(self) -> str:
        """The time of the newest row as the file has it, refused or not; "" where it has none."""
        position, record = self._time_position, self._table.newest
        return "" if position is None or position >= len(record) else record[position]

    @property
    def num_rows(self) -> int:
        """Rows read so far, refused and dropped ones too."""
        return self._table.num_rows

    @property
    def num_filled(self) -> int:
        """Steps that filled gaps between rows so far."""
        return self._maker.num_filled

    @property
    def num_dropped(self) -> int:
        """Rows dropped so far, because their times repeated, went back or came too early."""
        return self._maker.num_dropped

    def __next__(self) -> Row:
        """The next row.

        Raises:
            InvalidRequest: The row cannot be a step: cells are missing, not numbers or not finite, or its
                time does not follow. Names the row and the column.
        """
        record = next(self._table)
        try:
            time = None if self._time_position is None else parse_time(self.time_text, self._zone)
            steps = self._maker.make(
                time, lambda name, dtype: parse_cell(record[self._positions[name]], dtype)
            )
        except InvalidRequest as error:
            raise self._table.refusal(str(error)) from None
        return Row(self.num_rows, steps)
