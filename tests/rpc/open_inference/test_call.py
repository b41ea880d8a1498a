"""What is found out about a request before it goes anywhere: ids that are too long, windows that are too many."""

from __future__ import annotations

import numpy as np
import pytest

from support.open_inference_messages import infer_request, manifest_of
from tidegate.errors import InvalidRequest
from tidegate.oip import open_inference_pb2 as pb
from tidegate.rpc.open_inference.call import InferCall
from tidegate.rpc.open_inference.layouts import Layouts
from tidegate.rpc.open_inference.requests import PARSED_BYTES
from tidegate.tensor import DType

MODEL = manifest_of(x=(DType.FLOAT32, (2,)))
TWO_WINDOWS = {"x": np.ones((2, 3, 2), np.float32)}


@pytest.mark.parametrize("sequence", [{}, {"sequence_id": 5}], ids=["window", "sequence"])
def test_a_request_id_has_at_most_256_bytes(sequence: dict[str, int]) -> None:
    InferCall(infer_request("m", {}, request_id="é" * 128, **sequence), Layouts())  # type: ignore[arg-type]

    with pytest.raises(InvalidRequest, match=r"^id: expected at most 256 bytes of UTF-8, got 258$"):
        InferCall(infer_request("m", {}, request_id="é" * 129, **sequence), Layouts())  # type: ignore[arg-type]


def test_the_id_of_a_sequence_has_at_most_128_bytes() -> None:
    InferCall(infer_request("m", {}, sequence_id="é" * 64), Layouts())

    with pytest.raises(InvalidRequest, match=r"^sequence_id: expected at most 128 bytes of UTF-8, got 130$"):
        InferCall(infer_request("m", {}, sequence_id="é" * 65), Layouts())


def test_numbers_in_a_message_count_for_what_they_take_in_memory() -> None:
    raw = infer_request("m", {"x": np.zeros((1, 1000, 2), np.float32)})
    typed = pb.ModelInferRequest()
    typed.inputs.add().contents.int64_contents.extend([0] * 1000)

    assert InferCall(raw, Layouts()).num_bytes == raw.ByteSize()
    assert InferCall(typed, Layouts()).num_bytes > 16_000 > 10 * typed.ByteSize()


def test_every_field_of_numbers_has_a_size() -> None:
    assert set(PARSED_BYTES) == {field.name for field in pb.InferTensorContents.DESCRIPTOR.fields}


def test_a_request_has_many_windows_and_one_of_a_sequence_has_one() -> None:
    windows = InferCall(infer_request("m", TWO_WINDOWS), Layouts())
    steps = InferCall(infer_request("m", TWO_WINDOWS, sequence_id=5), Layouts())

    assert windows.read_inputs(MODEL)[0].shape == (2, 3, 2)
    with pytest.raises(InvalidRequest, match="expected one window in a step of a sequence, got 2"):
        steps.read_inputs(MODEL)
