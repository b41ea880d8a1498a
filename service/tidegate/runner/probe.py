"""Proves at load whether a model gives bit-identical answers alone and batched, by steps and in chunks.

Bit-exactness is a property of operators in an ONNX Runtime build on a kind of CPU, not of the
arithmetic: an LSTM with constant weights has it, a Softplus or a mean over a narrow axis may not.
So it is never assumed. Every check compares with the same rows run alone, one step at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tidegate.model.manifest import InputSpec, StatePair
from tidegate.runner.graph import Graph
from tidegate.runner.layout import join_rows, row_of, rows_of
from tidegate.tensor import Array, DType

WIDTHS = (2, 3, 5, 8, 16, 17, 33, 64, 100, 256)
"""Batch sizes that are tried; odd ones reach the remainder loops of vectorised kernels."""

NUM_STEPS = 6
SEED = 20260101


@dataclass(frozen=True)
class Exactness:
    """What the probe found.

    Attributes:
        rows: Rows may share a run: answers do not depend on the company.
        steps: Steps may share a run: a chunk equals its steps one by one.
        detail: The first check that failed, for people; empty when both hold.
    """

    rows: bool
    steps: bool
    detail: str = ""

    @property
    def exact(self) -> bool:
        """Promise P1 holds however the model is batched."""
        return self.rows and self.steps


@dataclass(frozen=True)
class _Trace:
    """Everything a run gave: outputs [n, T, ...] and new states, in the graph's layout."""

    outputs: list[Array]
    states: list[Array]


def probe(graph: Graph, *, max_rows: int) -> Exactness:
    """Compare rows run alone and one step at a time with every other way to run them.

    Args:
        graph: A graph that has passed its dry run.
        max_rows: Largest batch that the engine will form.
    """
    manifest = graph.manifest
    widths = (
        sorted({w for w in WIDTHS if w < max_rows} | {min(max_rows, WIDTHS[-1])})
        if manifest.has_batch_axis
        else [1]
    )
    found = {"rows": True, "steps": True}
    details: list[str] = []
    for inputs, states in _cases(graph, widths[-1]):
        alone = _alone(graph, inputs, states)
        for kind, text, same in _checks(graph, inputs, states, alone, widths):
            if not same and found[kind]:
                found[kind] = False
                details.append(text)
        if not any(found.values()):
            break
    return Exactness(found["rows"], found["steps"], "; ".join(details))


def _checks(
    graph: Graph, inputs: list[Array], states: list[Array], alone: _Trace, widths: Sequence[int]
) -> Iterator[tuple[str, str, bool]]:
    """Yield (kind, what differs, whether it is the same) for each way to run the case."""
    pairs = graph.manifest.states
    if graph.manifest.has_time_axis:
        row = _stepwise(graph, [x[:1] for x in inputs], _head(states, pairs, 1), NUM_STEPS)
        same = _same(row, _first_rows(alone, pairs, 1))
        yield "steps", f"{NUM_STEPS} steps at once differ from one by one", same
    for width in widths:
        if width == 1:
            continue
        batch = [x[:width] for x in inputs]
        together = _stepwise(graph, batch, _head(states, pairs, width), 1)
        same = _same(together, _first_rows(alone, pairs, width))
        yield "rows", f"{width} rows together differ from the same rows alone", same
        if graph.manifest.has_time_axis and same:
            chunked = _stepwise(graph, batch, _head(states, pairs, width), NUM_STEPS)
            text = f"{NUM_STEPS} steps at once of {width} rows differ from one by one"
            yield "steps", text, _same(chunked, _first_rows(alone, pairs, width))


def _alone(graph: Graph, inputs: list[Array], states: list[Array]) -> _Trace:
    """Each row by itself, one step at a time."""
    pairs = graph.manifest.states
    rows = []
    for i in range(len(inputs[0])):
        state = [row_of(s, p, i) for s, p in zip(states, pairs, strict=True)]
        rows.append(_stepwise(graph, [x[i : i + 1] for x in inputs], state, 1))
    outputs = [np.concatenate(parts) for parts in zip(*(r.outputs for r in rows), strict=True)]
    by_state = zip(*(r.states for r in rows), strict=True)
    return _Trace(outputs, [join_rows(parts, p) for parts, p in zip(by_state, pairs, strict=True)])


def _stepwise(graph: Graph, inputs: list[Array], states: list[Array], steps_per_run: int) -> _Trace:
    """Run all steps in pieces of `steps_per_run`."""
    bounds = [*range(0, inputs[0].shape[1], steps_per_run), inputs[0].shape[1]]
    pieces = []
    for start, end in pairwise(bounds):
        outputs, states = graph.run([np.ascontiguousarray(x[:, start:end]) for x in inputs], states)
        pieces.append(outputs)
    return _Trace([np.concatenate(parts, axis=1) for parts in zip(*pieces, strict=True)], states)


def _cases(graph: Graph, num_rows: int) -> Iterator[tuple[list[Array], list[Array]]]:
    """Random inputs and states of several magnitudes, so that no case saturates every gate."""
    manifest = graph.manifest
    rng = np.random.default_rng(SEED)
    for scale in (0.1, 1.0, 30.0):
        inputs = [_draw_input(rng, i, (num_rows, NUM_STEPS, *i.step_shape), scale) for i in manifest.inputs]
        states = [_draw(rng, s.dtype, s.graph_shape(num_rows, 1), -1.0, 1.0) for s in manifest.states]
        yield inputs, states


def _draw_input(rng: np.random.Generator, spec: InputSpec, shape: tuple[int, ...], scale: float) -> Array:
    low, high = spec.typical or (-scale, scale)
    return _draw(rng, spec.dtype, shape, low, high)


def _draw(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...], low: float, high: float) -> Array:
    if dtype.is_float:
        return rng.uniform(low, high, shape).astype(dtype.numpy)
    # Whole numbers may be indices into a table, whose size is not known: 0 and 1 exist in every one.
    return rng.integers(0, 2, shape).astype(dtype.numpy)


def _head(states: list[Array], pairs: Sequence[StatePair], count: int) -> list[Array]:
    return [rows_of(s, p, 0, count) for s, p in zip(states, pairs, strict=True)]


def _first_rows(trace: _Trace, pairs: Sequence[StatePair], count: int) -> _Trace:
    return _Trace([o[:count] for o in trace.outputs], _head(trace.states, pairs, count))


def _same(one: _Trace, other: _Trace) -> bool:
    ours, theirs = (*one.outputs, *one.states), (*other.outputs, *other.states)
    return all(a.tobytes() == b.tobytes() for a, b in zip(ours, theirs, strict=True))
