"""Proves at load whether a model gives bit-identical answers alone and batched, by steps and in chunks.

Bit-exactness is a property of operators in an ONNX Runtime build on a kind of CPU, not of the
arithmetic: an LSTM with constant weights has it, a Softplus or a mean over a narrow axis may not.
So it is never assumed. Every check compares with the same rows run alone, one step at a time.

A vectorised kernel computes full vectors and remainders by different formulas, and both must be reached:
wide batches of few steps reach them across rows, one row of many steps reaches them along time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, inf
from typing import Literal, NamedTuple

import numpy as np

from tidegate.errors import PackageError
from tidegate.model.manifest import InputSpec, StatePair
from tidegate.runner.graph import Graph
from tidegate.tensor import Array, DType, IntArray

WIDTHS = (2, 3, 5, 8, 16, 17, 33, 64, 100, 256)
"""Batch sizes that are tried; odd ones reach the remainder loops of vectorised kernels."""

NUM_STEPS = 6
"""Steps of the batches."""

CHUNKS = (2, 3, 5, 6, 8, 16, 17, 33, 64)
"""Steps in one run of a single row, besides the longest run that the engine forms."""

SCALES = (0.1, 1.0, 30.0)
"""Magnitudes of inputs, so that no case saturates every gate."""

SEED = 20260101

SMALL = 0.01
"""What is left of numbers that cancel out is measured by this."""

ROUNDING = 0.01
"""Larger differences between a chunk and its steps are not the last digits of float16, let alone float32."""


@dataclass(frozen=True)
class Exactness:
    """What the probe found.

    Attributes:
        rows: Rows may share a run: answers do not depend on the company.
        steps: Steps may share a run: a chunk equals its steps one by one.
        detail: The first check that failed, for people; empty when both hold.
        steps_gap: By how much a chunk differs from its steps, as a part of the largest value; 0 when
            `steps` holds.
    """

    rows: bool
    steps: bool
    detail: str = ""
    steps_gap: float = 0.0

    @property
    def exact(self) -> bool:
        """Promise P1 holds however the model is batched."""
        return self.rows and self.steps

    @property
    def looks_ahead(self) -> bool:
        """A chunk differs from its steps by more than rounding: the model is no function of a step and its state.

        A layer that reads a chunk in both directions does that, and so does a state that goes where another
        belongs.
        """
        return self.steps_gap > ROUNDING


@dataclass(frozen=True)
class _Trace:
    """Everything a run gave: outputs [n, T, ...] and new states, in the graph's layout."""

    outputs: list[Array]
    states: list[Array]


@dataclass(frozen=True)
class _Case:
    """Random rows and what each of them gives when it runs alone, one step at a time."""

    inputs: list[Array]
    states: list[Array]
    alone: _Trace


class _Finding(NamedTuple):
    kind: Literal["rows", "steps"]
    gap: float | None
    """By how much; None where the bits are the same."""
    text: str
    """What differs."""

    @property
    def told(self) -> str:
        """The finding, for people."""
        told = f"{self.text} by up to {self.gap:.1g}"
        if self.kind == "rows" or not self.gap or self.gap <= ROUNDING:
            return told
        return f"{told}, which is more than rounding: a state pair is wrong, or the graph looks ahead"


def probe(graph: Graph, *, max_rows: int, max_steps: int) -> Exactness:
    """Compare rows run alone and one step at a time with every other way to run them.

    Args:
        graph: A graph that has passed its dry run.
        max_rows: Largest batch that the engine will form.
        max_steps: Longest chunk that the engine will run.

    Raises:
        PackageError: A run fails: the graph does not take the numbers that were drawn.
    """
    failed: dict[str, _Finding] = {}
    try:
        for finding in _findings(graph, max_rows, max_steps):
            if finding.gap is not None:
                failed.setdefault(finding.kind, finding)
    except Exception as error:  # ONNX Runtime has a dozen unrelated exception classes
        text = " ".join(str(error).split())
        raise PackageError(
            f"{graph.manifest.label}: a run on random inputs fails; `typical` tells the range of an input: {text}"
        ) from error
    steps_gap = failed["steps"].gap or 0.0 if "steps" in failed else 0.0
    detail = "; ".join(f.told for f in failed.values())
    return Exactness("rows" not in failed, "steps" not in failed, detail, steps_gap)


def _findings(graph: Graph, max_rows: int, max_steps: int) -> Iterator[_Finding]:
    rng = np.random.default_rng(SEED)
    for scale in SCALES:
        if graph.manifest.has_time_axis:
            yield from _along_time(graph, _case(graph, rng, 1, max_steps, scale), max_steps)
        if graph.manifest.has_batch_axis:
            yield from _across_rows(
                graph, _case(graph, rng, min(max_rows, WIDTHS[-1]), NUM_STEPS, scale), max_rows
            )


def _along_time(graph: Graph, case: _Case, max_steps: int) -> Iterator[_Finding]:
    """One row in chunks."""
    for steps in sorted({c for c in CHUNKS if c < max_steps} | {max_steps} - {1}):
        chunked = _stepwise(graph, case.inputs, case.states, steps)
        gap = _gap(chunked, case.alone)
        if gap is not None:
            gap = _first_gap(graph, case, steps) or gap
        yield _Finding("steps", gap, f"{steps} steps at once differ from one by one")


