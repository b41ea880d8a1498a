"""The rows of a CSV file as the steps of a model that a server has described."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable

import numpy as np

from tidegate.client import ModelInfo, TensorSpec
from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.manifest import InputSpec, TimeRules
from tidegate.model.time_rules import RowReader, column_names, parse_number
from tidegate.tensor import Array


def row_reader(model: ModelInfo, lines: Iterable[str], *, source: str) -> RowReader:
    """Read rows by the model's own rules; see `RowReader` for what it raises.

    Args:
        model: Whose inputs the columns are.
        lines: The file.
        source: What to call it in an error.
    """
    specs = [_input_spec(spec) for spec in model.inputs]
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


def read_known_columns(model: ModelInfo, lines: Iterable[str], *, source: str) -> dict[str, Array]:
    """Read what is known of coming steps: any of the model's columns, with cells left empty at will.

    Returns:
        By name of the inputs that have a column, `[T, step_shape...]`; NaN where the file has no number.

    Raises:
        ConfigError: No column is the model's.
        InvalidRequest: A cell is no number of its input's type; names row and column.
    """
    reader = csv.DictReader(lines)
    header = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    by_input = {spec: column_names(_input_spec(spec)) for spec in model.inputs}
    present = {spec: names for spec, names in by_input.items() if set(names) & set(header)}
    if not present:
        expected = ", ".join(name for names in by_input.values() for name in names)
        raise ConfigError(
            f"{source}: expected one of the columns {expected}, got {', '.join(header) or 'none'}"
        )
    rows = list(reader)
    return {
        spec.name: np.array(
            [[_known(row, name, number, spec) for name in names] for number, row in enumerate(rows, 1)],
            spec.dtype.numpy,
        ).reshape(len(rows), *spec.step_shape)
        for spec, names in present.items()
    }


def _known(row: dict[str, str | None], name: str, number: int, spec: TensorSpec) -> float:
    text = (row.get(name) or "").strip()
    if not text and spec.dtype.is_float:
        return math.nan
    try:
        return parse_number(text, spec.dtype)
    except InvalidRequest as error:
        raise InvalidRequest(f"row {number}: column {name!r}: {error}") from None


def _input_spec(spec: TensorSpec) -> InputSpec:
    return InputSpec(
        name=spec.name,
        dtype=spec.dtype,
        shape=spec.step_shape,
        features=spec.features,
        accepts_missing=spec.accepts_missing,
    )
