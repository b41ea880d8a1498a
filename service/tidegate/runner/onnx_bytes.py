"""Writes small ONNX graphs as bytes, so that a server needs no `onnx` package for its own.

Nodes without attributes, and inputs and outputs of known type whose shapes are left to the run: that is
all the runner's own graphs need. ONNX is protocol buffers; the field numbers are those of `onnx.proto`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tidegate.tensor import DType

OPSET = 17
IR_VERSION = 8

_ELEMENT_TYPES: Mapping[DType, int] = {
    DType.FLOAT32: 1,
    DType.UINT8: 2,
    DType.INT8: 3,
    DType.UINT16: 4,
    DType.INT16: 5,
    DType.INT32: 6,
    DType.INT64: 7,
    DType.BOOL: 9,
    DType.FLOAT16: 10,
    DType.FLOAT64: 11,
    DType.UINT32: 12,
    DType.UINT64: 13,
}

_VARINT, _BYTES = 0, 2  # wire types


class Node(NamedTuple):
    """One operator."""

    operator: str
    inputs: Sequence[str]
    outputs: Sequence[str]


def encode_model(
    nodes: Sequence[Node], *, inputs: Mapping[str, DType], outputs: Mapping[str, DType]
) -> bytes:
    """The bytes of an ONNX file.

    Args:
        nodes: In an order in which they can run.
        inputs: Element types by name; shapes are any.
        outputs: The same.
    """
    graph = b"".join(_bytes(1, _node(node)) for node in nodes)
    graph += _bytes(2, b"g")
    graph += b"".join(_bytes(11, _value_info(*item)) for item in inputs.items())
    graph += b"".join(_bytes(12, _value_info(*item)) for item in outputs.items())
    return _number(1, IR_VERSION) + _bytes(7, graph) + _bytes(8, _number(2, OPSET))


def with_outputs(onnx: bytes, names: Sequence[str]) -> bytes:
    """An ONNX file whose graph gives more of its tensors.

    Args:
        onnx: The file.
        names: Tensors inside the graph that are no outputs of it yet. Their types are left out: ONNX
            Runtime finds them.
    """
    # Protocol buffers merge a message that is there twice, and append its repeated fields.
    return onnx + _bytes(7, b"".join(_bytes(12, _bytes(1, name.encode())) for name in names))


def _node(node: Node) -> bytes:
    names = [_bytes(1, name.encode()) for name in node.inputs]
    names += [_bytes(2, name.encode()) for name in node.outputs]
    return b"".join(names) + _bytes(4, node.operator.encode())


def _value_info(name: str, dtype: DType) -> bytes:
    tensor_type = _number(1, _ELEMENT_TYPES[dtype])
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor_type))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits per byte, the lowest first; the top bit says that more follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
