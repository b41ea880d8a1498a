"""What is known of the coming steps of a session, for `tidegate forecast`: a file's columns and the calendar.

The steps behind a session's newest row have times, where the user says that row's or the file has a column
with theirs. The calendar's features are computed from them, as `model/steps.py` does for a step itself.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from tidegate.client import ModelInfo, TensorSpec
from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.calendar_inputs import calendar_inputs, coming_times
from tidegate.model.parsing import parse_number, parse_time
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


def read_known_columns(model: ModelInfo, lines: Iterable[str], *, source: str) -> KnownColumns:
    """Read what is known of coming steps: any of the model's columns, with cells left empty at will.

    Raises:
        ConfigError: No column is the model's.
        InvalidRequest: A cell is no number of its input's type, or no time; names row and column.
    """
    reader = csv.DictReader(lines)
    header = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    computed = model.time.computed_features
    by_input = {spec: [n for n in feature_names(spec) if n not in computed] for spec in model.inputs}
    present = [spec for spec, names in by_input.items() if set(names) & set(header)]
    has_times = bool(model.time.column) and model.time.column in header
    if not present and not has_times:
        names = [name for names in by_input.values() for name in names]
        expected = ", ".join([*names, *filter(None, [model.time.column])])
        raise ConfigError(
            f"{source}: expected one of the columns {expected}, got {', '.join(header) or 'none'}"
        )
    rows = list(reader)
    values = {
        spec.name: np.array(
            [[_known(row, name, k, spec) for name in feature_names(spec)] for k, row in enumerate(rows, 1)],
            spec.dtype.numpy,
        ).reshape(len(rows), *spec.step_shape)
        for spec in present
    }
    times = [_time(row, k, model.time) for k, row in enumerate(rows, 1)] if has_times else []
    return KnownColumns(values, times)


def step_times(
    model: ModelInfo, newest: datetime | None, known: KnownColumns, num_steps: int
) -> list[datetime]:
    """The times of the coming steps, in UTC; none where nothing tells them all.

    Args:
        model: Whose cadence.
        newest: Time of the session's newest row; the file's times must agree with it.
        known: The file. Where it has fewer rows than there are steps, its last time is gone on from.
        num_steps: How many steps.

    Raises:
        ConfigError: `newest` is given, and the model does not say its cadence.
        InvalidRequest: The file's times are not those of the coming steps.
    """
    told = list(known.times[:num_steps])
    if newest is not None:
        times = coming_times(model.time, newest, num_steps)
        _check_agree(told, times, tolerance_s=model.time.cadence_s / 2)
        return told + times[len(told) :]
    if len(told) == num_steps:
        return told
    is_gone_on_from = bool(told) and model.time.cadence_s > 0
    return told + coming_times(model.time, told[-1], num_steps - len(told)) if is_gone_on_from else []


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
            rows = future[name].reshape(len(future[name]), -1)[: len(times)]
            flat[: len(rows), is_read] = rows[:, is_read]
        future[name] = flat.reshape(calendar.shape)
    return future


def _check_agree(told: Sequence[datetime], expected: Sequence[datetime], *, tolerance_s: float) -> None:
    for number, (time, other) in enumerate(zip(told, expected, strict=False), 1):
        if abs((time - other).total_seconds()) >= tolerance_s:
            raise InvalidRequest(
                f"row {number}: expected a time about {other.isoformat()}, {number} steps after the session's "
                f"newest row, got {time.isoformat()}"
            )


def _known(row: dict[str, str | None], name: str, number: int, spec: TensorSpec) -> float:
    text = (row.get(name) or "").strip()
    if not text and spec.dtype.is_float:
        return math.nan
    try:
        return parse_number(text, spec.dtype)
    except InvalidRequest as error:
        raise InvalidRequest(f"row {number}: column {name!r}: {error}") from None


def _time(row: dict[str, str | None], number: int, rules: TimeRules) -> datetime:
    try:
        return parse_time(row.get(rules.column) or "", rules.zone)
    except InvalidRequest as error:
        raise InvalidRequest(f"row {number}: column {rules.column!r}: {error}") from None
