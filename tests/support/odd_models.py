"""Packages with graphs that real exporters make and an LSTM of one layer does not: states packed into
one tensor, batch axes in any place or none, whole numbers, graphs that can fail at run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tidegate.model.manifest import ConstantInput, InitialFile, InputSpec, Manifest, OutputSpec, StatePair
from tidegate.model.package import content_hash, npy_bytes, write_package
from tidegate.tensor import DType

Spec = InputSpec | OutputSpec | StatePair | ConstantInput
Shape = Sequence[int | str]

F32 = DType.FLOAT32


def custom_package(
    repository: Path,
    name: str,
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: Sequence[InputSpec],
    outputs: Sequence[OutputSpec],
    states: Sequence[StatePair] = (),
    constants: Sequence[ConstantInput] = (),
    weights: Mapping[str, np.ndarray] | None = None,
    initial: Mapping[str, np.ndarray] | None = None,
    graph: Mapping[str, tuple[DType, Shape]] | None = None,
    **manifest: object,
) -> Path:
    """Write a package whose graph and manifest agree.

    Args:
        initial: Initial states by file name.
        graph: Where the graph is to differ from the manifest: type and shape by name.
        manifest: Further keys of the manifest.
    """
    said = graph or {}
    takes = [_info(i.name, i, said) for i in (*inputs, *constants)]
    takes += [_info(s.input_name, s, said) for s in states]
    gives = [_info(o.name, o, said) for o in outputs] + [_info(s.output_name, s, said) for s in states]
    stored = [numpy_helper.from_array(v, k) for k, v in (weights or {}).items()]
    model = helper.make_model(
        helper.make_graph(list(nodes), name, takes, gives, stored),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx_bytes = bytes(model.SerializeToString())
    files = {k: npy_bytes(v) for k, v in (initial or {}).items()}
    described = {
        "name": name,
        "version": "1",
        "sha256": content_hash(onnx_bytes, files),
        "inputs": tuple(inputs),
        "outputs": tuple(outputs),
        "states": tuple(states),
        "constants": tuple(constants),
    }
    return write_package(repository, Manifest.model_validate(described | manifest), onnx_bytes, files)


def counter_package(
    repository: Path,
    *,
    name: str = "counter",
    batch: bool = True,
    width: int = 2,
    start: np.ndarray | None = None,
    **manifest: object,
) -> Path:
    """`h' = h + x; y = h'`, one step at a time, with a batch axis or for one row only.

    Args:
        start: Initial state, as a file of the package.
    """
    initial: Literal["zeros"] | InitialFile = "zeros" if start is None else InitialFile(file="start.npy")
    files = {} if start is None else {"start.npy": start}
    shape: Shape = ("batch", width) if batch else (width,)
    return custom_package(
        repository,
        name,
        [helper.make_node("Add", ["h", "x"], ["h_out"]), helper.make_node("Identity", ["h_out"], ["y"])],
        inputs=[InputSpec(name="x", dtype=F32, shape=shape)],
        outputs=[OutputSpec(name="y", dtype=F32, shape=shape)],
        states=[StatePair(input_name="h", output_name="h_out", dtype=F32, shape=shape, initial=initial)],
        initial=files,
        **manifest,
    )


def timed_package(repository: Path, name: str, operator: str, *, width: int = 1) -> Path:
    """`y = operator(x)` over time, with a counter as its state: what it does goes by elements alone."""
    shape = ("batch", "time", width)
    state = ("batch", width)
    return custom_package(
        repository,
        name,
        [
            helper.make_node(operator, ["x"], ["y"]),
            helper.make_node("ReduceMax", ["x"], ["top"], axes=[1], keepdims=0),
            helper.make_node("Max", ["h", "top"], ["h_out"]),
        ],
        inputs=[InputSpec(name="x", dtype=F32, shape=shape)],
        outputs=[OutputSpec(name="y", dtype=F32, shape=shape)],
        states=[StatePair(input_name="h", output_name="h_out", dtype=F32, shape=state)],
    )


def _info(name: str, spec: Spec, said: Mapping[str, tuple[DType, Shape]]) -> onnx.ValueInfoProto:
    dtype, shape = said.get(name, (spec.dtype, spec.shape))
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype.numpy), list(shape))


def double_package(repository: Path) -> Path:
    """Answers 2 x and carries nothing."""
    return custom_package(
        repository,
        "double",
        [helper.make_node("Add", ["x", "x"], ["y"])],
        inputs=[InputSpec(name="x", dtype=F32, shape=("batch", 2))],
        outputs=[OutputSpec(name="y", dtype=F32, shape=("batch", 2))],
    )
