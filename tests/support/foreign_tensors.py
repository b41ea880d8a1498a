"""Foreign models that differ in what they take, give and compute."""

from __future__ import annotations

import numpy as np

from support.foreign_model import (
    FLOAT,
    HALF,
    INT64,
    ForeignModel,
    node,
    onnx_bytes,
    weights_of,
)
from tidegate.model.axes import ALL
from tidegate.model.manifest import Dim


def several_inputs() -> ForeignModel:
    """A number and a kind at every step: x [N, T, 2] and, into a table, kind [N, T]."""
    hidden = 6
    nodes = [
        node("Gather", ["table", "kind"], ["e"]),
        node("Concat", ["x", "e"], ["xe"], axis=2),
        node("Transpose", ["xe"], ["xt"], perm=[1, 0, 2]),
        node(
            "GRU", ["xt", "w", "r", "b", "", "h"], ["y4", "h_out"], hidden_size=hidden, linear_before_reset=1
        ),
        node("Squeeze", ["y4", "second"], ["y3"]),
        node("Transpose", ["y3"], ["y"], perm=[1, 0, 2]),
    ]
    weights = weights_of(12, w=(1, 3 * hidden, 5), r=(1, 3 * hidden, hidden), b=(1, 6 * hidden), table=(4, 3))
    state = (FLOAT, [1, "N", hidden])
    takes = {"x": (FLOAT, ["N", "T", 2]), "kind": (INT64, ["N", "T"]), "h": state}
    gives = {"y": (FLOAT, ["N", "T", hidden]), "h_out": state}
    return ForeignModel(
        onnx=onnx_bytes(nodes, takes, gives, weights | {"second": np.array([1])}),
        inputs=("x", "kind"),
        states={"h": "h_out"},
    )


def half_precision() -> ForeignModel:
    """float16 outside, float32 inside: h' = tanh(h W + x U)."""
    nodes = [
        node("Cast", ["x"], ["x32"], to=FLOAT),
        node("Cast", ["h"], ["h32"], to=FLOAT),
        node("MatMul", ["h32", "w"], ["hw"]),
        node("MatMul", ["x32", "u"], ["xu"]),
        node("Add", ["hw", "xu"], ["s"]),
        node("Tanh", ["s"], ["t"]),
        node("Cast", ["t"], ["h_out"], to=HALF),
        node("Add", ["h_out", "x"], ["y"]),
    ]
    row, weights = (HALF, ["N", 4]), weights_of(13, w=(4, 4), u=(4, 4))
    return ForeignModel(
        onnx=onnx_bytes(nodes, {"x": row, "h": row}, {"y": row, "h_out": row}, weights),
        states={"h": "h_out"},
        initial={"h": 0.5},
    )


def whole_numbers() -> ForeignModel:
    """A count int64 [N], a position in a ring and the ring itself: y is the value 3 steps ago, times the count."""
    nodes = [
        node("Add", ["count", "one"], ["count_out"]),
        node("Add", ["at", "one"], ["at1"]),
        node("Mod", ["at1", "three"], ["at_out"]),
        node("Unsqueeze", ["at", "axis"], ["at2"]),
        node("GatherElements", ["ring", "at2"], ["oldest"], axis=1),
        node("ScatterElements", ["ring", "at2", "x"], ["ring_out"], axis=1),
        node("Cast", ["count"], ["count32"], to=FLOAT),
        node("Unsqueeze", ["count32", "axis"], ["count2"]),
        node("Mul", ["oldest", "count2"], ["y"]),
    ]
    weights = {"one": np.array(1), "three": np.array(3), "axis": np.array([1])}
    states = {"count": (INT64, ["N"]), "at": (INT64, ["N"]), "ring": (FLOAT, ["N", 3])}
    gives = {"y": (FLOAT, ["N", 1]), **{f"{k}_out": v for k, v in states.items()}}
    return ForeignModel(
        onnx=onnx_bytes(nodes, {"x": (FLOAT, ["N", 1]), **states}, gives, weights),
        states={k: f"{k}_out" for k in states},
        initial={ALL: "zeros", "count": 100.0, "ring": np.array([7, 8, 9], np.float32)},
    )


