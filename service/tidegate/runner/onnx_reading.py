"""Reads how an ONNX graph is wired from its bytes, so that a server needs no `onnx` package.

Nodes with their plain attributes, and names: no value of a tensor is read, because ONNX Runtime gives
those for the asking. Only bytes that ONNX Runtime has accepted come here. ONNX is protocol buffers; the
field numbers are those of `onnx.proto`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tidegate.errors import PackageError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types

_OWN_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class OnnxNode:
    """One operator of a graph.

    Attributes:
        operator: Its type.
        domain: Where the type is defined; "" is ONNX itself.
        name: Its own name; may be empty.
        inputs: Names of tensors; "" for one that is left out.
        outputs: The same.
        numbers: Whole-number attributes by name; those that are not named have ONNX's default.
        texts: Text attributes by name, a single one as a tuple of one.
        attributes: Names of all attributes.
        inner: Nodes of the graphs that it holds, at any depth.
    """

    operator: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[str, int]
    texts: Mapping[str, tuple[str, ...]]
    attributes: frozenset[str]
    inner: tuple[OnnxNode, ...]

    def is_a(self, *operators: str) -> bool:
        """Whether it is one of these operators of ONNX itself."""
        return self.operator in operators and self.domain in _OWN_DOMAINS

    def input(self, position: int) -> str:
        """Name of an input; "" where there is none."""
        return self.inputs[position] if position < len(self.inputs) else ""

    def output(self, position: int) -> str:
        """Name of an output; "" where there is none."""
        return self.outputs[position] if position < len(self.outputs) else ""

    @property
    def label(self) -> str:
        """The node as error texts name it."""
        return f"{self.operator} {self.name or next(filter(None, self.outputs), '')!r}"


@dataclass(frozen=True)
class OnnxGraph:
    """The graph of a file.

    Attributes:
        nodes: In an order in which they can run.
        functions: Nodes of the functions that the file defines.
        initializers: Names of tensors that the file holds.
        inputs: Names of what the graph takes; may repeat those of initializers.
        outputs: Names of what it gives.
    """

    nodes: tuple[OnnxNode, ...]
    functions: tuple[OnnxNode, ...]
    initializers: frozenset[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_graph(onnx: bytes) -> OnnxGraph:
    """Read the graph of an ONNX file.

    Raises:
        PackageError: The bytes are not protocol buffers as ONNX has them.
    """
    try:
        model = _fields(memoryview(onnx))
        # A field of one message that is there twice counts as one, as protocol buffers have it.
        graph = _fields(memoryview(b"".join(model.messages(7))))
        return OnnxGraph(
            nodes=tuple(map(_node, graph.messages(1))),
            functions=tuple(_node(n) for f in model.messages(25) for n in _fields(f).messages(7)),
            initializers=frozenset(_fields(t).text(8) for t in graph.messages(5)),
            inputs=tuple(_fields(i).text(1) for i in graph.messages(11)),
            outputs=tuple(_fields(o).text(1) for o in graph.messages(12)),
        )
    except (IndexError, ValueError, struct.error) as error:
        raise PackageError(f"model.onnx: not an ONNX file that can be read: {error}") from error


class _Fields:
    """The fields of one message, by number, in their order."""

    def __init__(self, values: list[tuple[int, int | memoryview]]) -> None:
        self._values = values

    def messages(self, number: int) -> list[memoryview]:
        """What a field of bytes, text or messages holds."""
        return [v for n, v in self._values if n == number and isinstance(v, memoryview)]

    def texts(self, number: int) -> tuple[str, ...]:
        return tuple(bytes(v).decode() for v in self.messages(number))

    def text(self, number: int) -> str:
        """The last one; "" where there is none."""
        return next(reversed(self.texts(number)), "")

    def number(self, number: int) -> int | None:
        """The last one, as a signed 64-bit number."""
        found = [v for n, v in self._values if n == number and isinstance(v, int)]
        return found[-1] - (1 << 64 if found[-1] >> 63 else 0) if found else None


def _fields(message: memoryview) -> _Fields:
    return _Fields(list(_walk(message)))


def _node(message: memoryview) -> OnnxNode:
    node = _fields(message)
    attributes = {a.text(1): a for a in map(_fields, node.messages(5))}
    numbers = {name: a.number(3) for name, a in attributes.items()}
    texts = {name: a.texts(4) or a.texts(9) for name, a in attributes.items()}
    graphs = [g for a in attributes.values() for g in (*a.messages(6), *a.messages(11))]
    direct = [_node(n) for g in graphs for n in _fields(g).messages(1)]
    return OnnxNode(
        operator=node.text(4),
        domain=node.text(7),
        name=node.text(3),
        inputs=node.texts(1),
        outputs=node.texts(2),
        numbers={name: number for name, number in numbers.items() if number is not None},
        texts={name: text for name, text in texts.items() if text},
        attributes=frozenset(attributes),
        inner=tuple(n for d in direct for n in (d, *d.inner)),
    )


def _walk(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field; numbers of fixed width, which nobody here needs, as their bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        wire_type = key & 7
        if wire_type == _VARINT:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if wire_type == _BYTES:
            size, position = _varint(message, position)
        elif wire_type in (_FIXED32, _FIXED64):
            size = 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire_type} at byte {position}")
        end = position + size
        if end > len(message):
            raise ValueError(f"a field ends {end - len(message)} bytes after its message")
        yield key >> 3, message[position:end]
        position = end


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number, seven bits per byte with the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
