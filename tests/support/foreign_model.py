"""ONNX files as other people's exporters write them, each with what its owner would say of it.

None of them comes with a manifest: `ForeignModel.package` makes one the way `tidegate models import` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tidegate.model.axes import ALL, AxisAnswers
from tidegate.model.importing import Answers, Initial, draft_manifest
from tidegate.model.manifest import Dim
from tidegate.model.package import write_package
from tidegate.runner.signature import read_signature

FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64

Tensor = tuple[int, Sequence[int | str | None] | None]
"""Element type and shape; a shape of None is not told by the file."""

node = helper.make_node


def onnx_bytes(
    nodes: Sequence[onnx.NodeProto],
    takes: Mapping[str, Tensor],
    gives: Mapping[str, Tensor],
    weights: Mapping[str, np.ndarray] | None = None,
) -> bytes:
    """An ONNX file."""
    infos = [[helper.make_tensor_value_info(n, *t) for n, t in tensors.items()] for tensors in (takes, gives)]
    graph = helper.make_graph(
        list(nodes), "foreign", *infos, [numpy_helper.from_array(v, k) for k, v in (weights or {}).items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """An ONNX file, and what its owner says of it."""

    onnx: bytes
    inputs: tuple[str, ...] = ("x",)
    states: Mapping[str, str]
    outputs: tuple[str, ...] = ()
    constants: Mapping[str, float] = field(default_factory=dict)
    dims: Mapping[str, Dim] = field(default_factory=lambda: {"N": "batch", "T": "time"})
    shapes: Mapping[str, tuple[Dim, ...]] = field(default_factory=dict)
    initial: Mapping[str, Initial] = field(default_factory=lambda: {ALL: "zeros"})
    is_exact: bool = True

    def package(self, repository: Path, name: str = "foreign") -> Path:
        """Write the package; the manifest is what an import would write."""
        draft = draft_manifest(
            read_signature(self.onnx, label=name),
            self.onnx,
            Answers(
                inputs=self.inputs,
                states=self.states,
                constants=self.constants,
                outputs=self.outputs,
                axes=AxisAnswers(shapes=self.shapes, dims=self.dims),
                initial=self.initial,
                manifest={"name": name, "version": "1"},
            ),
        )
        return write_package(repository, draft.manifest, self.onnx, draft.files)


def weights_of(seed: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Random float32 weights."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def lstm_weights(seed: int, features: int, hidden: int, prefix: str = "") -> dict[str, np.ndarray]:
    """W, R and B of an LSTM node, named `<prefix>w`, `<prefix>r` and `<prefix>b`."""
    shapes = {"w": (1, 4 * hidden, features), "r": (1, 4 * hidden, hidden), "b": (1, 8 * hidden)}
    return weights_of(seed, **{prefix + key: shape for key, shape in shapes.items()})


def lstm_node(
    x: str, h: str, c: str, y: str, h_out: str, c_out: str, hidden: int, prefix: str = ""
) -> onnx.NodeProto:
    """An LSTM whose weights are named as `lstm_weights` has them."""
    names = [x, f"{prefix}w", f"{prefix}r", f"{prefix}b", "", h, c]
    return node("LSTM", names, [y, h_out, c_out], hidden_size=hidden)