def _across_rows(graph: Graph, case: _Case, max_rows: int) -> Iterator[_Finding]:
    """Batches of many widths, step by step and at once."""
    pairs = graph.manifest.states
    num_drawn = len(case.inputs[0])
    for width in sorted({w for w in WIDTHS if w < max_rows} | {max_rows} - {1}):
        rows = np.arange(width) % num_drawn
        inputs, states = [x[rows] for x in case.inputs], _take(case.states, pairs, rows)
        alone = _Trace([o[rows] for o in case.alone.outputs], _take(case.alone.states, pairs, rows))
        together = _gap(_stepwise(graph, inputs, states, 1), alone)
        yield _Finding("rows", together, f"{width} rows together differ from the same rows alone")
        if together is None and graph.manifest.has_time_axis:
            gap = _gap(_stepwise(graph, inputs, states, NUM_STEPS), alone)
            yield _Finding("steps", gap, f"{NUM_STEPS} steps at once of {width} rows differ from one by one")


def _case(graph: Graph, rng: np.random.Generator, num_rows: int, num_steps: int, scale: float) -> _Case:
    manifest = graph.manifest
    inputs = [draw_input(rng, i, (num_rows, num_steps, *i.step_shape), scale) for i in manifest.inputs]
    states = [_draw(rng, s.dtype, s.graph_shape(num_rows, 1), *_range(s.dtype, 1.0)) for s in manifest.states]
    return _Case(inputs, states, _alone(graph, inputs, states))


def _alone(graph: Graph, inputs: list[Array], states: list[Array]) -> _Trace:
    """Each row by itself, one step at a time."""
    pairs = graph.manifest.states
    rows = [
        _stepwise(graph, [x[i : i + 1] for x in inputs], _take(states, pairs, np.array([i])), 1)
        for i in range(len(inputs[0]))
    ]
    outputs = [np.concatenate(parts) for parts in zip(*(r.outputs for r in rows), strict=True)]
    by_state = zip(*(r.states for r in rows), strict=True)
    return _Trace(outputs, [_join(parts, p) for parts, p in zip(by_state, pairs, strict=True)])


def _stepwise(graph: Graph, inputs: list[Array], states: list[Array], steps_per_run: int) -> _Trace:
    """Run all steps in pieces of `steps_per_run`."""
    bounds = [*range(0, inputs[0].shape[1], steps_per_run), inputs[0].shape[1]]
    pieces = []
    for start, end in pairwise(bounds):
        outputs, states = graph.run([np.ascontiguousarray(x[:, start:end]) for x in inputs], states)
        pieces.append(outputs)
    return _Trace([np.concatenate(parts, axis=1) for parts in zip(*pieces, strict=True)], states)


def draw_input(rng: np.random.Generator, spec: InputSpec, shape: tuple[int, ...], scale: float) -> Array:
    """Random values that an input takes, about as large as `scale` unless the manifest tells its range."""
    return _draw(rng, spec.dtype, shape, *(spec.typical or _range(spec.dtype, scale)))


def _range(dtype: DType, scale: float) -> tuple[float, float]:
    """Whole numbers may be indices into a table, whose size is not known: 0 and 1 exist in every one."""
    return (-scale, scale) if dtype.is_float else (0, 1)


def _draw(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...], low: float, high: float) -> Array:
    if dtype.is_float:
        return rng.uniform(low, high, shape).astype(dtype.numpy)
    return rng.integers(ceil(low), floor(high), shape, endpoint=True).astype(dtype.numpy)


def _take(states: Sequence[Array], pairs: Sequence[StatePair], rows: IntArray) -> list[Array]:
    """Some rows of states in the graph's layout; one without a batch axis is that of the one row."""
    return [
        s if p.batch_axis is None else s.take(rows, p.batch_axis) for s, p in zip(states, pairs, strict=True)
    ]


def _join(parts: Sequence[Array], pair: StatePair) -> Array:
    """Put rows back together along the batch axis."""
    return parts[0] if pair.batch_axis is None else np.concatenate(parts, axis=pair.batch_axis)


def _first_gap(graph: Graph, case: _Case, steps: int) -> float | None:
    """By how much the first chunk of one row differs from its steps.

    What a chaotic model makes of a last digit in the steps that follow is no measure.
    """
    inputs = [np.ascontiguousarray(x[:, :steps]) for x in case.inputs]
    return _gap(_stepwise(graph, inputs, case.states, steps), _stepwise(graph, inputs, case.states, 1))


def _gap(one: _Trace, other: _Trace) -> float | None:
    """By how much two traces differ at most, see `_difference`; None where they have the same bits."""
    ours, theirs = (*one.outputs, *one.states), (*other.outputs, *other.states)
    if all(a.tobytes() == b.tobytes() for a, b in zip(ours, theirs, strict=True)):
        return None
    return max(_difference(a, b) for a, b in zip(ours, theirs, strict=True))


def _difference(one: Array, other: Array) -> float:
    """The largest difference of two arrays, as a part of the largest value or of `SMALL`."""
    ours, theirs = one.astype(np.float64), other.astype(np.float64)
    differ = (ours != theirs) & ~(np.isnan(ours) & np.isnan(theirs))
    if not differ.any():
        return 0.0
    finite = np.isfinite(ours) & np.isfinite(theirs)
    if not finite[differ].all():
        return inf
    largest = np.abs(theirs[finite]).max(initial=SMALL)
    return float(np.abs(ours[differ] - theirs[differ]).max() / largest)