def untold_shapes() -> ForeignModel:
    """A graph that tells neither the rank of its answer and its state nor the names of dimensions."""
    nodes = [node("Add", ["h", "x"], ["h_out"]), node("Identity", ["h_out"], ["y"])]
    untold = (FLOAT, None)
    takes, gives = {"x": (FLOAT, [None, 3]), "h": untold}, {"y": untold, "h_out": untold}
    row: tuple[Dim, ...] = ("batch", 3)
    return ForeignModel(
        onnx=onnx_bytes(nodes, takes, gives),
        states={"h": "h_out"},
        shapes=dict.fromkeys(("x", "h", "y"), row),
    )


def extra_outputs() -> ForeignModel:
    """Gives more than anybody asks for, and of no shape that fits a step."""
    nodes = [
        node("Add", ["h", "x"], ["h_out"]),
        node("Identity", ["h_out"], ["y"]),
        node("ReduceMax", ["x"], ["peak"], keepdims=0),
        node("Shape", ["x"], ["dims"]),
    ]
    row = (FLOAT, ["N", 2])
    gives = {"dims": (INT64, [2]), "peak": (FLOAT, []), "h_out": row, "y": row}
    return ForeignModel(
        onnx=onnx_bytes(nodes, {"x": row, "h": row}, gives), states={"h": "h_out"}, outputs=("y",)
    )


def answer_is_state() -> ForeignModel:
    """A cell whose new state is the answer: one tensor that clients get and that is carried."""
    nodes = [
        node("Concat", ["x", "h"], ["xh"], axis=1),
        node("MatMul", ["xh", "w"], ["s"]),
        node("Tanh", ["s"], ["h_out"]),
    ]
    takes = {"x": (FLOAT, ["N", 2]), "h": (FLOAT, ["N", 5])}
    weights = weights_of(14, w=(7, 5))
    return ForeignModel(
        onnx=onnx_bytes(nodes, takes, {"h_out": (FLOAT, ["N", 5])}, weights),
        states={"h": "h_out"},
        outputs=("h_out",),
    )


def not_exact() -> ForeignModel:
    """h' = softplus(h W + x): what it gives depends, in the last digit, on what shares the run."""
    nodes = [
        node("MatMul", ["h", "w"], ["hw"]),
        node("Add", ["hw", "x"], ["s"]),
        node("Softplus", ["s"], ["h_out"]),
        node("Identity", ["h_out"], ["y"]),
    ]
    row = (FLOAT, ["N", 7])
    return ForeignModel(
        onnx=onnx_bytes(nodes, {"x": row, "h": row}, {"y": row, "h_out": row}, weights_of(15, w=(7, 7))),
        states={"h": "h_out"},
        is_exact=False,
    )


def bidirectional() -> ForeignModel:
    """An LSTM that reads a window in both directions: no function of a step and a state."""
    hidden, features = 5, 3
    nodes = [
        node("LSTM", ["x", "w", "r", "b", "", "h", "c"], ["y4", "h_out", "c_out"], hidden_size=hidden, direction="bidirectional"),
        node("Transpose", ["y4"], ["y"], perm=[0, 2, 1, 3]),
    ]  # fmt: skip
    weights = weights_of(16, w=(2, 4 * hidden, features), r=(2, 4 * hidden, hidden), b=(2, 8 * hidden))
    state = (FLOAT, [2, "N", hidden])
    takes = {"x": (FLOAT, ["T", "N", features]), "h": state, "c": state}
    gives = {"y": (FLOAT, ["T", "N", 2, hidden]), "h_out": state, "c_out": state}
    return ForeignModel(
        onnx=onnx_bytes(nodes, takes, gives, weights),
        states={"h": "h_out", "c": "c_out"},
        is_exact=False,
    )
