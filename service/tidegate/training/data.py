"""The series that a recipe names, read by the same time rules as the client's and the CLI's.

Rows are split by time: what comes first is trained on, then validation, then the held-out rows. A
forecast belongs to a split when both the row it is made at and the row it speaks of lie in it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.manifest import BATCH, TIME, InputSpec
from tidegate.model.time_rules import RowReader
from tidegate.tensor import Array, BoolArray, DType
from tidegate.training.recipe import DataRecipe, Recipe

INPUT_NAME = "x"


@dataclass(frozen=True)
class Series:
    """A series as the model sees it.

    Attributes:
        days: Day of each row, [N], datetime64[D].
        values: Raw values with missing ones filled, [N, F], float32.
        target: The column that is forecast, [N], float32.
        observed: Whether the target was measured at a row and not filled, [N].
        sha256: Of the file's bytes, in hex.
    """

    days: Array
    values: Array
    target: Array
    observed: BoolArray
    sha256: str

    def rows_from(self, day: dt.date) -> int:
        """Number of rows before a day."""
        return int(np.searchsorted(self.days, np.datetime64(day)))

    def futures(self, horizons: int, rows: slice) -> tuple[Array, BoolArray]:
        """What the forecasts made at `rows` speak of.

        Args:
            horizons: Longest horizon, K.
            rows: The split; targets outside of it do not count.

        Returns:
            The target 1 to K steps after each row, [rows, K], float32, and where it counts: it lies in
            the split and was measured.
        """
        ahead = np.arange(rows.start, rows.stop)[:, None] + np.arange(1, horizons + 1)
        inside = ahead < rows.stop
        ahead = np.where(inside, ahead, rows.start)
        return self.target[ahead], inside & self.observed[ahead]


@dataclass(frozen=True)
class Split:
    """The rows of each part, in the order of time."""

    train: slice
    validation: slice
    test: slice


def input_spec(data: DataRecipe, *, has_time_axis: bool = True) -> InputSpec:
    """The model's one input: the recipe's columns as features."""
    axes = (BATCH, TIME) if has_time_axis else (BATCH,)
    return InputSpec(
        name=INPUT_NAME,
        dtype=DType.FLOAT32,
        shape=(*axes, len(data.columns)),
        features=tuple(c.name for c in data.columns),
        units=tuple(c.unit for c in data.columns),
    )


def read_series(path: Path, data: DataRecipe) -> Series:
    """Read the whole file.

    Raises:
        ConfigError: No such file, a column is missing, or a row is refused; names file and row.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    reader = RowReader(
        content.decode("utf-8-sig", errors="replace").splitlines(),
        [input_spec(data)],
        data.time,
        source=str(path),
    )
    if data.time.column not in reader.header:
        raise ConfigError(
            f"{path}: time column {data.time.column!r}: no such column; got {', '.join(reader.header)}"
        )
    try:
        rows = list(reader)
    except InvalidRequest as error:
        raise ConfigError(f"{path}: {error}") from error
    values = np.array([row.values[0] for row in rows], np.float32).reshape(-1, len(data.columns))
    position = [c.name for c in data.columns].index(data.target)
    return Series(
        days=np.array([row.time.date() for row in rows if row.time], "datetime64[D]"),
        values=values,
        target=np.ascontiguousarray(values[:, position]),
        observed=np.array([data.target not in row.filled for row in rows], np.bool_),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def split_series(series: Series, recipe: Recipe) -> Split:
    """Cut a series as the recipe says.

    Raises:
        ConfigError: A part is too short for the longest lag and horizon.
    """
    validation = series.rows_from(recipe.data.validation_from)
    test = series.rows_from(recipe.data.test_from)
    parts = Split(slice(0, validation), slice(validation, test), slice(test, len(series.target)))
    horizon = recipe.forecast.max_horizon_steps
    run = recipe.training.run_chunks * recipe.training.chunk_steps
    needed = {
        "train": max(recipe.network.lags[-1], run) + horizon,
        "validation": horizon + 1,
        "test": horizon + 1,
    }
    for name, count in needed.items():
        part: slice = getattr(parts, name)
        if part.stop - part.start < count:
            raise ConfigError(f"{name} split: expected at least {count} rows, got {part.stop - part.start}")
        measured = series.futures(horizon, part)[1].any(0)
        if not measured.all():
            ahead = int(np.argmin(measured)) + 1
            raise ConfigError(f"{name} split: expected measured values {ahead} steps ahead, got none")
    return parts
