"""Foreign models that differ in where their states and axes are."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from support.foreign_model import (
    FLOAT,
    INT64,
    ForeignModel,
    lstm_node,
    lstm_weights,
    node,
    onnx_bytes,
    weights_of,
)


def packed_in_if() -> ForeignModel:
    """h and c in one tensor [2, N, 8], an LSTM in each branch of an `If` on the sample rate, no time axis."""
    hidden, features = 8, 5

    def branch(prefix: str) -> onnx.GraphProto:
        cell = lstm_node("xt", "h", "c", "", f"{prefix}h", f"{prefix}c", hidden, prefix)
        outs = [helper.make_tensor_value_info(f"{prefix}{s}", FLOAT, None) for s in ("h", "c")]
        return helper.make_graph([cell], prefix, [], outs)

    nodes = [
        node("Unsqueeze", ["input", "first"], ["xt"]),
        node("Split", ["state"], ["h", "c"], axis=0),
        node("Equal", ["sr", "narrow"], ["is_narrow"]),
        node("If", ["is_narrow"], ["h1", "c1"], then_branch=branch("a"), else_branch=branch("b")),
        node("Concat", ["h1", "c1"], ["stateN"], axis=0),
        node("Squeeze", ["h1", "first"], ["h2"]),
        node("MatMul", ["h2", "head"], ["logit"]),
        node("Sigmoid", ["logit"], ["output"]),
    ]
    weights = lstm_weights(1, features, hidden, "a") | lstm_weights(2, features, hidden, "b")
    weights |= weights_of(3, head=(hidden, 1)) | {"first": np.array([0]), "narrow": np.array(8000)}
    takes = {"input": (FLOAT, ["N", features]), "state": (FLOAT, [2, "N", hidden]), "sr": (INT64, [])}
    gives = {"output": (FLOAT, ["N", 1]), "stateN": (FLOAT, [2, "N", hidden])}
    return ForeignModel(
        onnx=onnx_bytes(nodes, takes, gives, weights),
        inputs=("input",),
        states={"state": "stateN"},
        constants={"sr": 16000},
    )


def packed_on_last_axis() -> ForeignModel:
    """h and c side by side in [N, 16], batch first, over time."""
    hidden, features = 8, 3
    nodes = [
        node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        node("Unsqueeze", ["s", "first"], ["s3"]),
        node("Split", ["s3"], ["h", "c"], axis=2),
        lstm_node("xt", "h", "c", "y4", "h1", "c1", hidden),
        node("Concat", ["h1", "c1"], ["s1"], axis=2),
        node("Squeeze", ["s1", "first"], ["s_next"]),
        node("Squeeze", ["y4", "second"], ["y3"]),
        node("Transpose", ["y3"], ["y"], perm=[1, 0, 2]),
    ]
    weights = lstm_weights(4, features, hidden) | {"first": np.array([0]), "second": np.array([1])}
    takes = {"x": (FLOAT, ["N", "T", features]), "s": (FLOAT, ["N", 2 * hidden])}
    gives = {"y": (FLOAT, ["N", "T", hidden]), "s_next": (FLOAT, ["N", 2 * hidden])}
    return ForeignModel(onnx=onnx_bytes(nodes, takes, gives, weights), states={"s": "s_next"})


def separate_layers() -> ForeignModel:
    """h and c of two layers in four tensors, batch second; inputs and outputs sort differently by name."""
    hidden, features = 6, 3
    nodes = [
        lstm_node("x", "p", "q", "y1", "z", "k", hidden, "a"),
        node("Squeeze", ["y1", "second"], ["x2"]),
        lstm_node("x2", "m", "b", "y2", "c", "w_out", hidden, "b_"),
        node("Squeeze", ["y2", "second"], ["y"]),
    ]
    weights = lstm_weights(5, features, hidden, "a") | lstm_weights(6, hidden, hidden, "b_")
    state = (FLOAT, [1, "N", hidden])
    takes = {"x": (FLOAT, ["T", "N", features]), **dict.fromkeys("pqmb", state)}
    gives = {"y": (FLOAT, ["T", "N", hidden]), **dict.fromkeys(("w_out", "c", "k", "z"), state)}
    return ForeignModel(
        onnx=onnx_bytes(nodes, takes, gives, weights | {"second": np.array([1])}),
        states={"p": "z", "q": "k", "m": "c", "b": "w_out"},
    )


def flat_vectors() -> ForeignModel:
    """A GRU cell by hand on plain vectors: neither a batch axis nor a time axis."""
    hidden, features = 7, 4
    nodes = [
        node("Concat", ["x", "h"], ["xh"], axis=0),
        node("MatMul", ["xh", "wz"], ["z0"]),
        node("Sigmoid", ["z0"], ["z"]),
        node("MatMul", ["xh", "wn"], ["n0"]),
        node("Tanh", ["n0"], ["n"]),
        node("Sub", ["h", "n"], ["d"]),
        node("Mul", ["z", "d"], ["zd"]),
        node("Add", ["n", "zd"], ["h_out"]),
        node("MatMul", ["h_out", "wy"], ["y"]),
    ]
    weights = weights_of(7, wz=(hidden + features, hidden), wn=(hidden + features, hidden), wy=(hidden, 2))
    takes = {"x": (FLOAT, [features]), "h": (FLOAT, [hidden])}
    gives = {"y": (FLOAT, [2]), "h_out": (FLOAT, [hidden])}
    return ForeignModel(onnx=onnx_bytes(nodes, takes, gives, weights), states={"h": "h_out"})


def unlike_ranks() -> ForeignModel:
    """A convolution's cache [N, 3, 4], an LSTM's [2, N, 6] and a running mean [N] in one graph, one step at a time."""
    hidden, channels, kernel = 6, 3, 5
    nodes = [
        node("Unsqueeze", ["x", "last"], ["x3"]),
        node("Concat", ["cache", "x3"], ["window"], axis=2),
        node("Conv", ["window", "filters"], ["conv3"]),  # [N, 4, 1]
        node("Slice", ["window", "one", "end", "last"], ["cache_out"]),
        node("Transpose", ["conv3"], ["conv"], perm=[2, 0, 1]),
        node("Split", ["hc"], ["h", "c"], axis=0),
        lstm_node("conv", "h", "c", "", "h1", "c1", hidden),
        node("Concat", ["h1", "c1"], ["hc_out"], axis=0),
        node("Gather", ["x", "zero"], ["x0"], axis=1),  # [N]
        node("Sub", ["x0", "mean"], ["gap"]),
        node("Mul", ["gap", "tenth"], ["shift"]),
        node("Add", ["mean", "shift"], ["mean_out"]),
        node("Squeeze", ["h1", "first"], ["h2"]),
        node("Unsqueeze", ["mean_out", "one"], ["mean2"]),
        node("Add", ["h2", "mean2"], ["y"]),
    ]
    numbers = {"last": [2], "one": [1], "end": [kernel], "first": [0]}
    weights = weights_of(8, filters=(4, channels, kernel)) | lstm_weights(9, 4, hidden)
    weights |= {k: np.array(v) for k, v in numbers.items()} | {"zero": np.array(0), "tenth": np.float32(0.1)}
    caches = {
        "cache": (FLOAT, ["N", channels, kernel - 1]),
        "hc": (FLOAT, [2, "N", hidden]),
        "mean": (FLOAT, ["N"]),
    }
    gives = {"y": (FLOAT, ["N", hidden]), **{f"{k}_out": v for k, v in caches.items()}}
    return ForeignModel(
        onnx=onnx_bytes(nodes, {"x": (FLOAT, ["N", channels]), **caches}, gives, weights),
        states={k: f"{k}_out" for k in caches},
    )


def batch_last() -> ForeignModel:
    """h' = tanh(h A + x B), with rows standing as columns outside: x [3, N], h [5, N]."""
    nodes = [
        node("Concat", ["x", "h"], ["columns"], axis=0),
        node("Transpose", ["columns"], ["rows"]),
        node("MatMul", ["rows", "w"], ["s"]),
        node("Tanh", ["s"], ["t"]),
        node("Transpose", ["t"], ["h_out"]),
        node("Identity", ["h_out"], ["y"]),
    ]
    state, weights = (FLOAT, [5, "N"]), weights_of(17, w=(8, 5))
    takes, gives = {"x": (FLOAT, [3, "N"]), "h": state}, {"y": state, "h_out": state}
    return ForeignModel(onnx=onnx_bytes(nodes, takes, gives, weights), states={"h": "h_out"})


