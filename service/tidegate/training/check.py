"""Does an exported graph compute what the module computes? Checked before a package is written.

Exporters go wrong quietly: a time axis frozen to the example's length, h and c swapped, layers in the
wrong order all give graphs that run. So the graph is run in ONNX Runtime at several batch sizes and
lengths, from random states that differ from each other, and every output and every state is compared
with PyTorch. The same inputs step by step must give what the chunk gave, or the module looks ahead.
tidegate's own cells are also compared with the float64 formulas.

An input that accepts missing values is given some, and nothing that comes out may be NaN.

Tolerances, relative to the largest value of a tensor: ONNX Runtime and PyTorch add up the same products in
another order. Rounding then differs by about sqrt(1000) units in the last place (1.2e-7 in float32) for
sums of a thousand terms, and their tanh and exp by a few units more; 2e-5 is four times that, and a
wrong graph is off by more than a hundredth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from tidegate.errors import PackageError
from tidegate.model.manifest import InputSpec, Manifest, OutputSpec, StatePair
from tidegate.runner.graph import Graph
from tidegate.tensor import Array, DType, format_shape
from tidegate.training.cells import RecurrentStack

SHAPES = ((1, 1), (2, 3), (5, 7), (3, 1), (1, 16))
"""Batch sizes and numbers of steps that are tried."""

MISSING_SHARE = 0.2
"""Of the values of an input that accepts missing ones."""

TOLERANCE = {DType.FLOAT64: 1e-11, DType.FLOAT32: 2e-5, DType.FLOAT16: 2e-2}

Tensors = list[Array]


def check_export(graph: Graph, module: nn.Module, *, examples: Mapping[str, Array] | None = None) -> None:
    """Compare an exported graph with its module.

    Args:
        graph: The exported graph; loading it has checked names, types and declared shapes.
        module: In evaluation mode; takes inputs then states, gives outputs then states.
        examples: By input or state name, steps of one row to draw from, [N, step_shape]; where values
            drawn from a normal distribution would make no sense to the module.

    Raises:
        PackageError: Names the shape, the tensor and the largest difference.
    """
    manifest = graph.manifest
    random = np.random.default_rng(0)
    for batch, steps in run_shapes(manifest):
        where = f"{manifest.label}: batch {batch}, {steps} steps"
        inputs = _draw(manifest.inputs, batch, steps, random, examples or {})
        states = _draw(manifest.states, batch, steps, random, examples or {})
        found = _run_graph(graph, inputs, states, where)
        expected = _run_module(module, manifest, inputs + states, where)
        _compare(manifest, found, expected, f"{where}: ONNX Runtime", "PyTorch")
        if steps > 1:
            stepwise = _run_steps(graph, inputs, states, where)
            _compare(manifest, stepwise, found, f"{where}: step by step", "the chunk")


def check_cells(cells: RecurrentStack) -> None:
    """Compare a stack of tidegate's own cells with the float64 formulas.

    Raises:
        PackageError: Names the shape, the tensor and the largest difference.
    """
    random = np.random.default_rng(0)
    layers, hidden_size = cells.state_shape
    for batch, steps in SHAPES:
        z = random.standard_normal((batch, steps, cells.num_inputs)).astype(np.float32)
        shape = (layers, batch, hidden_size)
        state = [random.standard_normal(shape).astype(np.float32) for _ in cells.state_names]
        with torch.no_grad():
            found = [t.numpy() for t in cells(*(torch.from_numpy(a) for a in (z, *state)))]
        where = f"{type(cells).__name__}: batch {batch}, {steps} steps: PyTorch"
        names = ("output", *cells.state_names)
        for name, got, expected in zip(names, found, cells.reference(z, *state), strict=True):
            _compare_tensor(name, DType.FLOAT32, got, expected, where, "the float64 formulas")


def run_shapes(manifest: Manifest) -> list[tuple[int, int]]:
    """The batch sizes and numbers of steps that the model's axes allow, each once."""
    shapes = [
        (batch if manifest.has_batch_axis else 1, steps if manifest.has_time_axis else 1)
        for batch, steps in SHAPES
    ]
    return list(dict.fromkeys(shapes))


def _draw(
    specs: Sequence[InputSpec | StatePair],
    batch: int,
    steps: int,
    random: np.random.Generator,
    examples: Mapping[str, Array],
) -> Tensors:
    """Random values in the graph's layout."""
    drawn = []
    for spec in specs:
        name = spec.input_name if isinstance(spec, StatePair) else spec.name
        shape = spec.graph_shape(batch, steps)
        if name in examples:
            values = _draw_rows(examples[name], spec, shape, random)
        elif spec.dtype.is_float:
            values = random.standard_normal(shape)
        else:
            values = random.integers(0, 2, shape)
        if isinstance(spec, InputSpec) and spec.accepts_missing:
            values = np.where(random.random(shape) < MISSING_SHARE, np.nan, values)
        drawn.append(np.ascontiguousarray(values, spec.dtype.numpy))
    return drawn


