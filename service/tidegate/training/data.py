"""The series that a recipe names, read by the same time rules as the client's and the CLI's.

A series has steps, as a session has: those that fill gaps are among them, and rows that the rules drop are
not. In what follows a row is a step of the series. Rows are split by time: what comes first is trained on,
then validation, then the held-out rows. A forecast belongs to a split when both the row it is made at and
the row it speaks of lie in it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.calendar_features import calendar_names
from tidegate.model.csv_table import lines_of
from tidegate.model.manifest import BATCH, TIME, InputSpec
from tidegate.model.rows import RowReader
from tidegate.model.steps import Steps
from tidegate.tensor import Array, BoolArray, DType
from tidegate.training.data_recipe import DataRecipe
from tidegate.training.recipe import Recipe

INPUT_NAME = "x"


@dataclass(frozen=True)
class Series:
    """A series as the model sees it.

    Attributes:
        times: Of the rows, in UTC, [N], datetime64[us].
        values: Raw values with missing ones filled, or NaN where the rules mask them; the recipe's columns,
            then the calendar, [N, F], float32.
        target: The column that is forecast, [N], or the columns, [N, M] where there are several; float32.
        observed: Whether the target was measured at a row and not filled, in the same shape.
        sha256: Of the file's bytes, in hex.
        num_filled: Rows that fill gaps in the file.
        num_dropped: Rows of the file that were dropped, because their times repeat, go back or come too early.
    """

    times: Array
    values: Array
    target: Array
    observed: BoolArray
    sha256: str
    num_filled: int = 0
    num_dropped: int = 0

    def rows_before(self, time: dt.datetime) -> int:
        """Number of rows before a time in UTC."""
        return int(np.searchsorted(self.times, _utc64(time)))

    def futures(self, horizons: int, rows: slice) -> tuple[Array, BoolArray]:
        """What the forecasts made at `rows` speak of.

        Args:
            horizons: Longest horizon, K.
            rows: The split; targets outside of it do not count.

        Returns:
            The target 1 to K steps after each row, [rows, K] or [rows, M, K], float32, and where it counts:
            it lies in the split and was measured. 0 where it does not.
        """
        ahead = np.arange(rows.start, rows.stop)[:, None] + np.arange(1, horizons + 1)
        inside = ahead < rows.stop
        ahead = np.where(inside, ahead, rows.start)
        counts = self.observed[ahead]
        if counts.ndim == 3:
            counts = counts & inside[..., None]
            return np.where(counts, self.target[ahead], 0).swapaxes(1, 2), counts.swapaxes(1, 2)
        counts = counts & inside
        return np.where(counts, self.target[ahead], 0), counts


@dataclass(frozen=True)
class Split:
    """The rows of each part, in the order of time."""

    train: slice
    validation: slice
    test: slice


def input_spec(data: DataRecipe, *, has_time_axis: bool = True) -> InputSpec:
    """The model's one input: the recipe's columns as features, then those of the calendar."""
    axes = (BATCH, TIME) if has_time_axis else (BATCH,)
    calendar = [name for cycle in data.time.calendar for name in calendar_names(cycle)]
    return InputSpec(
        name=INPUT_NAME,
        dtype=DType.FLOAT32,
        shape=(*axes, len(data.columns) + len(calendar)),
        features=(*(c.name for c in data.columns), *calendar),
        units=(*(c.unit for c in data.columns), *("" for _ in calendar)),
        accepts_missing=data.time.missing == "mask",
    )


def read_series(path: Path, data: DataRecipe) -> Series:
    """Read the whole file.

    Raises:
        ConfigError: No such file, no UTF-8 text, a column is missing, or a row is refused; names file and row.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    spec = input_spec(data)
    reader = RowReader(lines_of(content, source=str(path)), [spec], data.time, source=str(path))
    if reader.time_column is None:
        raise ConfigError(
            f"{path}: time column {data.time.column!r}: no such column; got {', '.join(reader.header)}"
        )
    try:
        rows = [row.steps for row in reader]
    except InvalidRequest as error:
        raise ConfigError(f"{path}: {error}") from error
    values = np.concatenate([np.empty((0, *spec.step_shape), np.float32), *(r.values[0] for r in rows)])
    observed = np.concatenate(
        [np.empty((0, len(data.targets)), np.bool_), *(_measured(r, data.targets) for r in rows)]
    )
    return Series(
        times=np.array([_utc64(t) for r in rows for t in r.times], "datetime64[us]"),
        values=values,
        target=_without_axis_of_one(values[:, data.target_positions]),
        observed=_without_axis_of_one(observed),
        sha256=hashlib.sha256(content).hexdigest(),
        num_filled=reader.num_filled,
        num_dropped=reader.num_dropped,
    )


def _utc64(time: dt.datetime) -> np.datetime64:
    return np.datetime64(time.replace(tzinfo=None), "us")


def _measured(steps: Steps, targets: Sequence[str]) -> BoolArray:
    """Per step of a row, whether each target was measured there."""
    measured = np.zeros((steps.num_steps, len(targets)), np.bool_)
    measured[-1:] = [target not in steps.filled for target in targets]
    return measured


def _without_axis_of_one(columns: Array) -> Array:
    return np.ascontiguousarray(columns[:, 0] if columns.shape[1] == 1 else columns)


def split_series(series: Series, recipe: Recipe) -> Split:
    """Cut a series as the recipe says.

    Raises:
        ConfigError: A part is too short for the longest lag and horizon, nothing was measured in it, or the season is
            longer than what comes before the held-out rows.
    """
    data, horizon = recipe.data, recipe.forecast.max_horizon_steps
    validation, test = series.rows_before(data.validation_begin), series.rows_before(data.test_begin)
    end = len(series.target) if data.test_end is None else series.rows_before(data.test_end)
    parts = Split(slice(0, validation), slice(validation, test), slice(test, end))
    needed = {
        "train": max(recipe.network.reach_steps, recipe.training.run_steps) + horizon,
        "validation": horizon + 1,
        "test": horizon + 1,
    }
    for name, count in needed.items():
        part: slice = getattr(parts, name)
        if part.stop - part.start < count:
            raise ConfigError(f"{name} split: expected at least {count} rows, got {part.stop - part.start}")
        measured = series.futures(horizon, part)[1].any(0).reshape(-1, horizon).all(0)
        if not measured.all():
            ahead = int(np.argmin(measured)) + 1
            raise ConfigError(f"{name} split: expected measured values {ahead} steps ahead, got none")
    _check_columns(series, data, parts.train)
    if recipe.forecast.season_steps > test:
        raise ConfigError(
            f"forecast.season_steps: expected at most {test}, the rows before the held-out ones, "
            f"got {recipe.forecast.season_steps}"
        )
    return parts


def _check_columns(series: Series, data: DataRecipe, rows: slice) -> None:
    """What was never measured has no mean and no scale."""
    is_missing = np.isnan(series.values[rows, : len(data.columns)])
    for column, values in zip(data.columns, is_missing.T, strict=True):
        if values.all():
            raise ConfigError(f"train split: column {column.name!r}: expected measured values, got none")
