"""What every recurrent layer of a model does in each step: gates and memories, from the graph itself.

A second ONNX Runtime session, on the CPU and of its own, runs the graph of a package one step at a time
with the inputs and outputs of its recurrent layers laid open. The gates, which no operator gives out,
are computed from them and from the weights in float64. Nothing is taken on trust: what a layer computes
here must be what the graph computed, in every step, or the model is refused as unreadable.

Not thread-safe: one call at a time, from any thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from threading import Event

import numpy as np

from tidegate.errors import PackageError, Unsupported
from tidegate.model.manifest import StatePair
from tidegate.model.package import ModelPackage
from tidegate.runner.graph import Graph
from tidegate.runner.layers import Layer, find_layers
from tidegate.runner.onnx_bytes import with_outputs
from tidegate.runner.onnx_reading import read_graph
from tidegate.runner.reference import Float, Gates, Trace
from tidegate.tensor import Array

TOLERANCE = 1e-4
"""How far a layer's h and c in float64 may be from the graph's in float32: absolute for values up to 1,
relative above. Sums over 1000 units of float32 stay within a tenth of it."""

BLOCK_STEPS = 1024
"""Steps whose tensors are kept in float64 at a time."""

Values = Mapping[str, Array]


@dataclass(frozen=True)
class LayerTrace:
    """What one layer did.

    Attributes:
        cell: "LSTM", "GRU" or "RNN".
        traces: By the field's names, each float32 [steps, hidden].
    """

    cell: str
    traces: Mapping[str, Array]


class Tracer:
    """Shows what the recurrent layers of one model version do.

    Attributes:
        step_bytes: Bytes of all traces of one step.
    """

    def __init__(self, package: ModelPackage) -> None:
        """Find the layers and lay them open.

        Raises:
            Unsupported: The graph has none, or one that cannot be read; says which and why.
        """
        self._manifest = package.manifest
        try:
            wiring = read_graph(package.onnx)
            layers = find_layers(wiring, {s.input_name for s in self._manifest.states})
            weights = {name for layer in layers for name in layer.weights}
            self._open = {name for layer in layers for name in layer.sequences}
            inside = (weights | self._open).difference(wiring.inputs, wiring.outputs)
            opened = replace(package, onnx=with_outputs(package.onnx, sorted(inside)))
            self._graph = Graph(opened, device="cpu", threads=1)
            values = self._first_step(package, weights | self._open)
        except (PackageError, Unsupported) as error:
            raise self._unreadable(str(error)) from error
        self._layers = [(layer, layer.unpack(*(values[w] for w in layer.weights))) for layer in layers]
        for layer, gates in self._layers:
            self._check_widths(layer, gates, values)
        self.step_bytes = sum(4 * len(lr.cell.traces) * _num_units(gates) for lr, gates in self._layers)

    def trace(
        self, inputs: Sequence[Array], states: Sequence[Array], stop: Event | None = None
    ) -> list[LayerTrace]:
        """Look at steps from a state on; neither is changed.

        Args:
            inputs: One array per model input, `[1, T, step_shape...]`.
            states: One array per state pair, `[1, step_shape...]`.
            stop: Set by another thread once nobody waits for the answer.

        Returns:
            The layers in the order in which they run.

        Raises:
            Unsupported: A layer does not compute what the graph does, so it was read wrongly.
            CancelledError: `stop` was set.
        """
        now = [_in_graph_layout(s, p) for s, p in zip(states, self._manifest.states, strict=True)]
        blocks: list[list[Values]] = []
        for first in range(0, inputs[0].shape[1], BLOCK_STEPS):
            if stop is not None and stop.is_set():
                raise CancelledError
            seen, now = self._observe([x[:, first : first + BLOCK_STEPS] for x in inputs], now)
            blocks.append([self._traced(layer, gates, seen) for layer, gates in self._layers])
        return [
            LayerTrace(
                layer.cell.name,
                {name: np.concatenate([part[name] for part in parts]) for name in layer.cell.traces},
            )
            for (layer, _), parts in zip(self._layers, zip(*blocks, strict=True), strict=True)
        ]

    def _observe(self, inputs: Sequence[Array], states: list[Array]) -> tuple[Values, list[Array]]:
        """The tensors of T steps and of one more, each [T + 1, elements], and the states after T.

        The step more, with the last input again, shows what the last step carried over.
        """
        rows: dict[str, list[Array]] = {name: [] for name in self._open}
        num_steps = inputs[0].shape[1]
        after = states
        for step in (*range(num_steps), num_steps - 1):
            states = after
            values, after = self._graph.observe(self._open, [x[:, step : step + 1] for x in inputs], states)
            for name, value in values.items():
                rows[name].append(value.ravel())
        return {name: np.stack(values) for name, values in rows.items()}, states

    def _first_step(self, package: ModelPackage, names: set[str]) -> Values:
        """The tensors in a step of zeros from the initial state."""
        inputs = [np.zeros((1, 1, *i.step_shape), i.dtype.numpy) for i in self._manifest.inputs]
        states = [
            _in_graph_layout(s[None], p)
            for s, p in zip(package.initial_states, self._manifest.states, strict=True)
        ]
        values, _ = self._graph.observe(names, inputs, states)
        return values

    def _check_widths(self, layer: Layer, gates: Gates, values: Values) -> None:
        """A layer that takes another number of elements runs several times in each step."""
        gate = next(iter(gates.values()))
        num_units, num_inputs = gate.w.shape
        expected = dict.fromkeys(layer.sequences, num_units) | {layer.x: num_inputs}
        for name, count in expected.items():
            if values[name].size != count:
                raise self._unreadable(
                    f"{layer.label} does not run once in each step: {name!r}: expected {count} elements, "
                    f"got {values[name].size}"
                )

    def _traced(self, layer: Layer, gates: Gates, seen: Values) -> Mapping[str, Array]:
        """Compute a layer in all steps at once, and hold it against the graph."""
        nothing = np.zeros((len(seen[layer.x]) - 1, _num_units(gates)))

        def rows(name: str) -> Float:
            return np.asarray(seen[name][:-1], np.float64) if name else nothing

        trace = layer.trace(gates, rows(layer.x), rows(layer.h_before), rows(layer.c_before))
        self._check_trace(layer, trace, seen)
        return {name: values.astype(np.float32) for name, values in trace.items()}

    def _check_trace(self, layer: Layer, trace: Trace, seen: Values) -> None:
        for name, computed in (("h_t", layer.h_after), ("c_t", layer.c_after)):
            if computed and not _agree(trace[name], seen[computed][:-1]):
                raise self._unreadable(f"{layer.label}: its weights do not give the graph's own {name}")
        if layer.is_spelled_out and not np.array_equal(
            seen[layer.h_after][:-1], seen[layer.h_before][1:], equal_nan=True
        ):
            raise self._unreadable(f"{layer.label}: its output is not what it takes at the next step")

    def _unreadable(self, reason: str) -> Unsupported:
        return Unsupported(f"{self._manifest.label} cannot be inspected: {reason}")


def _agree(computed: Float, graph: Array) -> bool:
    scale = np.maximum(1, np.abs(graph))
    return np.allclose(computed / scale, graph / scale, rtol=0, atol=TOLERANCE, equal_nan=True)


def _num_units(gates: Gates) -> int:
    return len(next(iter(gates.values())).w)


def _in_graph_layout(state: Array, pair: StatePair) -> Array:
    """One session's state `[1, step_shape...]` as the graph takes it."""
    if pair.batch_axis is None:
        return np.ascontiguousarray(state[0])
    return np.ascontiguousarray(np.moveaxis(state, 0, pair.batch_axis))
