"""The tensors of a request: from bytes or numbers to the arrays that a model takes.

Nothing is allocated by what a request claims: a shape is held against the number of bytes that came before an
array is made. An array of raw bytes is a view of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tidegate.errors import InvalidRequest
from tidegate.oip import open_inference_pb2 as pb
from tidegate.rpc.open_inference.layouts import MAX_KNOWN_BYTES, KnownInput, ModelLayout, TensorLayout
from tidegate.rpc.open_inference.parameters import refuse_unserved
from tidegate.session.frames import check_values
from tidegate.tensor import Array, format_shape

MAX_SHOWN_NAMES = 20
MAX_SHOWN_DIMS = 16


class _Contents(NamedTuple):
    """Where the numbers of a datatype are."""

    field: str
    numpy: np.dtype[Any]


_INT32 = _Contents("int_contents", np.dtype(np.int32))
_UINT32 = _Contents("uint_contents", np.dtype(np.uint32))

CONTENTS: Mapping[str, _Contents] = {
    "BOOL": _Contents("bool_contents", np.dtype(np.bool_)),
    "INT8": _INT32,
    "INT16": _INT32,
    "INT32": _INT32,
    "INT64": _Contents("int64_contents", np.dtype(np.int64)),
    "UINT8": _UINT32,
    "UINT16": _UINT32,
    "UINT32": _UINT32,
    "UINT64": _Contents("uint64_contents", np.dtype(np.uint64)),
    "FP32": _Contents("fp32_contents", np.dtype(np.float32)),
    "FP64": _Contents("fp64_contents", np.dtype(np.float64)),
}
"""The fields of `InferTensorContents`, and their own types, by datatype; FP16 has none."""

PARSED_BYTES: Mapping[str, int] = {
    "bool_contents": 2,
    "int_contents": 8,
    "uint_contents": 8,
    "int64_contents": 16,
    "uint64_contents": 16,
    "fp32_contents": 4,
    "fp64_contents": 8,
    "bytes_contents": 32,
}
"""What an element of each field takes once its message is parsed. Where its size on the wire varies, it is put into an
array that doubles as it grows; a zero is one byte on the wire, and up to 16 then."""


class Inputs(NamedTuple):
    """The inputs of a request.

    Attributes:
        arrays: One per model input, `[B, T, step_shape...]`.
        has_time: The request's shapes have the time axis, so the answer's do.
    """

    arrays: list[Array]
    has_time: bool


def held_bytes(request: pb.ModelInferRequest) -> int:
    """What a request takes in memory: its size on the wire, and that of its numbers where they stand in the message."""
    parsed = sum(
        PARSED_BYTES[field.name] * len(values)
        for tensor in request.inputs
        if tensor.HasField("contents")
        for field, values in tensor.contents.ListFields()
    )
    return request.ByteSize() + parsed


def read_inputs(layout: ModelLayout, request: pb.ModelInferRequest) -> Inputs:
    """Read the inputs of a request, and judge their values.

    Raises:
        InvalidRequest: An input is missing, unknown or named twice; not of the model's datatype and shape; has
            another size than its shape says, or a value that no model may see.
        Unsupported: It is in shared memory.
    """
    inputs = _read_known(layout, request) or _read(layout, request)
    check_values(layout.manifest, inputs.arrays)
    return inputs


def _read_known(layout: ModelLayout, request: pb.ModelInferRequest) -> Inputs | None:
    """Read the only input, if its message but for the elements is known to be good."""
    tensors, raw = request.inputs, request.raw_input_contents
    if len(tensors) != 1 or len(raw) != 1:
        return None
    known = layout.known_inputs.get(tensors[0].SerializeToString())
    if known is None:
        return None
    elements = raw[0]
    if len(elements) != known.num_bytes:
        return None
    return Inputs([np.ndarray(known.shape, layout.inputs[0].numpy, elements)], known.has_time)


def _read(layout: ModelLayout, request: pb.ModelInferRequest) -> Inputs:
    tensors, raw = request.inputs, request.raw_input_contents
    if raw and len(raw) != len(tensors):
        raise InvalidRequest(
            f"raw_input_contents: expected one entry per input ({len(tensors)}), got {len(raw)}"
        )
    order = _order(layout, tensors)
    arrays: list[Array] = []
    forms: list[bool] = []
    for spec, i in zip(layout.inputs, order, strict=True):
        tensor = tensors[i]
        shape = tuple(tensor.shape)
        has_time = _check_form(spec, tensor, shape)
        if raw:
            _refuse_contents(spec, tensor)
            flat = _from_raw(spec, shape, raw[i])
        else:
            flat = _from_contents(spec, shape, tensor)
        arrays.append(flat.reshape(shape if has_time else (shape[0], 1, *spec.step_shape)))
        forms.append(has_time)
    if len(arrays) > 1:
        _check_agreement(layout, arrays, forms)
    elif raw and tensors[0].ByteSize() <= MAX_KNOWN_BYTES:
        known = KnownInput(arrays[0].shape, arrays[0].nbytes, forms[0])
        layout.known_inputs.remember(tensors[0].SerializeToString(), known)
    return Inputs(arrays, forms[0])


def _order(layout: ModelLayout, tensors: Sequence[pb.ModelInferRequest.InferInputTensor]) -> Sequence[int]:
    """Position in the request of each model input."""
    if len(tensors) == len(layout.inputs) == 1 and tensors[0].name == layout.inputs[0].name:
        return (0,)
    names = [t.name for t in tensors]
    expected = [i.name for i in layout.inputs]
    if sorted(names) != sorted(expected):
        raise InvalidRequest(f"inputs: expected {_shown(expected)}, got {_shown(names)}")
    return [names.index(name) for name in expected]


def _check_form(
    spec: TensorLayout, tensor: pb.ModelInferRequest.InferInputTensor, shape: tuple[int, ...]
) -> bool:
    """Hold the datatype and shape of an input against the model's.

    Returns:
        Whether the shape has the time axis.
    """
    if tensor.datatype != spec.datatype:
        raise InvalidRequest(
            f"inputs: {spec.name!r} datatype: expected {spec.datatype}, got {tensor.datatype[:100]!r}"
        )
    for name in tensor.parameters:
        refuse_unserved(f"inputs: {spec.name!r} parameters", name)
    num_free = len(shape) - len(spec.step_shape)
    if num_free not in (1, 2) or shape[num_free:] != spec.step_shape or min(shape[:num_free]) < 1:
        with_time, without = (format_shape([*axes, *spec.step_shape]) for axes in ("BT", "B"))
        raise InvalidRequest(
            f"inputs: {spec.name!r} shape: expected {with_time} or {without}, each at least 1, got "
            f"{_shown_shape(shape)}"
        )
    return num_free == 2


def _from_raw(spec: TensorLayout, shape: tuple[int, ...], raw: bytes) -> Array:
    expected = spec.step_bytes * prod(shape[: len(shape) - len(spec.step_shape)])
    if len(raw) != expected:
        raise InvalidRequest(
            f"raw_input_contents: {spec.name!r}: expected {expected} bytes for {spec.datatype} "
            f"{_shown_shape(shape)}, got {len(raw)}"
        )
    return np.frombuffer(raw, spec.numpy)


def _from_contents(
    spec: TensorLayout, shape: tuple[int, ...], tensor: pb.ModelInferRequest.InferInputTensor
) -> Array:
    what = f"inputs: {spec.name!r} contents"
    contents = CONTENTS.get(spec.datatype)
    if contents is None:
        raise InvalidRequest(f"{what}: expected {spec.datatype} in raw_input_contents, got none there")
    filled = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    if filled != [contents.field]:
        raise InvalidRequest(f"{what}: expected {contents.field!r}, got {_shown(filled)}")
    values = getattr(tensor.contents, contents.field)
    expected = prod(shape)
    if len(values) != expected:
        raise InvalidRequest(
            f"{what}: expected {expected} elements for {_shown_shape(shape)}, got {len(values)}"
        )
    numbers = np.fromiter(values, contents.numpy, expected)
    if contents.numpy == spec.numpy:
        return numbers
    limits = np.iinfo(spec.numpy)
    wrong = (numbers < limits.min) | (numbers > limits.max)
    if wrong.any():
        raise InvalidRequest(f"{what}: expected {spec.datatype}, got {numbers[wrong][0]}")
    return numbers.astype(spec.numpy)


def _refuse_contents(spec: TensorLayout, tensor: pb.ModelInferRequest.InferInputTensor) -> None:
    if tensor.HasField("contents") and tensor.contents.ListFields():
        raise InvalidRequest(
            f"inputs: {spec.name!r} contents: expected none beside raw_input_contents, got some"
        )


def _check_agreement(layout: ModelLayout, arrays: Sequence[Array], forms: Sequence[bool]) -> None:
    """All inputs are of the same windows and steps, in the same form."""
    first = layout.inputs[0].name
    for spec, values, has_time in zip(layout.inputs[1:], arrays[1:], forms[1:], strict=True):
        if has_time != forms[0]:
            with_time, without = (first, spec.name) if forms[0] else (spec.name, first)
            raise InvalidRequest(
                f"inputs: expected all with the time axis or all without, got {with_time!r} with it and {without!r} "
                "without"
            )
        if values.shape[:2] != arrays[0].shape[:2]:
            raise InvalidRequest(
                f"inputs: expected the same windows and steps in all, got {format_shape(arrays[0].shape[:2])} for "
                f"{first!r} and {format_shape(values.shape[:2])} for {spec.name!r}"
            )


def _shown(names: Sequence[str]) -> str:
    """Names as an error text has them, not all of many."""
    text = ", ".join(repr(name[:100]) for name in names[:MAX_SHOWN_NAMES])
    more = len(names) - MAX_SHOWN_NAMES
    return f"{text} and {more} more" if more > 0 else text or "none"


def _shown_shape(shape: Sequence[int]) -> str:
    if len(shape) <= MAX_SHOWN_DIMS:
        return format_shape(shape)
    return f"{len(shape)} dimensions"