def batch_last_inside() -> ForeignModel:
    """h' = tanh(A h + B x) on columns: one column is multiplied in another order than several."""
    nodes = [
        node("MatMul", ["a", "h"], ["ah"]),
        node("MatMul", ["b", "x"], ["bx"]),
        node("Add", ["ah", "bx"], ["s"]),
        node("Tanh", ["s"], ["h_out"]),
        node("Identity", ["h_out"], ["y"]),
    ]
    state, weights = (FLOAT, [5, "N"]), weights_of(10, a=(5, 5), b=(5, 3))
    takes, gives = {"x": (FLOAT, [3, "N"]), "h": state}, {"y": state, "h_out": state}
    return ForeignModel(onnx=onnx_bytes(nodes, takes, gives, weights), states={"h": "h_out"}, is_exact=False)


def fixed_batch() -> ForeignModel:
    """An LSTM that an exporter froze at a batch of 1, over a free time axis."""
    hidden, features = 8, 3
    nodes = [
        lstm_node("x", "h", "c", "y4", "h_out", "c_out", hidden),
        node("Squeeze", ["y4", "second"], ["y"]),
    ]
    state = (FLOAT, [1, 1, hidden])
    takes = {"x": (FLOAT, ["T", 1, features]), "h": state, "c": state}
    gives = {"y": (FLOAT, ["T", 1, hidden]), "h_out": state, "c_out": state}
    weights = lstm_weights(11, features, hidden) | {"second": np.array([1])}
    return ForeignModel(onnx=onnx_bytes(nodes, takes, gives, weights), states={"h": "h_out", "c": "c_out"})
