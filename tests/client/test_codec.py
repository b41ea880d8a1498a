"""What an application hands over, checked and converted before anything is sent."""

import numpy as np
import pytest

from tidegate.client.codec import encode_inputs
from tidegate.client.signature import TensorSpec
from tidegate.errors import InvalidRequest
from tidegate.tensor import DType

X = TensorSpec("x", DType.FLOAT32, (3,))
ONE = TensorSpec("co2", DType.FLOAT32, (1,))
RATE = TensorSpec("rate", DType.INT32, ())


def refusal(spec: TensorSpec, value: object, axes: dict[str, int | None]) -> str:
    with pytest.raises(InvalidRequest) as caught:
        encode_inputs([spec], value, axes)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_step_has_the_shape_of_the_input() -> None:
    [x] = encode_inputs([X], [1, 2.5, 3], {})

    assert (x.dtype, x.tolist()) == (np.float32, [1, 2.5, 3])


@pytest.mark.parametrize("value", [315.7, [315.7], np.float64(315.7)])
def test_one_feature_needs_no_axis_of_its_own(value: object) -> None:
    [x] = encode_inputs([ONE], value, {})  # type: ignore[arg-type]

    assert x.shape == (1,)


def test_a_plain_series_of_one_feature_will_do() -> None:
    [x] = encode_inputs([ONE], [1.0, 2.0, 3.0], {"T": None})

    assert x.shape == (3, 1)


def test_a_wrong_shape_is_told_with_what_was_expected() -> None:
    text = refusal(X, np.zeros((5, 2)), {"T": None})

    assert text == "input 'x': shape: expected [T, 3], got [5, 2]"


def test_the_number_of_sessions_is_checked() -> None:
    text = refusal(X, np.zeros((4, 3)), {"n": 5})

    assert text == "input 'x': shape: expected [5, 3], got [4, 3]"


def test_no_steps_at_all_are_refused() -> None:
    assert "no empty axis" in refusal(X, np.zeros((0, 3)), {"T": None})


def test_integers_and_doubles_become_float32() -> None:
    for value in (np.array([1, 2, 3]), np.array([1.0, 2.0, 3.0]), np.array([True, False, True])):
        [x] = encode_inputs([X], value, {})
        assert x.dtype == np.float32


def test_a_finite_value_that_would_become_infinite_is_refused() -> None:
    assert refusal(X, [1.0, 1e39, 0.0], {}) == "input 'x': expected values of float32, got 1e+39"


def test_infinity_and_nan_are_left_to_the_server() -> None:
    [x] = encode_inputs([X], [np.inf, np.nan, 0.0], {})

    assert np.isinf(x[0])
    assert np.isnan(x[1])


@pytest.mark.parametrize("value", [["a", "b", "c"], [None, 1, 2], [1j, 0, 0]])
def test_what_is_not_a_number_is_refused(value: object) -> None:
    assert refusal(X, value, {}).startswith("input 'x': dtype: expected float32, got ")


def test_a_ragged_list_is_refused() -> None:
    assert refusal(X, [[1, 2, 3], [1]], {"T": None}).startswith("input 'x': expected an array")


def test_a_float_never_becomes_an_integer() -> None:
    assert refusal(RATE, 16000.0, {}) == "input 'rate': dtype: expected int32, got float64"


def test_an_integer_out_of_range_is_refused() -> None:
    assert refusal(RATE, 2**40, {}) == f"input 'rate': expected values of int32, got {2**40}"


def test_several_inputs_come_by_name_and_leave_in_the_models_order() -> None:
    encoded = encode_inputs([X, RATE], {"rate": [8, 8], "x": np.zeros((2, 3))}, {"T": None})

    assert [e.shape for e in encoded] == [(2, 3), (2,)]


@pytest.mark.parametrize("inputs", [{"x": 1}, {"x": 1, "rate": 1, "more": 1}, [1, 2, 3]])
def test_a_missing_or_unknown_input_is_refused(inputs: object) -> None:
    with pytest.raises(InvalidRequest, match=r"inputs: expected .*'x', 'rate'.*, got"):
        encode_inputs([X, RATE], inputs, {})  # type: ignore[arg-type]


def test_inputs_of_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"input 'rate': shape: expected \[2\] in front"):
        encode_inputs([X, RATE], {"x": np.zeros((2, 3)), "rate": [1, 2, 3]}, {"T": None})


def test_bytes_are_little_endian_whatever_came() -> None:
    [x] = encode_inputs([X], np.array([1, 2, 3], ">f4"), {})

    assert x.tobytes() == np.array([1, 2, 3], "<f4").tobytes()
