"""Element types and shapes, in the three spellings that meet here: ours, numpy's and the wire's.

A manifest and ONNX Runtime name a type ("float32"), numpy computes with it, the wire numbers it.
Bytes on the wire are always little-endian and in C order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
IntArray = NDArray[np.int64]
SlotArray = NDArray[np.int32]
BoolArray = NDArray[np.bool_]


class DType(StrEnum):
    """Element types that models may use."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    FLOAT16 = "float16"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The little-endian numpy type."""
        return _NUMPY[self]

    @property
    def is_float(self) -> bool:
        """Whether NaN and infinity exist in this type."""
        return self in (DType.FLOAT32, DType.FLOAT64, DType.FLOAT16)


_NUMPY: Mapping[DType, np.dtype[Any]] = {d: np.dtype(d.value).newbyteorder("<") for d in DType}


def agree(values: IntArray, rows: SlotArray, expected: IntArray) -> bool:
    """Whether `values[rows]` is `expected`, shape (n,); for one row in a fifth of the time."""
    if len(rows) == 1:
        return bool(values.item(rows.item()) == expected.item())
    return not (values.take(rows) != expected).any()


def index_of(rows: SlotArray) -> int | SlotArray:
    """What to write to `rows` with: a plain number for one row, where numpy's way through arrays is slow."""
    return rows.item() if len(rows) == 1 else rows


def num_elements(shape: Sequence[int]) -> int:
    """Number of elements of a tensor of this shape; 1 for a scalar."""
    return prod(shape)


def format_shape(shape: Sequence[int | str | None]) -> str:
    """A shape as error texts show it: `[2, 1, 8]`."""
    return "[" + ", ".join(str(n) for n in shape) + "]"
