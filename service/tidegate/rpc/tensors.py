"""The named tensors of single calls: numbers that people and JSON can write, or raw bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tidegate.errors import InvalidRequest
from tidegate.model.manifest import InputSpec, Manifest, OutputSpec
from tidegate.runner.tracing import LayerTrace
from tidegate.tensor import Array, DType, format_shape, num_elements
from tidegate.v1 import model_pb2, session_pb2

DATA_TYPES: dict[DType, model_pb2.DataType.ValueType] = {
    d: model_pb2.DataType.Value(f"DATA_TYPE_{d.name}") for d in DType
}


def read_inputs(manifest: Manifest, tensors: Sequence[session_pb2.Tensor]) -> list[Array]:
    """Read the inputs of a single call.

    Returns:
        One array per model input, `[1, T, step_shape...]`.

    Raises:
        InvalidRequest: An input is missing, unknown, named twice, or not of the model's type and shape.
    """
    named = _by_name(manifest, tensors)
    arrays = [_read(spec, named[spec.name]) for spec in manifest.inputs]
    lengths = [len(a) for a in arrays]
    if len(set(lengths)) > 1:
        raise InvalidRequest(f"inputs: expected the same number of steps in all, got {lengths}")
    if lengths[0] == 0:
        raise InvalidRequest("inputs: expected at least one step, got none")
    return [a[None] for a in arrays]


def read_future(manifest: Manifest, tensors: Sequence[session_pb2.Tensor]) -> dict[str, Array]:
    """Read inputs of steps that have not happened yet; any of them may be left out, and have fewer steps.

    Returns:
        By name, `[steps, step_shape...]`.

    Raises:
        InvalidRequest: An input is unknown, named twice, or not of the model's type and shape.
    """
    specs = {i.name: i for i in manifest.inputs}
    future: dict[str, Array] = {}
    for tensor in tensors:
        name = tensor.name or (manifest.inputs[0].name if len(specs) == 1 else "")
        if name not in specs or name in future:
            expected = ", ".join(specs)
            raise InvalidRequest(f"future_inputs: expected each of {expected} at most once, got {name!r}")
        future[name] = _read(specs[name], tensor)
    return future


def write_outputs(manifest: Manifest, outputs: Sequence[Array]) -> list[session_pb2.Tensor]:
    """Write `[steps, step_shape...]` arrays, as numbers and not as bytes: single calls are for people."""
    return [write_tensor(spec, values) for spec, values in zip(manifest.outputs, outputs, strict=False)]


def write_tensor(spec: InputSpec | OutputSpec, values: Array) -> session_pb2.Tensor:
    """Write an array of an input or output as numbers."""
    return session_pb2.Tensor(
        name=spec.name,
        data_type=DATA_TYPES[spec.dtype],
        shape=values.shape,
        values=values.astype(np.float64).ravel().tolist(),
    )


def write_trace(number: int, layer: LayerTrace) -> session_pb2.LayerTrace:
    """Write what a layer did, as bytes: there are thousands of numbers in every step."""
    traces = [
        session_pb2.Tensor(
            name=name, data_type=model_pb2.DATA_TYPE_FLOAT32, shape=values.shape, raw=values.tobytes()
        )
        for name, values in layer.traces.items()
    ]
    return session_pb2.LayerTrace(layer=number, cell=layer.cell, traces=traces)


def _by_name(manifest: Manifest, tensors: Sequence[session_pb2.Tensor]) -> dict[str, session_pb2.Tensor]:
    expected = [i.name for i in manifest.inputs]
    if len(tensors) == len(expected) == 1 and not tensors[0].name:
        return {expected[0]: tensors[0]}
    names = [t.name for t in tensors]
    if sorted(names) != sorted(expected):
        raise InvalidRequest(f"inputs: expected {', '.join(expected)}, got {', '.join(names) or 'none'}")
    return dict(zip(names, tensors, strict=True))


def _read(spec: InputSpec, tensor: session_pb2.Tensor) -> Array:
    """One input as `[T, step_shape...]`."""
    what = f"inputs: {spec.name!r}"
    if tensor.data_type not in (model_pb2.DATA_TYPE_UNSPECIFIED, DATA_TYPES[spec.dtype]):
        got = (
            model_pb2.DataType.Name(tensor.data_type)
            if tensor.data_type in model_pb2.DataType.values()
            else tensor.data_type
        )
        raise InvalidRequest(f"{what} data_type: expected {spec.dtype}, got {got}")
    if bool(tensor.raw) == bool(tensor.values):
        raise InvalidRequest(f"{what}: expected either raw or values")
    flat = _from_raw(what, spec, tensor.raw) if tensor.raw else _from_values(what, spec, tensor.values)
    per_step = num_elements(spec.step_shape)
    if len(flat) % per_step:
        raise InvalidRequest(f"{what}: expected a multiple of {per_step} elements, got {len(flat)}")
    shape = (len(flat) // per_step, *spec.step_shape)
    if tensor.shape and tuple(tensor.shape) != shape:
        raise InvalidRequest(
            f"{what} shape: expected {format_shape(shape)}, got {format_shape(tensor.shape)}"
        )
    return flat.reshape(shape)


def _from_raw(what: str, spec: InputSpec, raw: bytes) -> Array:
    size = spec.dtype.numpy.itemsize
    if len(raw) % size:
        raise InvalidRequest(
            f"{what} raw: expected a multiple of {size} bytes ({spec.dtype}), got {len(raw)}"
        )
    return np.frombuffer(raw, spec.dtype.numpy)


def _from_values(what: str, spec: InputSpec, values: Sequence[float]) -> Array:
    numbers = np.fromiter(values, np.float64, len(values))
    if spec.dtype.is_float:
        with np.errstate(over="ignore"):  # infinity is refused where all values are judged
            return numbers.astype(spec.dtype.numpy)
    limits = np.iinfo(spec.dtype.numpy) if spec.dtype is not DType.BOOL else None
    low, end = (limits.min, int(limits.max) + 1) if limits else (0, 2)
    # `end` is a power of two, so it is exact as a float64; the greatest number of 64 bits is not.
    wrong = ~((numbers >= low) & (numbers < end) & (numbers == np.trunc(numbers)))
    if wrong.any():
        raise InvalidRequest(f"{what} values: expected {spec.dtype}, got {numbers[wrong][0]:g}")
    return numbers.astype(spec.dtype.numpy)
