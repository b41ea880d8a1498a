"""Exceptions that nobody expected: all of them in the log, only an id outside."""

import logging

import pytest

from tidegate.errors import InternalError
from tidegate.telemetry.incidents import incident


def taken() -> InternalError:
    """The incident of an exception that was raised."""
    with pytest.raises(RuntimeError) as caught:
        fail()
    return incident(caught.value)


def fail() -> None:
    raise RuntimeError("password=hunter2")


def test_the_caller_is_told_the_id_and_nothing_else() -> None:
    public = taken()

    assert public.incident_id in str(public)
    assert "hunter2" not in str(public)


def test_the_log_has_the_traceback_under_the_id(caplog: pytest.LogCaptureFixture) -> None:
    public = taken()

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.__dict__["incident_id"] == public.incident_id
    assert "in fail" in caplog.text
    assert "hunter2" in caplog.text


def test_no_two_incidents_share_an_id() -> None:
    assert len({incident(RuntimeError()).incident_id for _ in range(100)}) == 100
