"""Which recurrent layers are read, and which are refused by name and reason."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from tidegate.errors import Unsupported
from tidegate.runner.layers import Layer, find_layers
from tidegate.runner.onnx_reading import read_graph

FLOAT = TensorProto.FLOAT
CONSTANTS = {name: np.zeros((2, 2), np.float32) for name in ("w", "r", "b", "p", "u", "v")}


def layers_of(*nodes: NodeProto, takes: Sequence[str] = ("x", "h", "c", "lens")) -> list[Layer]:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, FLOAT, None) for name in takes],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()],
    )
    return find_layers(read_graph(helper.make_model(graph).SerializeToString()), {"h", "c"})


def lstm(inputs: Sequence[str] = ("x", "w", "r", "b", "", "h", "c"), **attributes: object) -> NodeProto:
    return helper.make_node("LSTM", inputs, ["y", "h_out", "c_out"], name="cell", **attributes)


def test_an_lstm_is_read_with_its_tensors() -> None:
    (layer,) = layers_of(lstm(activations=["Sigmoid", "Tanh", "Tanh"], direction="forward", hidden_size=2))

    assert (layer.label, layer.cell.name) == ("LSTM 'cell'", "LSTM")
    assert (layer.x, layer.h_before, layer.c_before) == ("x", "h", "c")
    assert (layer.h_after, layer.c_after, layer.weights) == ("h_out", "c_out", ("w", "r", "b"))


def test_layers_come_in_the_order_in_which_they_run() -> None:
    upper = helper.make_node("GRU", ["h_out", "w", "r"], ["", "h_2"], name="upper", linear_before_reset=1)

    lower, higher = layers_of(lstm(), upper)

    assert (lower.label, higher.label) == ("LSTM 'cell'", "GRU 'upper'")
    assert (higher.h_before, higher.weights, higher.linear_before_reset) == ("", ("w", "r"), True)


def test_a_weight_may_be_computed_from_constants() -> None:
    made = [
        helper.make_node("Constant", [], ["half"], value=numpy_helper.from_array(np.float32(0.5))),
        helper.make_node("Mul", ["w", "half"], ["scaled"]),
        helper.make_node("Identity", ["scaled"], ["same"]),
    ]

    (layer,) = layers_of(*made, lstm(("x", "same", "r")))

    assert layer.weights == ("same", "r")


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (lstm(direction="bidirectional"), "LSTM 'cell' is bidirectional, not forward"),
        (lstm(direction="reverse"), "LSTM 'cell' is reverse, not forward"),
        (lstm(("x", "c", "r")), "LSTM 'cell' has a weight W that is not constant"),
        (lstm(("x", "w", "r", "h")), "LSTM 'cell' has a weight B that is not constant"),
        (lstm(("x", "w", "r", "b", "lens")), "LSTM 'cell' takes sequence_lens"),
        (lstm(("x", "w", "r", "b", "", "h", "c", "p")), "LSTM 'cell' has peepholes"),
        (lstm(clip=3.0), "LSTM 'cell' has the attribute clip"),
        (lstm(input_forget=1), "LSTM 'cell' has the attribute input_forget"),
        (lstm(layout=1), "LSTM 'cell' has the attribute layout"),
        (
            lstm(activations=["Sigmoid", "Relu", "Tanh"]),
            "LSTM 'cell' has other activations: expected sigmoid, tanh, tanh, got sigmoid, relu, tanh",
        ),
        (
            helper.make_node("LSTM", ["x", "w", "r"], ["", "", "c_out"], name="cell"),
            "LSTM 'cell' has no output that is used",
        ),
        (
            helper.make_node("DynamicQuantizeLSTM", ["x"], ["y"], domain="com.microsoft"),
            "DynamicQuantizeLSTM 'y' is of domain 'com.microsoft'",
        ),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), "the graph has no recurrent layer that can be read"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name_and_reason(node: NodeProto, reason: str) -> None:
    with pytest.raises(Unsupported) as caught:
        layers_of(node)

    assert str(caught.value).startswith(reason)


def test_a_random_weight_is_not_constant() -> None:
    noise = helper.make_node("RandomNormal", [], ["noise"], shape=[2, 2])

    with pytest.raises(Unsupported, match="has a weight R that is not constant"):
        layers_of(noise, lstm(("x", "w", "noise")))


def test_a_layer_inside_a_loop_is_refused_beside_one_that_can_be_read() -> None:
    inner: GraphProto = helper.make_graph(
        [helper.make_node("GRU", ["x", "w", "r"], ["z"], name="hidden")],
        "body",
        [],
        [helper.make_tensor_value_info("z", FLOAT, None)],
    )
    branch = helper.make_node("If", ["x"], ["z"], name="maybe", then_branch=inner, else_branch=inner)

    with pytest.raises(Unsupported, match="GRU 'hidden' is inside If 'maybe'"):
        layers_of(lstm(), branch)


def products(*inputs: str) -> list[NodeProto]:
    return [
        helper.make_node("MatMul", [name, weight], [f"{name}_{weight}"])
        for name, weight in (pair.split() for pair in inputs)
    ]


def tanh_of(*terms: str) -> list[NodeProto]:
    first, *rest = terms
    nodes, total = [], first
    for term in rest:
        nodes.append(helper.make_node("Add", [total, term], [f"{total}+{term}"]))
        total = f"{total}+{term}"
    return [*nodes, helper.make_node("Tanh", [total], ["y"], name="tanh")]


def test_a_plain_rnn_is_found_by_the_state_that_it_takes() -> None:
    moved = [helper.make_node("Gather", ["h", "b"], ["mine"])]

    (layer,) = layers_of(*moved, *products("mine u", "x w"), *tanh_of("x_w", "mine_u", "b"))

    assert (layer.label, layer.cell.name) == ("RNN that ends in Tanh 'tanh'", "RNN")
    assert (layer.x, layer.h_before, layer.h_after) == ("x", "mine", "y")
    assert layer.weights == ("w", "u", "b")
    assert layer.is_spelled_out


def test_a_tanh_of_no_state_is_no_layer() -> None:
    (layer,) = layers_of(lstm(), *products("x w", "h_out u"), *tanh_of("x_w", "h_out_u"))

    assert layer.cell.name == "LSTM"


@pytest.mark.parametrize(
    ("inputs", "terms"),
    [
        (["x w", "h u"], ["x_w", "h_u", "x"]),
        (["x w", "h u", "c v"], ["x_w", "h_u", "c_v"]),
        (["c w", "h u"], ["c_w", "h_u"]),
        (["x w", "h c"], ["x_w", "h_c"]),
    ],
)
def test_a_tanh_of_a_state_that_is_no_plain_rnn_is_refused(inputs: list[str], terms: list[str]) -> None:
    with pytest.raises(Unsupported, match="Tanh 'tanh' is a cell other than tanh"):
        layers_of(*products(*inputs), *tanh_of(*terms))
