"""Our own graphs against the onnx package."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from tidegate.runner.onnx_bytes import Node, encode_model
from tidegate.tensor import DType


def test_what_is_encoded_is_what_onnx_reads() -> None:
    long_name = "x" * 300  # its length takes two bytes

    encoded = encode_model(
        [Node("Gather", ["data", long_name], ["rows"]), Node("Neg", ["rows"], ["y"])],
        inputs={"data": DType.FLOAT32, long_name: DType.INT64},
        outputs={"y": DType.FLOAT32},
    )

    model = onnx.load_from_string(encoded)
    assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import]) == (8, [("", 17)])
    assert [(n.op_type, list(n.input), list(n.output)) for n in model.graph.node] == [
        ("Gather", ["data", long_name], ["rows"]),
        ("Neg", ["rows"], ["y"]),
    ]
    assert [i.name for i in model.graph.input] == ["data", long_name]
    assert [o.name for o in model.graph.output] == ["y"]
    assert not any(v.type.tensor_type.HasField("shape") for v in model.graph.input)


@pytest.mark.parametrize("dtype", DType)
def test_element_types_have_onnxs_numbers(dtype: DType) -> None:
    encoded = encode_model([Node("Identity", ["x"], ["y"])], inputs={"x": dtype}, outputs={"y": dtype})

    graph = onnx.load_from_string(encoded).graph
    expected = helper.np_dtype_to_tensor_dtype(dtype.numpy)
    assert graph.input[0].type.tensor_type.elem_type == expected
    assert graph.output[0].type.tensor_type.elem_type == expected
