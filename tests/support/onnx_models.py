"""Model packages made with onnx.helper, so that a test says exactly which operators a graph has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tidegate.model.manifest import InputSpec, Manifest, OutputSpec, StatePair
from tidegate.model.package import content_hash, write_package
from tidegate.tensor import DType

OPSET = 17
FLOAT = TensorProto.FLOAT
_DTYPES = {FLOAT: DType.FLOAT32, TensorProto.INT64: DType.INT64}


def lstm_package(
    repository: Path,
    *,
    name: str = "lstm",
    version: str = "1",
    hidden: int = 16,
    features: int = 3,
    seed: int = 1,
    tail: str = "Identity",
    layout: int = 0,
    **manifest: object,
) -> Path:
    """An LSTM over time, `y = tail(h_t)`: x [batch, time, features], h and c [1, batch, hidden].

    Args:
        tail: Operator between the hidden state and the output; "Softplus" is not batch-exact.
        layout: The LSTM's attribute; ONNX Runtime's CPU provider refuses 1.
    """
    rng = np.random.default_rng(seed)
    w = rng.normal(0, 0.4, (1, 4 * hidden, features)).astype(np.float32)
    r = rng.normal(0, 0.4, (1, 4 * hidden, hidden)).astype(np.float32)
    b = rng.normal(0, 0.4, (1, 8 * hidden)).astype(np.float32)
    lstm = helper.make_node(
        "LSTM",
        ["xt", "w", "r", "b", "", "h", "c"],
        ["y4", "h_out", "c_out"],
        hidden_size=hidden,
        layout=layout,
    )
    nodes = [helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]), lstm, *_head(tail)]
    weights = {"w": w, "r": r, "b": b, "one": np.array([1], np.int64)}
    return _write(repository, nodes, weights, name, version, hidden, features, ("h", "c"), manifest)


def rnn_package(
    repository: Path, *, name: str = "rnn", hidden: int = 16, features: int = 3, **manifest: object
) -> Path:
    """The ONNX RNN operator, which is not batch-exact on the CPU provider."""
    rng = np.random.default_rng(2)
    weights = {
        "w": rng.normal(0, 0.4, (1, hidden, features)).astype(np.float32),
        "r": rng.normal(0, 0.4, (1, hidden, hidden)).astype(np.float32),
        "b": rng.normal(0, 0.4, (1, 2 * hidden)).astype(np.float32),
        "one": np.array([1], np.int64),
    }
    rnn = helper.make_node("RNN", ["xt", "w", "r", "b", "", "h"], ["y4", "h_out"], hidden_size=hidden)
    nodes = [helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]), rnn, *_head("Identity")]
    return _write(repository, nodes, weights, name, "1", hidden, features, ("h",), manifest)


def gru_package(
    repository: Path, *, name: str = "gru", hidden: int = 16, features: int = 3, **manifest: object
) -> Path:
    """A GRU over time with constant weights, which is batch-exact on the CPU provider."""
    rng = np.random.default_rng(4)
    weights = {
        "w": rng.normal(0, 0.4, (1, 3 * hidden, features)).astype(np.float32),
        "r": rng.normal(0, 0.4, (1, 3 * hidden, hidden)).astype(np.float32),
        "b": rng.normal(0, 0.4, (1, 6 * hidden)).astype(np.float32),
        "one": np.array([1], np.int64),
    }
    gru = helper.make_node("GRU", ["xt", "w", "r", "b", "", "h"], ["y4", "h_out"], hidden_size=hidden)
    nodes = [helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]), gru, *_head("Identity")]
    return _write(repository, nodes, weights, name, "1", hidden, features, ("h",), manifest)


def decay_package(repository: Path, *, name: str = "decay", factor: float = 0.5, width: int = 4) -> Path:
    """`h' = factor * h + x`, one step at a time: fed with zeros it decays into denormal numbers."""
    nodes = [
        helper.make_node("Mul", ["h", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "x"], ["h_out"]),
        helper.make_node("Identity", ["h_out"], ["y"]),
    ]
    return _write_stepwise(
        repository, nodes, {"factor": np.array(factor, np.float32)}, name, FLOAT, width, {}
    )


def last_value_package(repository: Path, *, name: str = "last-value", width: int = 3) -> Path:
    """`h' = x where there is one, else h`: the input takes NaN as "missing"."""
    nodes = [
        helper.make_node("IsNaN", ["x"], ["missing"]),
        helper.make_node("Where", ["missing", "h", "x"], ["h_out"]),
        helper.make_node("Identity", ["h_out"], ["y"]),
    ]
    return _write_stepwise(repository, nodes, {}, name, FLOAT, width, {"accepts_missing": True})


def table_package(repository: Path, *, name: str = "table", size: int = 10, width: int = 4) -> Path:
    """`h' = h + table[i]` for a whole number i: a run fails where the table has no such row."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["rows"]),  # [batch, 1, width]
        helper.make_node("Squeeze", ["rows", "one"], ["row"]),
        helper.make_node("Add", ["h", "row"], ["h_out"]),
        helper.make_node("Identity", ["h_out"], ["y"]),
    ]
    weights = {"table": rng.normal(0, 1, (size, width)).astype(np.float32), "one": np.array([1], np.int64)}
    return _write_stepwise(
        repository, nodes, weights, name, TensorProto.INT64, width, {"shape": ("batch", 1)}
    )


