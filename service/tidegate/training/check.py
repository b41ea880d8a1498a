"""Does an exported graph compute what the module computes? Checked before a package is written.

Exporters go wrong quietly: a time axis frozen to the example's length, h and c swapped, layers in the
wrong order all give graphs that run. So the graph is run in ONNX Runtime at several batch sizes and
lengths, from random states that differ from each other, and every output and every state is compared
with PyTorch. The same inputs step by step must give what the chunk gave, or the module looks ahead.
tidegate's own cells are also compared with the float64 formulas.

Tolerances, relative to the largest value of a tensor: ONNX Runtime and PyTorch add up the same products in
another order. Rounding then differs by about sqrt(1000) units in the last place (1.2e-7 in float32) for
sums of a thousand terms, and their tanh and exp by a few units more; 2e-5 is four times that, and a
wrong graph is off by more than a hundredth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime
import torch
from torch import nn

from tidegate.errors import PackageError
from tidegate.model.manifest import InputSpec, Manifest, OutputSpec, StatePair
from tidegate.tensor import Array, DType, format_shape
from tidegate.training.cells import RecurrentStack

SHAPES = ((1, 1), (2, 3), (5, 7), (3, 1), (1, 16))
"""Batch sizes and numbers of steps that are tried."""

TOLERANCE = {DType.FLOAT64: 1e-11, DType.FLOAT32: 2e-5, DType.FLOAT16: 2e-2}

Tensors = list[Array]


def check_export(
    onnx: bytes, module: nn.Module, manifest: Manifest, *, examples: Mapping[str, Array] | None = None
) -> None:
    """Compare an exported graph with its module.

    Args:
        onnx: The graph.
        module: In evaluation mode; takes inputs then states, gives outputs then states.
        manifest: Names, shapes and pairs that the graph must have.
        examples: By input or state name, steps of one row to draw from, [N, step_shape]; where values
            drawn from a normal distribution would make no sense to the module.

    Raises:
        PackageError: Names the shape, the tensor and the largest difference.
    """
    session = open_session(onnx, manifest)
    _check_declared(session, manifest)
    random = np.random.default_rng(0)
    for batch, steps in run_shapes(manifest):
        inputs = _draw(manifest.inputs, batch, steps, random, examples or {})
        states = _draw(manifest.states, batch, steps, random, examples or {})
        where = f"{manifest.label}: batch {batch}, {steps} steps"
        found = _run(session, manifest, inputs + states, where)
        _compare(
            _given(manifest), found, _run_torch(module, inputs + states), f"{where}: ONNX Runtime", "PyTorch"
        )
        if steps > 1:
            stepwise = _run_steps(session, manifest, inputs, states, where)
            _compare(_given(manifest), stepwise, found, f"{where}: step by step", "in one chunk")


def check_cells(cells: RecurrentStack) -> None:
    """Compare a stack of tidegate's own cells with the float64 formulas, gate by gate.

    Raises:
        PackageError: Names the shape, the tensor and the largest difference.
    """
    random = np.random.default_rng(0)
    layers, hidden_size = cells.state_shape
    for batch, steps in SHAPES:
        z = random.standard_normal((batch, steps, cells.num_inputs)).astype(np.float32)
        state = [
            random.standard_normal((layers, batch, hidden_size)).astype(np.float32) for _ in cells.state_names
        ]
        found = _run_torch(cells, [z, *state])
        for name, got, expected in zip(
            ("output", *cells.state_names), found, cells.reference(z, *state), strict=True
        ):
            where = f"{type(cells).__name__}: batch {batch}, {steps} steps"
            _compare_tensor(name, DType.FLOAT32, got, expected, f"{where}: PyTorch", "the float64 formulas")


def open_session(onnx: bytes, manifest: Manifest) -> onnxruntime.InferenceSession:
    """Load a graph on the CPU with one thread.

    Raises:
        PackageError: ONNX Runtime cannot load it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no base class for its errors
        raise PackageError(f"{manifest.label}: ONNX Runtime cannot load the graph: {error}") from error


def run_shapes(manifest: Manifest) -> list[tuple[int, int]]:
    """The batch sizes and numbers of steps that the model's axes allow, each once."""
    shapes = [
        (batch if manifest.has_batch_axis else 1, steps if manifest.has_time_axis else 1)
        for batch, steps in SHAPES
    ]
    return list(dict.fromkeys(shapes))


def _check_declared(session: onnxruntime.InferenceSession, manifest: Manifest) -> None:
    taken = [(i.name, i) for i in manifest.inputs] + [(s.input_name, s) for s in manifest.states]
    given = [(o.name, o) for o in manifest.outputs] + [(s.output_name, s) for s in manifest.states]
    for what, wanted, nodes in (
        ("input", taken, session.get_inputs()),
        ("output", given, session.get_outputs()),
    ):
        declared = {node.name: node.shape for node in nodes}
        if set(declared) != {name for name, _ in wanted}:
            expected = ", ".join(name for name, _ in wanted)
            raise PackageError(f"{manifest.label}: {what}s: expected {expected}, got {', '.join(declared)}")
        for name, spec in wanted:
            if not _fits(declared[name], spec):
                expected = ", ".join(str(d) for d in spec.shape)
                raise PackageError(
                    f"{manifest.label}: {what} {name!r}: expected shape [{expected}],"
                    f" got {format_shape(declared[name])}"
                )


