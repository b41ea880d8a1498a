"""What ONNX Runtime gives on its own: one row at a time, one step at a time, nothing of ours between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from tidegate.model.manifest import Manifest
from tidegate.model.package import ModelPackage
from tidegate.tensor import Array


@dataclass(frozen=True)
class PlainRun:
    """Outputs `[n, T, step_shape...]`, and states after the last step `[n, step_shape...]`."""

    outputs: list[Array]
    states: list[Array]


def draw_rows(manifest: Manifest, num_rows: int, num_steps: int, seed: int) -> list[Array]:
    """Random inputs `[n, T, step_shape...]`, one array per model input."""
    rng = np.random.default_rng(seed)
    return [
        rng.normal(0, 1, shape).astype(i.dtype.numpy) if i.dtype.is_float else rng.integers(0, 4, shape).astype(i.dtype.numpy)
        for i, shape in ((i, (num_rows, num_steps, *i.step_shape)) for i in manifest.inputs)
    ]  # fmt: skip


def plain_run(package: ModelPackage, inputs: list[Array]) -> PlainRun:
    """Run every row by itself."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(package.onnx, options, providers=["CPUExecutionProvider"])
    rows = [_row(session, package, [x[i] for x in inputs]) for i in range(len(inputs[0]))]
    outputs, states = (
        [np.stack(parts) for parts in zip(*whole, strict=True)] for whole in zip(*rows, strict=True)
    )
    return PlainRun(outputs, states)


def _row(
    session: ort.InferenceSession, package: ModelPackage, inputs: list[Array]
) -> tuple[list[Array], list[Array]]:
    """Outputs `[T, step_shape...]` and states of one row."""
    # With one row and one step, axes of length 1 are all that the layouts differ by.
    manifest = package.manifest
    constants = {c.name: np.full(c.shape, c.value, c.dtype.numpy) for c in manifest.constants}
    states = list(package.initial_states)
    steps = []
    for t in range(len(inputs[0])):
        feeds = dict(constants)
        feeds |= {
            i.name: x[t].reshape(i.graph_shape(1, 1)) for i, x in zip(manifest.inputs, inputs, strict=True)
        }
        feeds |= {
            s.input_name: x.reshape(s.graph_shape(1, 1)) for s, x in zip(manifest.states, states, strict=True)
        }
        found = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
        steps.append([found[o.name].reshape(o.step_shape) for o in manifest.outputs])
        states = [found[s.output_name].reshape(s.step_shape) for s in manifest.states]
    return [np.stack(parts) for parts in zip(*steps, strict=True)], states
