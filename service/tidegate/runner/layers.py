"""The recurrent layers of an ONNX graph: which tensors go in and out of each, and what it computes.

Read are the operators LSTM, GRU and RNN, forward in time and with constant weights, and the plain RNN
that tidegate's own exports spell out as `Tanh(x W + h U + b)`. A graph with any other recurrence that can
be told from its operators is refused with the node that makes it so. What is found here is a claim about
the graph: who uses it holds every number against the graph's own (`tracing.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tidegate.errors import Unsupported
from tidegate.runner import reference
from tidegate.runner.onnx_reading import OnnxGraph, OnnxNode
from tidegate.runner.reference import Float, Gates, Trace


class Cell(NamedTuple):
    """A kind of layer.

    Attributes:
        name: As the field has it.
        activations: The functions that the operator has by default, and the only ones that are read.
        has_memory: It carries c beside h.
        unpack: From the operator's weights to gates.
        traces: What it shows of every step, in the order in which it is shown.
    """

    name: str
    activations: tuple[str, ...]
    has_memory: bool
    unpack: Callable[..., Gates]
    traces: tuple[str, ...]


CELLS: Mapping[str, Cell] = {
    cell.name: cell
    for cell in (
        Cell(
            "LSTM",
            ("sigmoid", "tanh", "tanh"),
            True,
            reference.lstm_from_onnx,
            ("f_t", "i_t", "c_tilde_t", "o_t", "c_t", "h_t"),
        ),
        Cell("GRU", ("sigmoid", "tanh"), False, reference.gru_from_onnx, ("z_t", "r_t", "h_tilde_t", "h_t")),
        Cell("RNN", ("tanh",), False, reference.rnn_from_onnx, ("h_t",)),
    )
}

_RANDOM = (
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
)

_COPYING = ("Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Slice", "Split", "Gather", "Transpose")
"""Operators that move elements of their first input and compute nothing with them."""


@dataclass(frozen=True)
class Layer:
    """One recurrent layer; its tensors by name, "" for one that it does not have.

    Attributes:
        label: The layer as error texts name it.
        cell: What it computes.
        x: Its input.
        h_before: Its output at the step before; zeros where it has none.
        c_before: Its memory at the step before; the same.
        h_after: Its output.
        c_after: Its memory.
        weights: Constants, in the order of `unpack`.
        unpack: From the values of the weights to gates.
        linear_before_reset: Which form a GRU has.
        is_spelled_out: It is a layer only if `h_before` is the `h_after` of the step before.
    """

    label: str
    cell: Cell
    x: str
    h_before: str
    c_before: str
    h_after: str
    c_after: str
    weights: tuple[str, ...]
    unpack: Callable[..., Gates]
    linear_before_reset: bool = False
    is_spelled_out: bool = False

    @property
    def sequences(self) -> tuple[str, ...]:
        """Its tensors that differ from step to step."""
        return tuple(filter(None, (self.x, self.h_before, self.c_before, self.h_after, self.c_after)))

    def trace(self, gates: Gates, x: Float, h: Float, c: Float) -> Trace:
        """What it does in one step, for many steps at once: the state before each is given.

        Args:
            gates: Of `unpack`.
            x: Its input, [steps, F].
            h: Its output before, [steps, H].
            c: Its memory before, [steps, H]; ignored by a cell that has none.

        Returns:
            `cell.traces`, each [steps, H].
        """
        if self.cell.has_memory:
            rows = reference.lstm_layer(x[None], h, c, gates)
        elif self.cell.name == "GRU":
            rows = reference.gru_layer(x[None], h, gates, linear_before_reset=self.linear_before_reset)
        else:
            rows = reference.rnn_layer(x[None], h, gates)
        return {name: rows[name][0] for name in self.cell.traces}


def find_layers(graph: OnnxGraph, state_inputs: Collection[str]) -> list[Layer]:
    """The recurrent layers in the order in which they run.

    Args:
        graph: Of the model.
        state_inputs: Names of the graph's inputs that carry state.

    Raises:
        Unsupported: There is none, or one that cannot be read; the text says which and why.
    """
    wiring = _Wiring(graph)
    layers: list[Layer] = []
    for node in graph.nodes:
        _refuse_foreign(node)
        if node.is_a(*CELLS):
            layers.append(_operator_layer(node, wiring))
        elif node.is_a("Tanh"):
            layers.extend(_spelled_out(node, wiring, state_inputs))
    for node in graph.functions:
        if _is_recurrent(node):
            raise Unsupported(f"{node.label} is inside a function of the file")
    if not layers:
        raise Unsupported(
            "the graph has no recurrent layer that can be read: expected LSTM, GRU or RNN operators, "
            "or tanh(x W + h U + b) with a carried h"
        )
    return layers


class _Wiring:
    """Who makes which tensor, and which tensors are the same in every run."""

    def __init__(self, graph: OnnxGraph) -> None:
        self._makers = {name: node for node in graph.nodes for name in node.outputs if name}
        self.constants = set(graph.initializers)
        for node in graph.nodes:
            takes = {name for name in node.inputs if name}
            if takes <= self.constants and not node.inner and not node.is_a(*_RANDOM):
                self.constants.update(node.outputs)

    def maker(self, name: str, *operators: str) -> OnnxNode | None:
        """The node that makes a tensor, if it is one of these operators."""
        node = self._makers.get(name)
        return node if node is not None and node.is_a(*operators) else None

    def terms(self, name: str) -> list[str]:
        """What is added up to make a tensor; itself alone where it is no sum."""
        sum_ = self.maker(name, "Add")
        return [name] if sum_ is None else [term for part in sum_.inputs for term in self.terms(part)]

    def copied_from(self, name: str) -> str:
        """The tensor whose elements these are, moved about but not changed."""
        while (node := self.maker(name, *_COPYING)) and self.constants.issuperset(node.inputs[1:]):
            name = node.inputs[0]
        return name


def _is_recurrent(node: OnnxNode) -> bool:
    return any(name in node.operator for name in CELLS)


def _refuse_foreign(node: OnnxNode) -> None:
    """Refuse recurrence where it cannot be seen, or in an operator that ONNX does not define."""
    for inner in node.inner:
        if _is_recurrent(inner):
            raise Unsupported(f"{inner.label} is inside {node.label}")
    if _is_recurrent(node) and not node.is_a(*CELLS):
        raise Unsupported(
            f"{node.label} is of domain {node.domain!r}: only ONNX's own LSTM, GRU and RNN are read"
        )


def _operator_layer(node: OnnxNode, wiring: _Wiring) -> Layer:
    cell = CELLS[node.operator]
    for problem in _problems(node, cell, wiring):
        raise Unsupported(f"{node.label} {problem}")
    return Layer(
        label=node.label,
        cell=cell,
        x=node.input(0),
        h_before=node.input(5),
        c_before=node.input(6) if cell.has_memory else "",
        # Over one step the sequence of outputs is the last output.
        h_after=node.output(1) or node.output(0),
        c_after=node.output(2) if cell.has_memory else "",
        weights=tuple(filter(None, node.inputs[1:4])),
        unpack=cell.unpack,
        linear_before_reset=node.numbers.get("linear_before_reset", 0) != 0,
    )


def _problems(node: OnnxNode, cell: Cell, wiring: _Wiring) -> Iterator[str]:
    """Why the formulas of its cell are not what the node computes."""
    for name, weight in zip(("W", "R", "B"), node.inputs[1:4], strict=False):
        if weight and weight not in wiring.constants:
            yield f"has a weight {name} that is not constant"
    if node.input(4):
        yield "takes sequence_lens"
    if node.input(7):
        yield "has peepholes"
    if not node.output(0) and not node.output(1):
        yield "has no output that is used"
    yield from _attribute_problems(node, cell)


def _attribute_problems(node: OnnxNode, cell: Cell) -> Iterator[str]:
    direction = node.texts.get("direction", ("forward",))[0]
    if direction != "forward":
        yield f"is {direction}, not forward"
    activations = tuple(a.lower() for a in node.texts.get("activations", cell.activations))
    if activations != cell.activations:
        yield f"has other activations: expected {', '.join(cell.activations)}, got {', '.join(activations)}"
    for attribute in ("clip", "activation_alpha", "activation_beta"):
        if attribute in node.attributes:
            yield f"has the attribute {attribute}"
    for attribute in ("input_forget", "layout"):
        if node.numbers.get(attribute, 0):
            yield f"has the attribute {attribute}"


def _spelled_out(tanh: OnnxNode, wiring: _Wiring, state_inputs: Collection[str]) -> Iterator[Layer]:
    """The plain RNN layer that ends in a Tanh; none if it is a tanh of something else."""
    terms = wiring.terms(tanh.input(0))
    biases = [term for term in terms if term in wiring.constants]
    products = [node for term in terms if (node := wiring.maker(term, "MatMul"))]
    carried = [p for p in products if wiring.copied_from(p.input(0)) in state_inputs]
    if len(products) < 2 or not carried:
        return
    weights_are_constant = all(p.input(1) in wiring.constants for p in products)
    if len(products) != 2 or len(carried) != 1 or len(biases) != len(terms) - 2 or not weights_are_constant:
        raise Unsupported(f"{tanh.label} is a cell other than tanh(x W + h U + b) with constant W, U and b")
    (of_state,) = carried
    (of_input,) = (p for p in products if p is not of_state)
    yield Layer(
        label=f"RNN that ends in {tanh.label}",
        cell=CELLS["RNN"],
        x=of_input.input(0),
        h_before=of_state.input(0),
        c_before="",
        h_after=tanh.output(0),
        c_after="",
        weights=(of_input.input(1), of_state.input(1), *biases),
        unpack=reference.rnn_from_products,
        is_spelled_out=True,
    )