def _fits(declared: Sequence[int | str | None], spec: InputSpec | OutputSpec | StatePair) -> bool:
    """A marked axis must be free in the graph; a size that the graph leaves open may be any."""
    return len(declared) == len(spec.shape) and all(
        not isinstance(got, int) or got == want for got, want in zip(declared, spec.shape, strict=True)
    )


def _given(manifest: Manifest) -> list[tuple[str, DType]]:
    outputs = [(o.name, o.dtype) for o in manifest.outputs]
    return outputs + [(s.output_name, s.dtype) for s in manifest.states]


def _draw(
    specs: Sequence[InputSpec | StatePair],
    batch: int,
    steps: int,
    random: np.random.Generator,
    examples: Mapping[str, Array],
) -> Tensors:
    drawn = []
    for spec in specs:
        shape = spec.graph_shape(batch, steps)
        name = spec.input_name if isinstance(spec, StatePair) else spec.name
        if name in examples:
            values = _draw_rows(examples[name], spec, batch, steps, random)
        elif spec.dtype.is_float:
            values = random.standard_normal(shape)
        else:
            values = random.integers(0, 2, shape)
        drawn.append(np.ascontiguousarray(values, spec.dtype.numpy))
    return drawn


def _draw_rows(
    rows: Array, spec: InputSpec | StatePair, batch: int, steps: int, random: np.random.Generator
) -> Array:
    """Random rows of the examples, laid out with the tensor's axes in their places."""
    axes = [axis for axis in (spec.batch_axis, spec.time_axis) if axis is not None]
    sizes = [spec.graph_shape(batch, steps)[axis] for axis in axes]
    picked = rows[random.integers(0, len(rows), sizes)]
    laid_out: Array = np.moveaxis(picked, range(len(axes)), axes)
    return laid_out


def _run(session: onnxruntime.InferenceSession, manifest: Manifest, tensors: Tensors, where: str) -> Tensors:
    names = [i.name for i in manifest.inputs] + [s.input_name for s in manifest.states]
    wanted = [name for name, _ in _given(manifest)]
    try:
        found: Tensors = session.run(wanted, dict(zip(names, tensors, strict=True)))
    except Exception as error:  # ONNX Runtime has no base class for its errors
        raise PackageError(f"{where}: ONNX Runtime cannot run the graph: {error}") from error
    return found


def _run_steps(
    session: onnxruntime.InferenceSession, manifest: Manifest, inputs: Tensors, states: Tensors, where: str
) -> Tensors:
    """The chunk of `_run`, one step per run, its outputs put together along their time axes."""
    time_axes = [i.time_axis or 0 for i in manifest.inputs]
    num_outputs = len(manifest.outputs)
    pieces = []
    for step in range(inputs[0].shape[time_axes[0]]):
        now = [np.take(x, [step], axis) for x, axis in zip(inputs, time_axes, strict=True)]
        found = _run(session, manifest, now + states, where)
        pieces.append(found[:num_outputs])
        states = found[num_outputs:]
    joined = [
        np.concatenate(parts, o.time_axis or 0)
        for o, parts in zip(manifest.outputs, zip(*pieces, strict=True), strict=True)
    ]
    return joined + states


def _run_torch(module: nn.Module, tensors: Tensors) -> Tensors:
    with torch.no_grad():
        found = module(*(torch.from_numpy(t) for t in tensors))
    return [t.numpy() for t in (found if isinstance(found, tuple | list) else (found,))]


def _compare(
    given: Sequence[tuple[str, DType]], found: Tensors, expected: Tensors, where: str, other: str
) -> None:
    if len(found) != len(expected):
        raise PackageError(f"{where}: expected {len(expected)} tensors as in {other}, got {len(found)}")
    for (name, dtype), got, want in zip(given, found, expected, strict=True):
        _compare_tensor(name, dtype, got, want, where, other)


def _compare_tensor(name: str, dtype: DType, got: Array, want: Array, where: str, other: str) -> None:
    if got.shape != want.shape:
        shapes = f"expected {format_shape(want.shape)} as in {other}, got {format_shape(got.shape)}"
        raise PackageError(f"{where}: {name!r}: {shapes}")
    if got.dtype != dtype.numpy:
        raise PackageError(f"{where}: {name!r}: expected {dtype}, got {got.dtype}")
    difference = np.abs(got.astype(np.float64) - want.astype(np.float64))
    allowed = TOLERANCE.get(dtype, 0.0) * max(1.0, float(np.abs(want).max(initial=0)))
    largest = float(difference.max(initial=0))
    if not largest <= allowed:
        raise PackageError(
            f"{where}: {name!r} differs from {other} by up to {largest:.3g}, allowed {allowed:.3g}"
        )
