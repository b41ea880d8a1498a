"""Model packages of known shapes with random weights: a stack of LSTM layers and a linear head.

States are `h` and `c` of shape [layers, batch, hidden], as PyTorch exports them. The weights are the
same in every run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tidegate.model.manifest import InputSpec, Manifest, OutputSpec, StatePair
from tidegate.model.package import content_hash, write_package
from tidegate.tensor import Array, DType

OPSET = 17
SEED = 20240607


@dataclass(frozen=True)
class LstmShape:
    """A stack of LSTM layers with one linear head.

    Attributes:
        name: Of the package.
    """

    name: str
    layers: int
    hidden: int
    features: int
    outputs: int = 1

    @property
    def state_bytes(self) -> int:
        """Bytes of state of one session."""
        return 2 * self.layers * self.hidden * 4


DEFAULT = LstmShape("lstm-2x128", layers=2, hidden=128, features=8)
STAC_A = LstmShape("stac-lstm-a", layers=2, hidden=100, features=100)
STAC_B = LstmShape("stac-lstm-b", layers=3, hidden=200, features=250)


def write_lstm(repository: Path, shape: LstmShape) -> Path:
    """Write a package of this shape as version 1.

    Returns:
        Its folder.
    """
    data: bytes = _model(shape).SerializeToString()
    state = (shape.layers, "batch", shape.hidden)
    manifest = Manifest.model_validate(
        {
            "name": shape.name,
            "version": "1",
            "sha256": content_hash(data, {}),
            "inputs": (InputSpec(name="x", dtype=DType.FLOAT32, shape=("batch", "time", shape.features)),),
            "outputs": (OutputSpec(name="y", dtype=DType.FLOAT32, shape=("batch", "time", shape.outputs)),),
            "states": tuple(
                StatePair.model_validate(
                    {"input_name": s, "output_name": f"{s}_next", "dtype": DType.FLOAT32, "shape": state}
                )
                for s in ("h", "c")
            ),
        }
    )
    return write_package(repository, manifest, data)


def _model(shape: LstmShape) -> onnx.ModelProto:
    float32 = TensorProto.FLOAT
    state: list[int | str | None] = [shape.layers, "batch", shape.hidden]
    graph = helper.make_graph(
        _nodes(shape),
        shape.name,
        [
            helper.make_tensor_value_info("x", float32, ["batch", "time", shape.features]),
            *(helper.make_tensor_value_info(s, float32, state) for s in ("h", "c")),
        ],
        [
            helper.make_tensor_value_info("y", float32, ["batch", "time", shape.outputs]),
            *(helper.make_tensor_value_info(f"{s}_next", float32, state) for s in ("h", "c")),
        ],
        [numpy_helper.from_array(value, name) for name, value in _weights(shape).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def _nodes(shape: LstmShape) -> list[onnx.NodeProto]:
    layers = range(shape.layers)
    nodes = [helper.make_node("Transpose", ["x"], ["x_0"], perm=[1, 0, 2])]
    nodes += [helper.make_node("Split", [s], [f"{s}_{i}" for i in layers], axis=0) for s in ("h", "c")]
    for i in layers:
        given = [f"x_{i}", f"w_{i}", f"r_{i}", f"b_{i}", "", f"h_{i}", f"c_{i}"]
        taken = [f"y_{i}", f"h_next_{i}", f"c_next_{i}"]
        nodes.append(helper.make_node("LSTM", given, taken, hidden_size=shape.hidden))
        nodes.append(helper.make_node("Squeeze", [f"y_{i}", "directions"], [f"x_{i + 1}"]))
    nodes += [
        helper.make_node("Concat", [f"{s}_next_{i}" for i in layers], [f"{s}_next"], axis=0)
        for s in ("h", "c")
    ]
    return [
        *nodes,
        helper.make_node("Transpose", [f"x_{shape.layers}"], ["last"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["last", "head_w"], ["scores"]),
        helper.make_node("Add", ["scores", "head_b"], ["y"]),
    ]


def _weights(shape: LstmShape) -> dict[str, Array]:
    """By initializer name; uniform within 1/sqrt(hidden), as PyTorch starts its cells."""
    rng, hidden = np.random.default_rng(SEED), shape.hidden
    bound = hidden**-0.5

    def uniform(*size: int) -> Array:
        return rng.uniform(-bound, bound, size).astype(np.float32)

    weights: dict[str, Array] = {"directions": np.array([1], np.int64)}
    for i in range(shape.layers):
        width = shape.features if i == 0 else hidden
        weights[f"w_{i}"] = uniform(1, 4 * hidden, width)
        weights[f"r_{i}"] = uniform(1, 4 * hidden, hidden)
        weights[f"b_{i}"] = uniform(1, 8 * hidden)
    weights["head_w"] = uniform(hidden, shape.outputs)
    weights["head_b"] = uniform(shape.outputs)
    return weights
