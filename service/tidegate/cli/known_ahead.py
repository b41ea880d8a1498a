"""What is known of the coming steps of a session, for `tidegate forecast`: a file's columns and the calendar.

The steps behind a session's newest row have times, where the user says that row's or the file has a column
with theirs. The calendar's features are computed from them, as `model/steps.py` does for a step itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, pairwise

import numpy as np

from tidegate.client import ModelInfo, TensorSpec
from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.calendar_inputs import calendar_inputs, coming_times
from tidegate.model.csv_table import CsvTable
from tidegate.model.parsing import parse_cell, parse_time
from tidegate.model.time_rules import TimeRules, feature_names
from tidegate.tensor import Array


@dataclass(frozen=True)
class KnownColumns:
    """What a file says of coming steps.

    Attributes:
        values: By name of the inputs that have a column, `[rows, step_shape...]`; NaN where the file has
            no number.
        times: Of each row, in UTC; empty for a file without the model's time column.
    """

    values: Mapping[str, Array]
    times: Sequence[datetime]


NOTHING = KnownColumns({}, ())


def read_known_columns(
    model: ModelInfo, lines: Iterable[str], *, num_steps: int, source: str
) -> KnownColumns:
    """Read what is known of coming steps: any of the model's columns, with cells left empty at will.

    Args:
        model: Whose columns.
        lines: The file.
        num_steps: Coming steps; rows behind them are not read.
        source: What to call the file in an error.

    Raises:
        ConfigError: No column is the model's, one is there twice, or there are no rows.
        InvalidRequest: A row is malformed, or a cell is no number of its input's type, or no time; names row
            and column.
    """
    table = CsvTable(lines, source=source)
    present, time_column = _present(model, table, source)
    names = [time_column, *(name for spec in present for name in feature_names(spec))]
    positions = {name: table.position(name) for name in names if name and name in table.header}
    rows: list[list[list[float]]] = []
    times: list[datetime] = []
    for record in islice(table, num_steps):
        cells = {name: record[position] for name, position in positions.items()}
        try:
            rows.append([[_known(cells, name, spec) for name in feature_names(spec)] for spec in present])
            if time_column:
                times.append(_time(cells[time_column], model.time))
        except InvalidRequest as error:
            raise table.refusal(str(error)) from None
    if not rows:
        raise ConfigError(f"{source}: expected at least one row under the header, got none")
    values = {
        spec.name: np.array([row[i] for row in rows], spec.dtype.numpy).reshape(len(rows), *spec.step_shape)
        for i, spec in enumerate(present)
    }
    return KnownColumns(values, times)


def step_times(
    rules: TimeRules, newest: datetime | None, known: KnownColumns, num_steps: int
) -> list[datetime]:
    """The times of the coming steps, in UTC; none where nothing tells them all.

    Args:
        rules: The model's, whose cadence it is.
        newest: Time of the session's newest row; the file's times must agree with it.
        known: The file. Where it has fewer rows than there are steps, its last time is gone on from.
        num_steps: How many steps.

    Raises:
        ConfigError: `newest` is given, and the model does not say its cadence.
        InvalidRequest: The file's times are not those of the coming steps.
    """
    told = list(known.times)
    if newest is not None:
        times = coming_times(rules, newest, num_steps)
        _check_agree(told, times, rules, "the session's newest row", begin=1)
        return told + times[len(told) :]
    _check_order(told, rules)
    if len(told) == num_steps:
        return told
    is_gone_on_from = bool(told) and rules.cadence_s > 0
    return told + coming_times(rules, told[-1], num_steps - len(told)) if is_gone_on_from else []


def future_of(model: ModelInfo, known: KnownColumns, times: Sequence[datetime]) -> dict[str, Array]:
    """The future inputs: what the file knows, with the calendar of the steps' times written into it.

    A model whose last answer looks ahead by itself takes none, so none come from the calendar either.
    """
    future = dict(known.values)
    if not times or model.forecast_mode == "direct":
        return future
    computed = model.time.computed_features
    for name, calendar in calendar_inputs(model.inputs, model.time, times).items():
        spec = next(spec for spec in model.inputs if spec.name == name)
        is_read = [feature not in computed for feature in feature_names(spec)]
        flat = calendar.reshape(len(times), -1)
        if name in future:
            rows = future[name].reshape(len(future[name]), -1)
            flat[: len(rows), is_read] = rows[:, is_read]
        future[name] = flat.reshape(calendar.shape)
    return future


def _present(model: ModelInfo, table: CsvTable, source: str) -> tuple[list[TensorSpec], str]:
    """The inputs that have a column, and the column of times; "" where there is none."""
    computed = model.time.computed_features
    by_input = {spec: [n for n in feature_names(spec) if n not in computed] for spec in model.inputs}
    present = [spec for spec, names in by_input.items() if set(names) & set(table.header)]
    time_column = model.time.column if model.time.column in table.header else ""
    if not present and not time_column:
        names = [name for names in by_input.values() for name in names]
        expected = ", ".join([*names, *filter(None, [model.time.column])])
        raise ConfigError(f"{source}: expected one of the columns {expected}, got {', '.join(table.header)}")
    return present, time_column


def _check_order(told: Sequence[datetime], rules: TimeRules) -> None:
    """A row that is missing would move all that is known behind it a step ahead."""
    if told and rules.cadence_s:
        expected = [told[0], *coming_times(rules, told[0], len(told) - 1)]
        _check_agree(told, expected, rules, "row 1", begin=0)
    for number, (before, time) in enumerate(pairwise(told), 2):
        if time <= before:
            raise InvalidRequest(
                f"row {number}: expected a time behind {before.isoformat()}, got {time.isoformat()}"
            )


def _check_agree(
    told: Sequence[datetime], expected: Sequence[datetime], rules: TimeRules, origin: str, *, begin: int
) -> None:
    for number, (time, other) in enumerate(zip(told, expected, strict=False)):
        if abs((time - other).total_seconds()) >= rules.cadence_s / 2:
            count = number + begin
            raise InvalidRequest(
                f"row {number + 1}: expected a time about {other.isoformat()}, {count} "
                f"{'step' if count == 1 else 'steps'} after {origin}, got {time.isoformat()}"
            )


def _known(cells: Mapping[str, str], name: str, spec: TensorSpec) -> float:
    """A cell; NaN where there is no number, which whole numbers do not have."""
    try:
        value = parse_cell(cells[name], spec.dtype) if name in cells else None
    except InvalidRequest as error:
        raise InvalidRequest(f"column {name!r}: {error}") from None
    if value is None and not spec.dtype.is_float:
        raise InvalidRequest(f"column {name!r}: expected a whole number, got a missing value")
    return math.nan if value is None else value


def _time(text: str, rules: TimeRules) -> datetime:
    try:
        return parse_time(text, rules.zone)
    except InvalidRequest as error:
        raise InvalidRequest(f"column {rules.column!r}: {error}") from None