def widening_package(repository: Path, *, name: str = "widening", width: int = 4) -> Path:
    """A state that does not close: h' is twice as wide as h, which nobody can see without a run."""
    nodes = [
        helper.make_node("IsNaN", ["x"], ["missing"]),
        helper.make_node("Cast", ["missing"], ["missing_as_int"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["missing_as_int"], ["num_missing"], keepdims=0),
        helper.make_node("Add", ["num_missing", "twice_width"], ["end"]),
        helper.make_node("Concat", ["h", "x", "x"], ["wide"], axis=1),
        helper.make_node("Slice", ["wide", "start", "end", "last_axis"], ["h_out"]),
        helper.make_node("Add", ["x", "h"], ["y"]),
    ]
    numbers = {"twice_width": 2 * width, "start": 0, "last_axis": 1}
    weights = {key: np.array([value], np.int64) for key, value in numbers.items()}
    return _write_stepwise(repository, nodes, weights, name, FLOAT, width, {}, state_dim="wide")


def _head(tail: str) -> list[onnx.NodeProto]:
    """From the operator's [time, 1, batch, hidden] to y [batch, time, hidden]."""
    return [
        helper.make_node("Squeeze", ["y4", "one"], ["y3"]),
        helper.make_node("Transpose", ["y3"], ["y0"], perm=[1, 0, 2]),
        helper.make_node(tail, ["y0"], ["y"]),
    ]


def _write(
    repository: Path,
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    name: str,
    version: str,
    hidden: int,
    features: int,
    states: tuple[str, ...],
    manifest: dict[str, object],
) -> Path:
    state = [1, "batch", hidden]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", FLOAT, ["batch", "time", features])]
        + [helper.make_tensor_value_info(s, FLOAT, state) for s in states],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", "time", hidden])]
        + [helper.make_tensor_value_info(f"{s}_out", FLOAT, state) for s in states],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    onnx_bytes = _serialize(graph)
    described = {
        "name": name,
        "version": version,
        "sha256": content_hash(onnx_bytes, {}),
        "inputs": (InputSpec(name="x", dtype=DType.FLOAT32, shape=("batch", "time", features)),),
        "outputs": (OutputSpec(name="y", dtype=DType.FLOAT32, shape=("batch", "time", hidden)),),
        "states": tuple(
            StatePair(input_name=s, output_name=f"{s}_out", dtype=DType.FLOAT32, shape=(1, "batch", hidden))
            for s in states
        ),
    }
    return write_package(repository, Manifest.model_validate(described | manifest), onnx_bytes)


def _write_stepwise(
    repository: Path,
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    name: str,
    input_type: int,
    width: int,
    input_fields: dict[str, object],
    state_dim: int | str | None = None,
) -> Path:
    """A graph without a time axis: x and h [batch, width] to y and h_out [batch, width]."""
    row = ("batch", width)
    described = {"name": "x", "dtype": _DTYPES[input_type], "shape": row} | input_fields
    onnx_bytes = _serialize(
        helper.make_graph(
            nodes,
            name,
            [
                helper.make_tensor_value_info("x", input_type, described["shape"]),
                helper.make_tensor_value_info("h", FLOAT, row),
            ],
            [
                helper.make_tensor_value_info("y", FLOAT, row),
                helper.make_tensor_value_info("h_out", FLOAT, ("batch", state_dim or width)),
            ],
            [numpy_helper.from_array(v, k) for k, v in weights.items()],
        )
    )
    manifest = Manifest(
        name=name,
        version="1",
        sha256=content_hash(onnx_bytes, {}),
        inputs=(InputSpec.model_validate(described),),
        outputs=(OutputSpec(name="y", dtype=DType.FLOAT32, shape=row),),
        states=(StatePair(input_name="h", output_name="h_out", dtype=DType.FLOAT32, shape=row),),
    )
    return write_package(repository, manifest, onnx_bytes)


def _serialize(graph: onnx.GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    return bytes(model.SerializeToString())
