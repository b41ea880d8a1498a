"""The float64 formulas against PyTorch in float64: two codes that share nothing but the papers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from tidegate.runner import reference

sizes = st.integers(1, 6)


def _sequence(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.standard_normal(shape)


def _weights(layer: nn.RNNBase) -> list[np.ndarray]:
    return [p.detach().numpy() for p in layer.parameters()]


def _tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(a) for a in arrays]


@settings(max_examples=40, deadline=None)
@given(steps=sizes, batch=sizes, features=sizes, hidden=sizes, seed=st.integers(0, 2**31))
def test_an_lstm_layer_is_pytorchs(steps: int, batch: int, features: int, hidden: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    layer = nn.LSTM(features, hidden, dtype=torch.float64)
    x = _sequence(random, steps, batch, features)
    h_0, c_0 = _sequence(random, batch, hidden), _sequence(random, batch, hidden)

    trace = reference.lstm_layer(x, h_0, c_0, reference.lstm_from_torch(*_weights(layer)))

    y, (_, c) = layer(torch.from_numpy(x), tuple(t[None] for t in _tensors(h_0, c_0)))
    np.testing.assert_allclose(trace["h_t"], y.detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(trace["c_t"][-1], c[0].detach().numpy(), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(steps=sizes, batch=sizes, features=sizes, hidden=sizes, seed=st.integers(0, 2**31))
def test_a_gru_layer_is_pytorchs(steps: int, batch: int, features: int, hidden: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    layer = nn.GRU(features, hidden, dtype=torch.float64)
    x, h_0 = _sequence(random, steps, batch, features), _sequence(random, batch, hidden)
    gates = reference.gru_from_torch(*_weights(layer))

    trace = reference.gru_layer(x, h_0, gates, linear_before_reset=True)

    y, _ = layer(torch.from_numpy(x), torch.from_numpy(h_0)[None])
    np.testing.assert_allclose(trace["h_t"], y.detach().numpy(), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(steps=sizes, batch=sizes, features=sizes, hidden=sizes, seed=st.integers(0, 2**31))
def test_a_plain_rnn_layer_is_pytorchs(steps: int, batch: int, features: int, hidden: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    layer = nn.RNN(features, hidden, dtype=torch.float64)
    x, h_0 = _sequence(random, steps, batch, features), _sequence(random, batch, hidden)

    trace = reference.rnn_layer(x, h_0, reference.rnn_from_torch(*_weights(layer)))

    y, _ = layer(torch.from_numpy(x), torch.from_numpy(h_0)[None])
    np.testing.assert_allclose(trace["h_t"], y.detach().numpy(), atol=1e-12)


def _onnx_layer(op: str, num_states: int, weights: list[np.ndarray], **attributes: int) -> bytes:
    """A graph of one recurrent operator: X and the initial states in, Y and the last states out."""
    names = ["W", "R", "B"]
    states = ["h", "c"][:num_states]
    hidden = weights[1].shape[-1]
    node = helper.make_node(
        op, ["X", *names, "", *states], ["Y", *(f"{s}_n" for s in states)], hidden_size=hidden, **attributes
    )
    shapes = {"X": ["T", "B", weights[0].shape[-1]], **{s: [1, "B", hidden] for s in states}}
    outputs = {"Y": ["T", 1, "B", hidden], **{f"{s}_n": [1, "B", hidden] for s in states}}

    def infos(named: dict[str, list]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in named.items()]

    constants = [
        numpy_helper.from_array(w.astype(np.float32), n) for n, w in zip(names, weights, strict=True)
    ]
    graph = helper.make_graph([node], op, infos(shapes), infos(outputs), constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def _run(onnx_bytes: bytes, **inputs: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(onnx_bytes, providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.astype(np.float32) for name, value in inputs.items()})


def _onnx_weights(random: np.random.Generator, gates: int, features: int, hidden: int) -> list[np.ndarray]:
    shapes = ((1, gates * hidden, features), (1, gates * hidden, hidden), (1, 2 * gates * hidden))
    return [random.standard_normal(shape) for shape in shapes]


def test_an_lstm_layer_is_onnxs() -> None:
    random = np.random.default_rng(1)
    weights = _onnx_weights(random, 4, 3, 5)
    x, h_0, c_0 = random.standard_normal((6, 2, 3)), *random.standard_normal((2, 2, 5))

    trace = reference.lstm_layer(x, h_0, c_0, reference.lstm_from_onnx(*weights))

    y, _, c = _run(_onnx_layer("LSTM", 2, weights), X=x, h=h_0[None], c=c_0[None])
    np.testing.assert_allclose(trace["h_t"], y[:, 0], atol=1e-5)
    np.testing.assert_allclose(trace["c_t"][-1], c[0], atol=1e-5)


@pytest.mark.parametrize("linear_before_reset", [False, True])
def test_a_gru_layer_is_onnxs_in_both_forms(linear_before_reset: bool) -> None:
    random = np.random.default_rng(2)
    weights = _onnx_weights(random, 3, 3, 5)
    x, h_0 = random.standard_normal((6, 2, 3)), random.standard_normal((2, 5))
    gates = reference.gru_from_onnx(*weights)

    trace = reference.gru_layer(x, h_0, gates, linear_before_reset=linear_before_reset)

    graph = _onnx_layer("GRU", 1, weights, linear_before_reset=int(linear_before_reset))
    y, _ = _run(graph, X=x, h=h_0[None])
    np.testing.assert_allclose(trace["h_t"], y[:, 0], atol=1e-5)


def test_the_gates_of_an_lstm_make_its_memory() -> None:
    random = np.random.default_rng(3)
    x, h_0, c_0 = random.standard_normal((4, 2, 3)), *random.standard_normal((2, 2, 5))
    gates = reference.lstm_from_onnx(*_onnx_weights(random, 4, 3, 5))

    trace = reference.lstm_layer(x, h_0, c_0, gates)

    before = np.concatenate([c_0[None], trace["c_t"][:-1]])
    np.testing.assert_allclose(
        trace["c_t"], trace["f_t"] * before + trace["i_t"] * trace["c_tilde_t"], atol=1e-12
    )
    np.testing.assert_allclose(trace["h_t"], trace["o_t"] * np.tanh(trace["c_t"]), atol=1e-12)


def test_layers_stand_on_each_other() -> None:
    torch.manual_seed(4)
    layer = nn.RNN(3, 5, num_layers=2, dtype=torch.float64)
    weights = _weights(layer)
    x, h_0 = np.random.default_rng(4).standard_normal((6, 2, 3)), np.zeros((2, 5))
    gates = [reference.rnn_from_torch(*weights[:4]), reference.rnn_from_torch(*weights[4:])]

    lower, upper = reference.stack_layers(x, [lambda z, g=g: reference.rnn_layer(z, h_0, g) for g in gates])

    y, h = layer(torch.from_numpy(x))
    np.testing.assert_allclose(upper["h_t"], y.detach().numpy(), atol=1e-12)
    np.testing.assert_allclose(lower["h_t"][-1], h[0].detach().numpy(), atol=1e-12)


def test_the_readout_is_a_linear_layer() -> None:
    h, w, b = np.ones((2, 3)), np.arange(6.0).reshape(2, 3), np.array([10.0, 20.0])

    y = reference.readout(h, w, b)

    assert y.tolist() == [[13.0, 32.0], [13.0, 32.0]]


def test_the_sigmoid_does_not_overflow() -> None:
    with np.errstate(all="raise"):
        values = reference.sigmoid(np.array([-1e4, 0.0, 1e4]))

    assert values.tolist() == [0.0, 0.5, 1.0]
