"""How errors travel: in streams, in statuses, and as incidents."""

from typing import TypeVar

import pytest
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from tidegate.errors import InternalError, InvalidRequest, SessionLost, TooManyRequests, WrongStep
from tidegate.rpc.status import MAX_TEXT_BYTES, as_public, to_error, to_status

HEADER_BYTES = 8192
"""What peers of gRPC take of headers in all."""

Detail = TypeVar("Detail", ErrorInfo, RetryInfo)


def test_an_error_in_a_stream_carries_code_text_reason_and_facts() -> None:
    error = to_error(WrongStep("step: expected 7, got 9", expected_step=7))

    assert error.code == Code.Value("FAILED_PRECONDITION")
    assert error.message == "step: expected 7, got 9"
    assert error.reason == "WRONG_STEP"
    assert error.expected_step == 7


def test_facts_that_an_error_does_not_have_stay_unset() -> None:
    error = to_error(InvalidRequest("num_steps: expected at least 1, got 0"))

    unset = ("expected_step", "next_step", "durable_step", "retry_after")
    assert [name for name in unset if error.HasField(name)] == []


def test_a_fact_of_zero_is_set() -> None:
    error = to_error(SessionLost("gone", next_step=0, durable_step=0))

    assert error.HasField("next_step")
    assert error.HasField("durable_step")


def test_a_retry_hint_keeps_its_fraction_of_a_second() -> None:
    error = to_error(TooManyRequests("full", retry_after_s=1.25))

    assert error.retry_after.ToTimedelta().total_seconds() == 1.25


def test_a_status_carries_reason_domain_and_facts() -> None:
    status = to_status(SessionLost("gone", next_step=12, durable_step=8))

    info = detail(status, ErrorInfo())
    assert status.code == Code.Value("DATA_LOSS")
    assert status.message == "gone"
    assert (info.reason, info.domain) == ("SESSION_LOST", "tidegate")
    assert dict(info.metadata) == {"next_step": "12", "durable_step": "8"}


def test_a_status_carries_a_retry_hint_where_the_error_has_one() -> None:
    with_hint = to_status(TooManyRequests("full", retry_after_s=0.5))
    without = to_status(TooManyRequests("full"))

    assert detail(with_hint, RetryInfo()).retry_delay.ToTimedelta().total_seconds() == 0.5
    assert len(without.details) == 1


def test_a_text_past_the_limit_is_cut_and_shows_it() -> None:
    error = InvalidRequest("x" * 100_000)

    assert to_error(error).message == to_status(error).message
    assert len(to_error(error).message.encode()) == MAX_TEXT_BYTES
    assert to_error(error).message.endswith("…")


@pytest.mark.parametrize("letter", ["é", "漢", "\U0001f600"])
def test_a_long_text_of_any_script_fits_into_the_headers_of_a_status(letter: str) -> None:
    status = to_status(InvalidRequest(letter * 1000))

    percent_encoded = sum(1 if byte < 0x80 else 3 for byte in status.message.encode())
    base64_encoded = len(status.SerializeToString()) * 4 / 3
    assert percent_encoded + base64_encoded < HEADER_BYTES
    assert status.message.endswith(letter + "…")


def test_another_exception_is_public_as_an_incident(caplog: pytest.LogCaptureFixture) -> None:
    public = as_public(RuntimeError("password=hunter2"))

    assert isinstance(public, InternalError)
    assert to_error(public).incident_id == caplog.records[0].__dict__["incident_id"]
    assert "hunter2" not in to_error(public).message


def test_an_error_of_ours_is_public_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    error = InvalidRequest("no")

    assert as_public(error) is error
    assert caplog.records == []


def detail(status: Status, message: Detail) -> Detail:
    (packed,) = [d for d in status.details if d.Is(message.DESCRIPTOR)]
    packed.Unpack(message)
    return message
