"""Answers: the outputs that are wanted, in the order in which they are."""

from __future__ import annotations

import numpy as np
import pytest

from support.open_inference_messages import infer_request, manifest_of, outputs_of, parameters_of
from tidegate.errors import InvalidRequest, Unsupported, WrongStep
from tidegate.oip import open_inference_pb2 as pb
from tidegate.rpc.open_inference.layouts import lay_out
from tidegate.rpc.open_inference.responses import fill_answer, fill_refusal, fill_sequence, read_selection
from tidegate.tensor import DType

LAYOUT = lay_out(manifest_of(x=(DType.FLOAT32, ())))
Y = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
N = np.arange(6, dtype=np.int64).reshape(2, 3)


@pytest.mark.parametrize(
    ("wanted", "chosen"), [([], [0, 1]), (["n"], [1]), (["n", "y"], [1, 0]), (["y", "n"], [0, 1])]
)
def test_outputs_are_all_or_those_requested(wanted: list[str], chosen: list[int]) -> None:
    assert list(read_selection(LAYOUT, infer_request("m", {}, outputs=wanted))) == chosen


@pytest.mark.parametrize("wanted", [["z"], ["y", "y"], [""]])
def test_outputs_that_are_unknown_or_named_twice_are_refused(wanted: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_selection(LAYOUT, infer_request("m", {}, outputs=wanted))

    assert str(caught.value) == f"outputs: expected each of 'y', 'n' at most once, got {wanted[-1]!r}"


@pytest.mark.parametrize("name", ["classification", "shared_memory_region"])
def test_outputs_in_another_form_than_the_models_are_refused(name: str) -> None:
    request = infer_request("m", {}, outputs=["y"])
    request.outputs[0].parameters[name].int64_param = 1

    with pytest.raises(Unsupported, match=name):
        read_selection(LAYOUT, request)


def test_an_answer_has_the_outputs_as_raw_bytes_in_the_order_requested() -> None:
    response = pb.ModelInferResponse()

    fill_answer(response, LAYOUT, [Y, N], (1, 0), has_time=True)

    assert (response.model_name, response.model_version) == ("m", "1")
    outputs = outputs_of(response)
    assert list(outputs) == ["n", "y"]
    np.testing.assert_array_equal(outputs["y"], Y)
    np.testing.assert_array_equal(outputs["n"], N)


def test_an_answer_to_a_step_without_the_time_axis_has_none_either() -> None:
    response = pb.ModelInferResponse()

    fill_answer(response, LAYOUT, [Y[:, :1], N[:, :1]], (0, 1), has_time=False)

    outputs = outputs_of(response)
    np.testing.assert_array_equal(outputs["y"], Y[:, 0])
    np.testing.assert_array_equal(outputs["n"], N[:, 0])


@pytest.mark.parametrize("sequence_id", [5, -5, "5"])
def test_an_answer_of_a_sequence_says_which_and_where(sequence_id: int | str) -> None:
    response = pb.ModelInferResponse()

    fill_sequence(response, sequence_id, 7)

    assert parameters_of(response) == {"sequence_id": sequence_id, "step": 7}


def test_a_refusal_on_a_stream_tells_code_and_facts() -> None:
    response = pb.ModelStreamInferResponse()
    request = infer_request("m", {}, request_id="r", version="3")

    fill_refusal(response, request, WrongStep("step 3 skips 2", expected_step=2))

    assert response.error_message == "FAILED_PRECONDITION: step 3 skips 2"
    answer = response.infer_response
    assert (answer.id, answer.model_name, answer.model_version) == ("r", "m", "3")
    assert parameters_of(answer) == {
        "error_code": "FAILED_PRECONDITION",
        "error_reason": "WRONG_STEP",
        "expected_step": 2,
    }


def test_a_refusal_repeats_no_long_text_of_the_request() -> None:
    response = pb.ModelStreamInferResponse()
    request = infer_request("m" * 100_000, {}, request_id="r" * 100_000, version="3" * 100_000)

    fill_refusal(response, request, InvalidRequest("too long"))

    assert response.ByteSize() < 2000
