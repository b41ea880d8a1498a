"""The rows of a CSV file as the steps of a model that a server has described."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tidegate.client import ModelInfo
from tidegate.errors import ConfigError
from tidegate.model.manifest import InputSpec, TimeRules
from tidegate.model.time_rules import RowReader
from tidegate.tensor import Array


def row_reader(model: ModelInfo, lines: Iterable[str], *, source: str) -> RowReader:
    """Read rows by the model's own rules; see `RowReader` for what it raises.

    Args:
        model: Whose inputs the columns are.
        lines: The file.
        source: What to call it in an error.
    """
    specs = [
        InputSpec(
            name=spec.name,
            dtype=spec.dtype,
            shape=spec.step_shape,
            features=spec.features,
            accepts_missing=spec.accepts_missing,
        )
        for spec in model.inputs
    ]
    rules = TimeRules(cadence_s=model.cadence_s, column=model.time_column, missing=model.missing_values)
    return RowReader(lines, specs, rules, source=source)


def read_series(model: ModelInfo, lines: Iterable[str], *, source: str) -> dict[str, Array]:
    """Read a whole file.

    Returns:
        By input name, `[T, step_shape...]`.

    Raises:
        ConfigError: It has no rows, or a column is missing.
        InvalidRequest: A row cannot be a step; names it.
    """
    rows = [row.values for row in row_reader(model, lines, source=source)]
    if not rows:
        raise ConfigError(f"{source}: expected at least one row under the header, got none")
    columns = zip(*rows, strict=True)
    return {spec.name: np.stack(values) for spec, values in zip(model.inputs, columns, strict=True)}
