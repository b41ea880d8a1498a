"""The rows of a CSV file as the steps of a model that a server has described."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tidegate.client import ModelInfo
from tidegate.errors import ConfigError
from tidegate.model.rows import RowReader
from tidegate.model.steps import Steps
from tidegate.tensor import Array


def row_reader(model: ModelInfo, lines: Iterable[str], *, source: str) -> RowReader:
    """Read rows by the model's own rules; see `RowReader` for what it raises.

    Args:
        model: Whose inputs the columns are.
        lines: The file.
        source: What to call it in an error.
    """
    return RowReader(lines, model.inputs, model.time, source=source)


def joined_steps(model: ModelInfo, rows: Sequence[Steps]) -> dict[str, Array]:
    """The steps of some rows behind one another: by input name, `[T, step_shape...]`."""
    return {
        spec.name: np.concatenate([steps.values[i] for steps in rows]) for i, spec in enumerate(model.inputs)
    }


def read_series(model: ModelInfo, lines: Iterable[str], *, source: str) -> dict[str, Array]:
    """Read a whole file.

    Returns:
        By input name, `[T, step_shape...]`; steps that fill gaps are among them.

    Raises:
        ConfigError: It has no rows, or a column is missing.
        InvalidRequest: A row cannot be a step; names it.
    """
    rows = [row.steps for row in row_reader(model, lines, source=source)]
    if not any(steps.num_steps for steps in rows):
        raise ConfigError(f"{source}: expected at least one row under the header, got none")
    return joined_steps(model, rows)
