"""Our reading of ONNX files against the onnx package's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from support.server import MODELS
from tidegate.errors import PackageError
from tidegate.runner.onnx_bytes import with_outputs
from tidegate.runner.onnx_reading import OnnxNode, read_graph

DEMO = (MODELS / "co2-weekly" / "1" / "model.onnx").read_bytes()

numbers = st.integers(-(2**63), 2**63 - 1)
names = st.text(min_size=1, max_size=200)


def model(*nodes: onnx.NodeProto, **fields: object) -> bytes:
    graph = helper.make_graph(nodes, "g", [], [])
    return bytes(helper.make_model(graph, **fields).SerializeToString())


def only_node(encoded: bytes) -> OnnxNode:
    (node,) = read_graph(encoded).nodes
    return node


def test_the_demo_model_is_read_as_onnx_reads_it() -> None:
    expected = onnx.load_from_string(DEMO).graph

    graph = read_graph(DEMO)

    assert [(n.operator, n.name, n.domain) for n in graph.nodes] == [
        (n.op_type, n.name, n.domain) for n in expected.node
    ]
    assert [(n.inputs, n.outputs) for n in graph.nodes] == [
        (tuple(n.input), tuple(n.output)) for n in expected.node
    ]
    assert graph.initializers == {i.name for i in expected.initializer}
    assert graph.inputs == tuple(i.name for i in expected.input)
    assert graph.outputs == tuple(o.name for o in expected.output)


@given(name=names, number=numbers, texts=st.lists(names, min_size=1), ints=st.lists(numbers, min_size=1))
def test_attributes_are_read_whatever_their_values(
    name: str, number: int, texts: list[str], ints: list[int]
) -> None:
    node = helper.make_node(
        "Op", ["", name], [name], name=name, number=number, text=texts[0], texts=texts, ints=ints, real=1.5
    )

    read = only_node(model(node))

    assert (read.name, read.inputs, read.outputs) == (name, ("", name), (name,))
    assert read.numbers == {"number": number}
    assert read.texts == {"text": (texts[0],), "texts": tuple(texts)}
    assert read.attributes == {"number", "text", "texts", "ints", "real"}


def test_what_is_left_out_is_empty() -> None:
    node = only_node(model(helper.make_node("LSTM", ["x", "", "r"], ["", "h"])))

    assert [node.input(i) for i in range(4)] == ["x", "", "r", ""]
    assert [node.output(i) for i in range(3)] == ["", "h", ""]
    assert node.label == "LSTM 'h'"


def test_nodes_inside_nodes_are_found_at_any_depth() -> None:
    inner = helper.make_graph([helper.make_node("GRU", ["x"], ["y"])], "inner", [], [])
    middle = helper.make_graph([helper.make_node("Loop", ["n"], ["y"], body=inner)], "middle", [], [])

    node = only_node(model(helper.make_node("If", ["b"], ["y"], then_branch=middle, else_branch=middle)))

    assert [n.operator for n in node.inner] == ["Loop", "GRU"] * 2


def test_functions_are_read() -> None:
    function = helper.make_function(
        "own", "F", ["x"], ["y"], [helper.make_node("LSTM", ["x"], ["y"])], [helper.make_opsetid("", 17)]
    )

    graph = read_graph(model(helper.make_node("F", ["x"], ["y"], domain="own"), functions=[function]))

    assert [n.operator for n in graph.functions] == ["LSTM"]
    assert not graph.nodes[0].is_a("F")


def test_outputs_are_added_behind_those_that_are_there() -> None:
    more = with_outputs(DEMO, ["inside", "/a/b"])

    expected = [*(o.name for o in onnx.load_from_string(DEMO).graph.output), "inside", "/a/b"]
    assert [o.name for o in onnx.load_from_string(more).graph.output] == expected
    assert read_graph(more).outputs == tuple(expected)


@pytest.mark.parametrize("encoded", [DEMO[: len(DEMO) // 2], b"\x0b", b"\xff" * 3, b"\x3a\x05ab"])
def test_bytes_that_are_no_onnx_file_are_refused(encoded: bytes) -> None:
    with pytest.raises(PackageError, match="not an ONNX file that can be read"):
        read_graph(encoded)


def test_weights_of_any_size_are_passed_over() -> None:
    weights = onnx.numpy_helper.from_array(np.zeros((1000, 1000), np.float32), "w")
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [], [weights])

    assert read_graph(helper.make_model(graph).SerializeToString()).initializers == {"w"}
