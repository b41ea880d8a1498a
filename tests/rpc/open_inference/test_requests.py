"""Inputs of requests: every datatype, raw and as numbers, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from support.open_inference_messages import infer_request, manifest_of
from tidegate.errors import InvalidRequest, Unsupported
from tidegate.model.manifest import Manifest
from tidegate.oip import open_inference_pb2 as pb
from tidegate.rpc.open_inference.layouts import NAMES, lay_out
from tidegate.rpc.open_inference.requests import CONTENTS, Inputs, read_inputs
from tidegate.tensor import Array, DType

ONE = manifest_of(x=(DType.FLOAT32, (2,)))
TWO = manifest_of(x=(DType.FLOAT32, (2,)), k=(DType.INT32, ()))
X = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
K = np.arange(6, dtype=np.int32).reshape(2, 3)


def read(manifest: Manifest, request: pb.ModelInferRequest) -> Inputs:
    return read_inputs(lay_out(manifest), request)


def refusal(manifest: Manifest, request: pb.ModelInferRequest) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read(manifest, request)
    return str(caught.value)


def as_numbers(request: pb.ModelInferRequest) -> pb.ModelInferRequest:
    """The same request with typed contents."""
    types = {name: d.numpy for d, name in NAMES.items()}
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        values = np.frombuffer(raw, types[tensor.datatype]).tolist()
        getattr(tensor.contents, CONTENTS[tensor.datatype].field).extend(values)
    del request.raw_input_contents[:]
    return request


def extremes(dtype: DType) -> Array:
    """The least and the greatest number of a type, as one step of a window."""
    if dtype is DType.BOOL:
        return np.array([[[False, True]]])
    limits = np.finfo(dtype.numpy) if dtype.is_float else np.iinfo(dtype.numpy)
    return np.array([[[limits.min, limits.max]]], dtype.numpy)


@pytest.mark.parametrize("dtype", list(DType))
def test_raw_contents_of_every_datatype_are_taken_as_they_are(dtype: DType) -> None:
    values = extremes(dtype)

    inputs = read(manifest_of(x=(dtype, (2,))), infer_request("m", {"x": values}))

    assert inputs.arrays[0].dtype == dtype.numpy
    assert inputs.arrays[0].tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", [d for d in DType if d is not DType.FLOAT16])
def test_numbers_of_every_datatype_but_half_floats_are_taken(dtype: DType) -> None:
    values = extremes(dtype)
    request = as_numbers(infer_request("m", {"x": values}))

    inputs = read(manifest_of(x=(dtype, (2,))), request)

    assert inputs.arrays[0].dtype == dtype.numpy
    assert inputs.arrays[0].tobytes() == values.tobytes()


def test_half_floats_as_numbers_are_refused() -> None:
    request = pb.ModelInferRequest()
    request.inputs.add(name="x", datatype="FP16", shape=[1, 1, 2]).contents.fp32_contents.extend([1, 2])

    text = refusal(manifest_of(x=(DType.FLOAT16, (2,))), request)

    assert text == "inputs: 'x' contents: expected FP16 in raw_input_contents, got none there"


@pytest.mark.parametrize(
    ("dtype", "number"), [(DType.INT8, 128), (DType.INT16, -40000), (DType.UINT8, 256), (DType.UINT16, 70000)]
)
def test_a_number_that_the_datatype_does_not_have_is_refused(dtype: DType, number: int) -> None:
    request = pb.ModelInferRequest()
    tensor = request.inputs.add(name="x", datatype=NAMES[dtype], shape=[1, 1, 2])
    getattr(tensor.contents, CONTENTS[NAMES[dtype]].field).extend([0, number])

    text = refusal(manifest_of(x=(dtype, (2,))), request)

    assert text == f"inputs: 'x' contents: expected {NAMES[dtype]}, got {number}"


@pytest.mark.parametrize("raw", [True, False])
def test_a_shape_without_the_time_axis_is_one_step(raw: bool) -> None:
    request = infer_request("m", {"x": X[:, 0], "k": K[:, 0]})

    inputs = read(TWO, request if raw else as_numbers(request))

    assert not inputs.has_time
    np.testing.assert_array_equal(inputs.arrays[0], X[:, :1])
    np.testing.assert_array_equal(inputs.arrays[1], K[:, :1])


def test_inputs_come_out_in_the_models_order() -> None:
    inputs = read(TWO, infer_request("m", {"k": K, "x": X}))

    assert inputs.has_time
    np.testing.assert_array_equal(inputs.arrays[0], X)
    np.testing.assert_array_equal(inputs.arrays[1], K)


@pytest.mark.parametrize(
    ("names", "got"),
    [
        ([], "none"),
        (["y"], "'y'"),
        (["x", "x"], "'x', 'x'"),
        (["k"], "'k'"),
        (["x", "k", "z"], "'x', 'k', 'z'"),
    ],
)
def test_inputs_that_are_not_the_models_are_refused(names: list[str], got: str) -> None:
    request = pb.ModelInferRequest()
    for name in names:
        request.inputs.add(name=name, datatype="FP32", shape=[1, 1, 2])
        request.raw_input_contents.append(bytes(8))

    assert refusal(TWO, request) == f"inputs: expected 'x', 'k', got {got}"


def test_the_names_of_very_many_inputs_are_not_all_repeated() -> None:
    request = pb.ModelInferRequest()
    for i in range(5000):
        request.inputs.add(name=f"{i:0500}")

    text = refusal(ONE, request)

    assert len(text) < 3000
    assert text.endswith("and 4980 more")


@pytest.mark.parametrize("got", ["FP64", "BYTES", "BF16", "", "fp32", "x" * 1000])
def test_another_datatype_is_refused(got: str) -> None:
    request = infer_request("m", {"x": X})
    request.inputs[0].datatype = got

    assert refusal(ONE, request) == f"inputs: 'x' datatype: expected FP32, got {got[:100]!r}"


@pytest.mark.parametrize(
    "shape",
    [
        [],
        [2],
        [2, 3],
        [2, 3, 3],
        [1, 2, 3, 2],
        [0, 3, 2],
        [2, 0, 2],
        [-2, -3, 2],
        [-1, 3, 2],
        [2, 3, -2],
        [0, 2],
        [2, 2, 3],
    ],
)
def test_another_shape_is_refused_and_told(shape: list[int]) -> None:
    request = infer_request("m", {"x": X})
    request.inputs[0].shape[:] = shape

    text = refusal(ONE, request)

    expected = "inputs: 'x' shape: expected [B, T, 2] or [B, 2], each at least 1, got "
    assert text == f"{expected}[{', '.join(map(str, shape))}]"


def test_a_shape_of_very_many_dimensions_is_not_repeated() -> None:
    request = infer_request("m", {"x": X})
    request.inputs[0].shape[:] = [1] * 100_000

    assert refusal(ONE, request).endswith("got 100000 dimensions")


@pytest.mark.parametrize("shape", [[2**62, 2**62, 2], [2**31, 2], [3, 3, 2], [1, 3, 2]])
@pytest.mark.parametrize("raw", [True, False])
def test_a_shape_that_lies_about_the_size_is_refused_before_anything_is_made(
    shape: list[int], raw: bool
) -> None:
    request = infer_request("m", {"x": X})
    if not raw:
        as_numbers(request)
    request.inputs[0].shape[:] = shape

    text = refusal(ONE, request)

    assert text.startswith("raw_input_contents: 'x': expected " if raw else "inputs: 'x' contents: expected ")
    assert text.endswith("got 48" if raw else "got 12")


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_raw_contents_than_of_inputs_is_refused(count: int) -> None:
    request = infer_request("m", {"x": X, "k": K})
    request.raw_input_contents[:] = [bytes(4)] * count

    text = refusal(TWO, request)

    assert text == f"raw_input_contents: expected one entry per input (2), got {count}"


def test_numbers_beside_raw_contents_are_refused() -> None:
    request = infer_request("m", {"x": X})
    request.inputs[0].contents.fp32_contents.extend([1, 2])

    text = refusal(ONE, request)

    assert text == "inputs: 'x' contents: expected none beside raw_input_contents, got some"


def test_an_input_without_any_contents_is_refused() -> None:
    request = infer_request("m", {"x": X})
    del request.raw_input_contents[:]

    assert refusal(ONE, request) == "inputs: 'x' contents: expected 'fp32_contents', got none"


@pytest.mark.parametrize("fields", [["fp64_contents"], ["int_contents", "fp32_contents"]])
def test_numbers_in_fields_of_other_datatypes_are_refused(fields: list[str]) -> None:
    request = pb.ModelInferRequest()
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, 1, 2])
    for field in fields:
        getattr(tensor.contents, field).extend([1, 2])

    got = ", ".join(map(repr, fields))
    assert refusal(ONE, request) == f"inputs: 'x' contents: expected 'fp32_contents', got {got}"


@pytest.mark.parametrize(
    ("k", "text"),
    [
        (K[:1], "got [2, 3] for 'x' and [1, 3] for 'k'"),
        (K[:, :2], "got [2, 3] for 'x' and [2, 2] for 'k'"),
        (K[:, 0], "got 'x' with it and 'k' without"),
    ],
)
def test_inputs_that_do_not_agree_are_refused(k: Array, text: str) -> None:
    assert refusal(TWO, infer_request("m", {"x": X, "k": k})).endswith(text)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_place(value: float) -> None:
    x = X.copy()
    x[1, 2, 0] = value

    text = refusal(ONE, infer_request("m", {"x": x}))

    assert text == f"inputs: 'x'[0] of step 2 of the row: expected a finite value, got {value}"


def test_a_missing_value_is_taken_where_the_model_takes_it() -> None:
    x = X.copy()
    x[0, 0, 0] = np.nan

    inputs = read(manifest_of(missing=True, x=(DType.FLOAT32, (2,))), infer_request("m", {"x": x}))

    assert np.isnan(inputs.arrays[0][0, 0, 0])


def _shared_memory(request: pb.ModelInferRequest) -> None:
    request.inputs[0].parameters["shared_memory_region"].string_param = "region"


def _others(request: pb.ModelInferRequest) -> None:
    request.inputs[0].parameters["binary_data_size"].int64_param = 48


@pytest.mark.parametrize(("change", "refused"), [(_shared_memory, True), (_others, False)])
def test_shared_memory_is_refused_and_other_parameters_are_ignored(
    change: Callable[[pb.ModelInferRequest], None], refused: bool
) -> None:
    request = infer_request("m", {"x": X})
    change(request)

    if refused:
        with pytest.raises(Unsupported, match="shared_memory_region"):
            read(ONE, request)
    else:
        np.testing.assert_array_equal(read(ONE, request).arrays[0], X)
