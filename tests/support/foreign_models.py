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


def _lstm(
    x: str, h: str, c: str, y: str, h_out: str, c_out: str, hidden: int, prefix: str = ""
) -> onnx.NodeProto:
    names = [x, f"{prefix}w", f"{prefix}r", f"{prefix}b", "", h, c]
    return node("LSTM", names, [y, h_out, c_out], hidden_size=hidden)


def packed_in_if() -> ForeignModel:
    """h and c in one tensor [2, N, 8], an LSTM in each branch of an `If` on the sample rate, no time axis."""
    hidden, features = 8, 5

    def branch(prefix: str) -> onnx.GraphProto:
        cell = _lstm("xt", "h", "c", "", f"{prefix}h", f"{prefix}c", hidden, prefix)
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
        _lstm("xt", "h", "c", "y4", "h1", "c1", hidden),
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
        _lstm("x", "p", "q", "y1", "z", "k", hidden, "a"),
        node("Squeeze", ["y1", "second"], ["x2"]),
        _lstm("x2", "m", "b", "y2", "c", "w_out", hidden, "b_"),
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
        _lstm("conv", "h", "c", "", "h1", "c1", hidden),
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
        _lstm("x", "h", "c", "y4", "h_out", "c_out", hidden),
        node("Squeeze", ["y4", "second"], ["y"]),
    ]
    state = (FLOAT, [1, 1, hidden])
    takes = {"x": (FLOAT, ["T", 1, features]), "h": state, "c": state}
    gives = {"y": (FLOAT, ["T", 1, hidden]), "h_out": state, "c_out": state}
    weights = lstm_weights(11, features, hidden) | {"second": np.array([1])}
    return ForeignModel(onnx=onnx_bytes(nodes, takes, gives, weights), states={"h": "h_out", "c": "c_out"})


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


FOREIGN_MODELS = {
    make.__name__: make
    for make in (
        packed_in_if,
        packed_on_last_axis,
        separate_layers,
        flat_vectors,
        unlike_ranks,
        batch_last,
        batch_last_inside,
        fixed_batch,
        several_inputs,
        half_precision,
        whole_numbers,
        untold_shapes,
        extra_outputs,
        answer_is_state,
        not_exact,
        bidirectional,
    )
}
