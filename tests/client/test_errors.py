"""Errors cross the wire and come back as what they were."""

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from tidegate import errors
from tidegate.client.errors import FleetError, RemoteError, StreamLost, from_message, from_rpc_error
from tidegate.errors import (
    ArenaFull,
    Displaced,
    InternalError,
    InvalidRequest,
    MessageTooLarge,
    SessionLost,
    TidegateError,
    WrongStep,
)
from tidegate.rpc.status import to_error, to_status
from tidegate.v1.error_pb2 import Error

ADDRESS = "127.0.0.1:8001"

SAMPLES: list[TidegateError] = [
    WrongStep("expected 5, got 7", expected_step=5),
    SessionLost("evicted", next_step=9, durable_step=3),
    Displaced("taken over", next_step=4),
    ArenaFull("full", retry_after_s=1.5),
    InternalError("quote it", incident_id="abcd"),
    *[
        c("text")
        for c in vars(errors).values()
        if isinstance(c, type) and issubclass(c, TidegateError) and c not in (TidegateError, WrongStep)
        if c.reason != TidegateError.reason
    ],
]


def rpc_error(code: grpc.StatusCode, details: str = "", status: bytes | None = None) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata(*([] if status is None else [("grpc-status-details-bin", status)]))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_an_error_in_a_stream_comes_back_as_the_same_class(error: TidegateError) -> None:
    back = from_message(to_error(error))

    assert (type(back), str(back), back.facts) == (type(error), str(error), error.facts)
    assert back.retry_after_s == error.retry_after_s


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_an_error_of_a_call_comes_back_as_the_same_class(error: TidegateError) -> None:
    status = to_status(error)

    back = from_rpc_error(
        rpc_error(grpc.StatusCode[error.code], status.message, status.SerializeToString()), ADDRESS
    )

    assert (type(back), str(back), back.facts) == (type(error), str(error), error.facts)
    assert back.retry_after_s == error.retry_after_s


def test_an_unknown_reason_with_a_known_code_is_that_kind_of_error() -> None:
    back = from_message(Error(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], reason="NEW_RULE", message="m"))

    assert type(back) is InvalidRequest


def test_an_unknown_reason_and_code_is_told_as_it_is() -> None:
    back = from_message(Error(code=9, reason="NEW_RULE", message="m", retry_after=Duration(seconds=2)))

    assert isinstance(back, RemoteError)
    assert (back.remote_code, back.remote_reason, back.retry_after_s) == (
        "FAILED_PRECONDITION",
        "NEW_RULE",
        2.0,
    )


def test_an_error_without_the_fact_that_it_needs_is_told_as_it_is() -> None:
    back = from_message(Error(code=9, reason="WRONG_STEP", message="m"))

    assert isinstance(back, RemoteError)
    assert back.remote_reason == "WRONG_STEP"


@pytest.mark.parametrize("code", ["UNAVAILABLE", "CANCELLED", "INTERNAL", "UNKNOWN"])
def test_what_a_transport_or_a_proxy_says_is_a_lost_connection(code: str) -> None:
    back = from_rpc_error(rpc_error(grpc.StatusCode[code], "socket closed"), ADDRESS)

    assert isinstance(back, StreamLost)
    assert (back.address, back.grpc_code) == (ADDRESS, code)
    assert str(back) == f"{ADDRESS}: {code}: socket closed"


def test_a_message_over_the_limit_of_the_transport_is_too_large() -> None:
    back = from_rpc_error(rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger"), ADDRESS)

    assert isinstance(back, MessageTooLarge)


def test_a_fleet_error_names_one_and_counts_the_rest() -> None:
    error = FleetError({"a": InvalidRequest("x: not finite"), "b": InvalidRequest("y")})

    assert str(error) == "session 'a': x: not finite, and 1 more"
