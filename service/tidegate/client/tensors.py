"""The named tensors of single calls, between numpy and the wire."""

from __future__ import annotations

import numpy as np

from tidegate.client.signature import TensorSpec, data_type, dtype_of
from tidegate.errors import InternalError
from tidegate.tensor import Array
from tidegate.v1 import session_pb2


def write_tensor(spec: TensorSpec, array: Array) -> session_pb2.Tensor:
    """An input `[T, step_shape...]`, already of the type that `spec` names."""
    return session_pb2.Tensor(
        name=spec.name, data_type=data_type(spec.dtype), shape=array.shape, raw=array.tobytes()
    )


def read_tensor(tensor: session_pb2.Tensor) -> Array:
    """An answer in its own type and shape, in memory of its own.

    Raises:
        InternalError: Its shape and its elements do not agree, or its type is not known.
    """
    dtype = dtype_of(tensor.data_type).numpy
    values = np.frombuffer(tensor.raw, dtype) if tensor.raw else np.asarray(tensor.values, dtype)
    try:
        return values.reshape(tuple(tensor.shape)).copy()
    except ValueError as error:
        raise InternalError(f"output {tensor.name!r}: shape and elements do not agree: {error}") from error
