"""numpy in: what an application hands over, checked and turned into what the model takes.

Shapes are checked in full before anything is sent. A type is converted when no value can be damaged:
integers and float64 become float32 unless a finite number would overflow to infinity; a float never
becomes an integer. Whether NaN is welcome is the server's to say, row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
from numpy.typing import ArrayLike

from tidegate.client.signature import TensorSpec
from tidegate.errors import InvalidRequest
from tidegate.tensor import Array, format_shape

Inputs = ArrayLike | Mapping[str, ArrayLike]
"""A value per model input by name; a bare value for a model with one input."""


def encode_inputs(specs: Sequence[TensorSpec], values: Inputs, axes: Mapping[str, int | None]) -> list[Array]:
    """Check and convert the inputs of a call.

    Args:
        specs: What the model takes.
        values: One value per input by name; a bare value will do for a model with one input.
        axes: The axes before `step_shape`, by name, and their lengths; None where the caller chooses.

    Returns:
        Per input, in the order of `specs`, an array of its type and shape (axes..., step_shape...).

    Raises:
        InvalidRequest: An input is missing or unknown, or has a wrong type or shape; names input,
            expected and got.
    """
    arrays = [_encode(spec, value, axes) for spec, value in _by_spec(specs, values)]
    for spec, array in zip(specs, arrays, strict=True):
        if array.shape[: len(axes)] != arrays[0].shape[: len(axes)]:
            expected, got = (format_shape(a.shape[: len(axes)]) for a in (arrays[0], array))
            raise InvalidRequest(
                f"input {spec.name!r}: shape: expected {expected} in front, as {specs[0].name!r} has, got {got}"
            )
    return arrays


def _by_spec(specs: Sequence[TensorSpec], values: Inputs) -> list[tuple[TensorSpec, ArrayLike]]:
    names = [spec.name for spec in specs]
    if not isinstance(values, Mapping):
        if len(specs) != 1:
            raise InvalidRequest(f"inputs: expected a mapping of {names}, got one value")
        return [(specs[0], values)]
    if set(values) != set(names):
        raise InvalidRequest(f"inputs: expected {names}, got {sorted(values)}")
    return [(spec, values[spec.name]) for spec in specs]


def _encode(spec: TensorSpec, value: ArrayLike, axes: Mapping[str, int | None]) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidRequest(f"input {spec.name!r}: expected an array, got {error}") from error
    return _shaped(spec, _converted(spec, array), axes)


def _shaped(spec: TensorSpec, array: Array, axes: Mapping[str, int | None]) -> Array:
    shape = array.shape
    # One feature needs no axis of its own: a scalar, or a plain series.
    if prod(spec.step_shape) == 1 and len(shape) == len(axes):
        shape = (*shape, *spec.step_shape)
    expected = (*axes.values(), *spec.step_shape)
    fits = len(shape) == len(expected) and all(e in (None, n) for e, n in zip(expected, shape, strict=True))
    if not fits:
        named = [name if length is None else str(length) for name, length in axes.items()]
        wanted = ", ".join([*named, *map(str, spec.step_shape)])
        raise InvalidRequest(
            f"input {spec.name!r}: shape: expected [{wanted}], got {format_shape(array.shape)}"
        )
    if 0 in shape:
        raise InvalidRequest(f"input {spec.name!r}: shape: expected no empty axis, got {format_shape(shape)}")
    return array.reshape(shape)


def _converted(spec: TensorSpec, array: Array) -> Array:
    wanted = spec.dtype.numpy
    if array.dtype == wanted:
        return array
    kinds = "fiub" if wanted.kind == "f" else "iu" if wanted.kind in "iu" else "b"
    if array.dtype.kind not in kinds:
        raise InvalidRequest(f"input {spec.name!r}: dtype: expected {spec.dtype}, got {array.dtype}")
    with np.errstate(over="ignore"):
        converted = array.astype(wanted)
    damaged = converted != array if wanted.kind in "iu" else np.isinf(converted) & ~np.isinf(array)
    if damaged.any():
        raise InvalidRequest(f"input {spec.name!r}: expected values of {spec.dtype}, got {array[damaged][0]}")
    return converted