def _draw_rows(
    rows: Array, spec: InputSpec | StatePair, shape: Sequence[int], random: np.random.Generator
) -> Array:
    axes = _marked_axes(spec)
    picked = rows[random.integers(0, len(rows), [shape[axis] for axis in axes])]
    laid_out: Array = np.moveaxis(picked, range(len(axes)), axes)
    return laid_out


def _run_graph(graph: Graph, inputs: Tensors, states: Tensors, where: str) -> Tensors:
    """Outputs in the wire's layout, then states in the graph's."""
    specs = graph.manifest.inputs
    try:
        outputs, states = graph.run(
            [_to_wire(x, spec) for x, spec in zip(inputs, specs, strict=True)], states
        )
    except Exception as error:  # ONNX Runtime has a dozen unrelated exception classes
        text = " ".join(str(error).split())
        raise PackageError(f"{where}: ONNX Runtime cannot run the graph: {text}") from error
    return outputs + states


def _run_steps(graph: Graph, inputs: Tensors, states: Tensors, where: str) -> Tensors:
    """What `_run_graph` gives, from one run per step."""
    axes = [i.time_axis or 0 for i in graph.manifest.inputs]
    num_outputs = len(graph.manifest.outputs)
    pieces = []
    for step in range(inputs[0].shape[axes[0]]):
        now = [np.take(x, [step], axis) for x, axis in zip(inputs, axes, strict=True)]
        found = _run_graph(graph, now, states, where)
        pieces.append(found[:num_outputs])
        states = found[num_outputs:]
    return [np.concatenate(parts, axis=1) for parts in zip(*pieces, strict=True)] + states


def _run_module(module: nn.Module, manifest: Manifest, tensors: Tensors, where: str) -> Tensors:
    """As `_run_graph`, by PyTorch."""
    with torch.no_grad():
        found = module(*(torch.from_numpy(t) for t in tensors))
    given = [t.numpy() for t in (found if isinstance(found, tuple | list) else (found,))]
    num_expected = len(manifest.outputs) + len(manifest.states)
    if len(given) != num_expected:
        raise PackageError(f"{where}: expected {num_expected} tensors from the module, got {len(given)}")
    outputs = [_to_wire(y, spec) for y, spec in zip(given, manifest.outputs, strict=False)]
    return outputs + given[len(outputs) :]


def _marked_axes(spec: InputSpec | OutputSpec | StatePair) -> list[int]:
    return [axis for axis in (spec.batch_axis, spec.time_axis) if axis is not None]


def _to_wire(value: Array, spec: InputSpec | OutputSpec) -> Array:
    """[n, T, step_shape...] from the graph's layout."""
    axes = _marked_axes(spec)
    value = np.moveaxis(value, axes, range(len(axes)))
    if spec.batch_axis is None:
        value = value[None]
    return np.ascontiguousarray(value if spec.time_axis is not None else value[:, None])


def _compare(manifest: Manifest, found: Tensors, expected: Tensors, where: str, other: str) -> None:
    given = [(o.name, o.dtype) for o in manifest.outputs]
    given += [(s.output_name, s.dtype) for s in manifest.states]
    for (name, dtype), got, want in zip(given, found, expected, strict=True):
        _compare_tensor(name, dtype, got, want, where, other)


def _compare_tensor(name: str, dtype: DType, got: Array, want: Array, where: str, other: str) -> None:
    if got.shape != want.shape:
        shapes = f"expected {format_shape(want.shape)} as from {other}, got {format_shape(got.shape)}"
        raise PackageError(f"{where}: {name!r}: {shapes}")
    if got.dtype != dtype.numpy:
        raise PackageError(f"{where}: {name!r}: expected {dtype}, got {got.dtype}")
    difference = np.abs(got.astype(np.float64) - want.astype(np.float64))
    allowed = TOLERANCE.get(dtype, 0.0) * max(1.0, float(np.abs(want).max(initial=0)))
    largest = float(difference.max(initial=0))
    if not largest <= allowed:  # a NaN is no agreement either
        raise PackageError(
            f"{where}: {name!r} differs from {other} by up to {largest:.3g}, allowed {allowed:.3g}"
        )
