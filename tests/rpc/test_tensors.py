"""The named tensors of single calls, read by the manifest."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.errors import InvalidRequest
from tidegate.model.manifest import Dim, InputSpec, Manifest, OutputSpec
from tidegate.rpc.tensors import DATA_TYPES, read_inputs, write_outputs
from tidegate.tensor import DType
from tidegate.v1 import model_pb2
from tidegate.v1.session_pb2 import Tensor


def manifest_of(**inputs: tuple[DType, tuple[Dim, ...]]) -> Manifest:
    return Manifest(
        name="m",
        version="1",
        sha256="0" * 64,
        inputs=tuple(InputSpec(name=n, dtype=d, shape=("batch", *s)) for n, (d, s) in inputs.items()),
        outputs=(OutputSpec(name="y", dtype=DType.FLOAT32, shape=("batch", 2)),),
    )


ONE = manifest_of(x=(DType.FLOAT32, (2,)))
TWO = manifest_of(x=(DType.FLOAT32, (2,)), n=(DType.INT32, ()))


def refusal(manifest: Manifest, *tensors: Tensor) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read_inputs(manifest, tensors)
    return str(caught.value)


def test_numbers_become_one_row_of_steps() -> None:
    arrays = read_inputs(ONE, [Tensor(name="x", values=[1, 2, 3, 4])])

    assert arrays[0].dtype == np.float32
    np.testing.assert_array_equal(arrays[0], [[[1, 2], [3, 4]]])


def test_raw_bytes_are_taken_as_they_are() -> None:
    sent = np.array([[0.1, -0.0], [np.pi, 1e-30]], "<f4")

    arrays = read_inputs(ONE, [Tensor(name="x", raw=sent.tobytes(), shape=[2, 2])])

    assert arrays[0].tobytes() == sent.tobytes()


def test_the_only_input_needs_no_name() -> None:
    assert read_inputs(ONE, [Tensor(values=[1, 2])])[0].shape == (1, 1, 2)


def test_inputs_come_out_in_the_manifests_order() -> None:
    arrays = read_inputs(TWO, [Tensor(name="n", values=[7]), Tensor(name="x", values=[1, 2])])

    assert [a.shape for a in arrays] == [(1, 1, 2), (1, 1)]
    assert arrays[1].dtype == np.int32


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ([], "inputs: expected x, n, got none"),
        ([Tensor(name="x", values=[1, 2])], "inputs: expected x, n, got x"),
        ([Tensor(name="x", values=[1, 2])] * 2, "inputs: expected x, n, got x, x"),
        ([Tensor(name="x", values=[1, 2]), Tensor(name="z", values=[1])], "inputs: expected x, n, got x, z"),
        (
            [Tensor(name="x", values=[1, 2, 3, 4]), Tensor(name="n", values=[1])],
            "inputs: expected the same number of steps in all, got [2, 1]",
        ),
    ],
)
def test_inputs_that_do_not_go_together_are_refused(tensors: list[Tensor], text: str) -> None:
    assert refusal(TWO, *tensors) == text


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (Tensor(name="x"), "inputs: 'x': expected either raw or values"),
        (Tensor(name="x", raw=bytes(8), values=[1, 2]), "inputs: 'x': expected either raw or values"),
        (Tensor(name="x", values=[1, 2, 3]), "inputs: 'x': expected a multiple of 2 elements, got 3"),
        (
            Tensor(name="x", raw=bytes(9)),
            "inputs: 'x' raw: expected a multiple of 4 bytes (float32), got 9",
        ),
        (
            Tensor(name="x", values=[1, 2], shape=[2, 1]),
            "inputs: 'x' shape: expected [1, 2], got [2, 1]",
        ),
        (
            Tensor(name="x", values=[1, 2], data_type=model_pb2.DATA_TYPE_FLOAT64),
            "inputs: 'x' data_type: expected float32, got DATA_TYPE_FLOAT64",
        ),
        (
            Tensor(name="x", values=[1, 2], data_type=99),  # type: ignore[arg-type]
            "inputs: 'x' data_type: expected float32, got 99",
        ),
    ],
)
def test_a_tensor_that_is_not_the_models_is_refused(tensor: Tensor, text: str) -> None:
    assert refusal(ONE, tensor) == text


WHOLE = [
    (DType.INT8, -(2**7), 2**7),
    (DType.INT16, -(2**15), 2**15),
    (DType.INT32, -(2**31), 2**31),
    (DType.INT64, -(2**63), 2**63),
    (DType.UINT8, 0, 2**8),
    (DType.UINT16, 0, 2**16),
    (DType.UINT32, 0, 2**32),
    (DType.UINT64, 0, 2**64),
    (DType.BOOL, 0, 2),
]


@pytest.mark.parametrize(("dtype", "low", "end"), WHOLE)
def test_the_range_of_a_whole_number_is_exact(dtype: DType, low: int, end: int) -> None:
    manifest = manifest_of(n=(dtype, ()))
    last = int(np.nextafter(float(end), 0)) if end > 2**53 else end - 1

    inside = read_inputs(manifest, [Tensor(values=[low, last])])[0]

    assert [int(n) for n in inside[0]] == [low, last]
    for outside in (float(end), np.nextafter(float(low), -np.inf) if low < 0 else -1.0):
        assert refusal(manifest, Tensor(values=[outside])).startswith(f"inputs: 'n' values: expected {dtype}")


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_what_is_no_whole_number_is_refused(value: float) -> None:
    text = refusal(manifest_of(n=(DType.INT32, ())), Tensor(values=[1, value]))

    assert text == f"inputs: 'n' values: expected int32, got {value:g}"


def test_outputs_are_written_as_numbers_with_their_shape() -> None:
    tensors = write_outputs(ONE, [np.array([[1, 2], [3, 4], [5, 6]], np.float32)])

    assert [(t.name, t.data_type, list(t.shape)) for t in tensors] == [
        ("y", model_pb2.DATA_TYPE_FLOAT32, [3, 2])
    ]
    assert list(tensors[0].values) == [1, 2, 3, 4, 5, 6]


def test_no_outputs_are_no_tensors() -> None:
    assert write_outputs(ONE, []) == []


def test_every_element_type_has_its_number_on_the_wire() -> None:
    numbers = set(DATA_TYPES.values())

    assert len(numbers) == len(DType)
    assert model_pb2.DATA_TYPE_UNSPECIFIED not in numbers
