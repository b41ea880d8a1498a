"""Rows of a CSV text, read as a model of the tests' own would have them read."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.errors import InvalidRequest
from tidegate.model.manifest import InputSpec, TimeRules
from tidegate.model.rows import RowReader
from tidegate.tensor import DType


def spec(*features: str, name: str = "x", dtype: DType = DType.FLOAT32, missing: bool = False) -> InputSpec:
    return InputSpec(
        name=name,
        dtype=dtype,
        shape=("batch", "time", len(features)),
        features=features,
        accepts_missing=missing,
    )


AS_IT_COMES = TimeRules()


def reader(
    text: str, inputs: Sequence[InputSpec] = (spec("a"),), rules: TimeRules = AS_IT_COMES
) -> RowReader:
    return RowReader(text.splitlines(keepends=True), inputs, rules, source="file.csv")


def refusals(rows: RowReader) -> list[str]:
    """Read on after every refusal, as a caller that skips bad rows does."""
    found = []
    while True:
        try:
            next(rows)
        except InvalidRequest as error:
            found.append(str(error))
        except StopIteration:
            return found
