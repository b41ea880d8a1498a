"""A file as the session of a model sees it, and what really came: read by the model's rules about time.

What follows speaks of rows where it means steps of the series: those that fill gaps are among them, and
rows that the rules drop are not.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path

import numpy as np

from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.csv_table import lines_of
from tidegate.model.manifest import InputSpec, Manifest
from tidegate.model.rows import Row, RowReader
from tidegate.tensor import Array, DType


@dataclass(frozen=True)
class Series:
    """A whole file.

    Attributes:
        source: Name of the file, without its folder.
        sha256: Of the file's bytes, in hex.
        targets: Columns that are forecast, M.
        inputs: Per model input, what a session is fed with, [N, step_shape...].
        times: Of each row, in UTC; empty where the file has no time column.
        zone: That of the model's rules about time.
        time_column: Where they look for times; "" where they name no column.
        truth: The targets, [N, M], float64; NaN where a value was not measured.
        num_filled: Rows that fill gaps.
        num_dropped: Rows of the file that were dropped.
    """

    source: str
    sha256: str
    targets: tuple[str, ...]
    inputs: tuple[Array, ...]
    times: tuple[datetime, ...]
    zone: tzinfo
    time_column: str
    truth: Array
    num_filled: int = 0
    num_dropped: int = 0

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.truth)

    def rows_before(self, time: datetime) -> int:
        """How many rows lie before a time.

        Raises:
            ConfigError: The file has no times.
        """
        if not self.times:
            column = f"the time column {self.time_column!r}" if self.time_column else "a time column"
            raise ConfigError(f"{self.source}: expected {column}, because the split is by time")
        return bisect.bisect_left(self.times, time)


def read_series(path: Path, manifest: Manifest, targets: Sequence[str]) -> Series:
    """Read a whole file.

    Args:
        path: A CSV file with the model's features, its targets and, where the rules need it, the time.
        manifest: Of the model.
        targets: Columns that are forecast, whether the model is fed with them or not.

    Raises:
        ConfigError: No such file, no UTF-8 text, a column is missing, or a row is refused; names file and row.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    # What is forecast is read as one more input, by the same rules.
    truth = InputSpec(
        name="targets",
        dtype=DType.FLOAT64,
        shape=("batch", len(targets)),
        features=tuple(targets),
        accepts_missing=True,
    )
    lines = lines_of(content, source=str(path))
    reader = RowReader(lines, [*manifest.inputs, truth], manifest.time, source=str(path))
    try:
        rows = list(reader)
    except InvalidRequest as error:
        raise ConfigError(f"{path}: {error}") from error
    rows = [row for row in rows if row.steps.num_steps]
    if not rows:
        raise ConfigError(f"{path}: expected rows, got none")
    return Series(
        source=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        targets=tuple(targets),
        inputs=tuple(
            np.concatenate([row.steps.values[i] for row in rows]) for i in range(len(manifest.inputs))
        ),
        times=tuple(time for row in rows for time in row.steps.times),
        zone=manifest.time.zone,
        time_column=manifest.time.column,
        truth=np.concatenate([_measured(row, targets) for row in rows]),
        num_filled=reader.num_filled,
        num_dropped=reader.num_dropped,
    )


def _measured(row: Row, targets: Sequence[str]) -> Array:
    """The targets of a row's steps; NaN for those in a gap and for values that were filled."""
    values = row.steps.values[-1].copy()
    values[:-1] = np.nan
    values[-1, [target in row.filled for target in targets]] = np.nan
    return values
