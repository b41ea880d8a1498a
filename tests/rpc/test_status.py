"""How errors travel: in streams, in statuses, and as incidents."""

import logging
from typing import TypeVar

import pytest
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from tidegate.errors import InternalError, InvalidRequest, SessionLost, TooManyRequests, WrongStep
from tidegate.rpc.status import MAX_TEXT_CHARS, as_public, incident, to_error, to_status

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
    assert len(to_error(error).message) == MAX_TEXT_CHARS
    assert to_error(error).message.endswith("…")


def test_an_incident_tells_the_caller_its_id_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    public = raised_and_taken(RuntimeError("password=hunter2"))

    assert public.incident_id in str(public)
    assert "hunter2" not in str(public)
    assert to_error(public).incident_id == public.incident_id


def test_an_incident_is_logged_with_its_traceback_under_its_id(caplog: pytest.LogCaptureFixture) -> None:
    public = raised_and_taken(RuntimeError("password=hunter2"))

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.__dict__["incident_id"] == public.incident_id
    assert "fail_with" in caplog.text
    assert "hunter2" in caplog.text


def test_no_two_incidents_share_an_id() -> None:
    ids = {incident(RuntimeError()).incident_id for _ in range(100)}

    assert len(ids) == 100


def test_an_error_of_ours_is_public_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    error = InvalidRequest("no")

    assert as_public(error) is error
    assert caplog.records == []


def raised_and_taken(error: Exception) -> InternalError:
    with pytest.raises(type(error)) as caught:
        fail_with(error)
    public = as_public(caught.value)
    assert isinstance(public, InternalError)
    return public


def fail_with(error: Exception) -> None:
    raise error


def detail(status: Status, message: Detail) -> Detail:
    (packed,) = [d for d in status.details if d.Is(message.DESCRIPTOR)]
    packed.Unpack(message)
    return message
