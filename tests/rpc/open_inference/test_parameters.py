"""What the parameters of a request mean, and what they cannot be."""

from __future__ import annotations

import pytest

from support.open_inference_messages import Value, set_parameter
from tidegate.errors import InvalidRequest, Unsupported
from tidegate.oip import open_inference_pb2 as pb
from tidegate.rpc.open_inference.parameters import RequestParameters, read_parameters


def read(**parameters: Value | pb.InferParameter) -> RequestParameters:
    request = pb.ModelInferRequest()
    for name, value in parameters.items():
        if isinstance(value, pb.InferParameter):
            request.parameters[name].CopyFrom(value)
        else:
            set_parameter(request.parameters[name], value)
    return read_parameters(request.parameters)


def unsigned(value: int) -> pb.InferParameter:
    return pb.InferParameter(uint64_param=value)


def test_without_parameters_a_request_is_stateless() -> None:
    assert read() == RequestParameters()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (5, 5),
        (-5, -5),
        (2**63 - 1, 2**63 - 1),
        ("5", "5"),
        ("é" * 64, "é" * 64),
        (unsigned(7), 7),
        (0, None),
        ("", None),
        (unsigned(0), None),
    ],
)
def test_a_sequence_id_is_a_number_or_a_text(
    given: Value | pb.InferParameter, expected: int | str | None
) -> None:
    assert read(sequence_id=given).sequence_id == expected


@pytest.mark.parametrize("given", [True, 1.5, unsigned(2**63), pb.InferParameter()])
def test_other_sequence_ids_are_refused(given: Value | pb.InferParameter) -> None:
    with pytest.raises(InvalidRequest, match="sequence_id: expected"):
        read(sequence_id=given)


def test_a_request_says_where_in_its_sequence_it_stands() -> None:
    parameters = read(sequence_id=5, sequence_start=True, sequence_end=True, step=0)

    assert (parameters.starts, parameters.ends, parameters.step) == (True, True, 0)


@pytest.mark.parametrize("name", ["sequence_start", "sequence_end"])
@pytest.mark.parametrize("given", ["true", 1, 1.0, pb.InferParameter()])
def test_start_and_end_are_bools(name: str, given: Value | pb.InferParameter) -> None:
    with pytest.raises(InvalidRequest, match=f"{name}: expected a bool, got"):
        read(sequence_id=5, **{name: given})


@pytest.mark.parametrize("given", [-1, "0", False, 0.0, unsigned(2**63)])
def test_a_step_is_a_number_from_0(given: Value | pb.InferParameter) -> None:
    with pytest.raises(InvalidRequest, match="step: expected an int64 from 0, got"):
        read(sequence_id=5, step=given)


@pytest.mark.parametrize("name", ["sequence_start", "sequence_end"])
@pytest.mark.parametrize("sequence_id", [0, ""])
def test_what_is_said_of_no_sequence_is_refused(name: str, sequence_id: Value) -> None:
    with pytest.raises(InvalidRequest, match="expected a sequence_id beside"):
        read(sequence_id=sequence_id, **{name: True})
    with pytest.raises(InvalidRequest, match="expected a sequence_id beside"):
        read(step=3)


@pytest.mark.parametrize(
    ("given", "seconds"), [(1_500_000, 1.5), ("1500000", 1.5), (unsigned(2), 2e-6), (0, None), ("0", None)]
)
def test_a_timeout_is_in_microseconds_as_a_number_or_a_text(
    given: Value | pb.InferParameter, seconds: float | None
) -> None:
    assert read(timeout=given).time_limit_s == seconds


@pytest.mark.parametrize("given", [-1, "", "-1", "1.5", "٣", "9" * 5000, True, 1.5])
def test_other_timeouts_are_refused(given: Value) -> None:
    with pytest.raises(InvalidRequest, match="timeout: expected"):
        read(timeout=given)


@pytest.mark.parametrize(
    "name", ["shared_memory_region", "shared_memory_offset", "shared_memory_byte_size", "classification"]
)
def test_what_is_not_served_is_refused_by_name(name: str) -> None:
    with pytest.raises(Unsupported, match=name):
        read(**{name: 1})


def test_priority_and_unknown_parameters_are_ignored() -> None:
    assert read(priority=3, binary_data_output=True, whatever="x") == RequestParameters()
