"""From the wire back to the errors of `tidegate.errors`, and the few that only a client can meet.

* InvalidRequest ... InternalError   as raised by the server, the same class by its `reason`
* RemoteError                        a reason that this release of the library has no class for
* DeadlineExpired
  + CallTimedOut                     no answer in time; the input stays the step it is: `retry()`
* CapacityError
  + BufferFull                       no room to hold the inputs of another call
* ConnectionLost
  + StreamLost                       the server cannot be reached; `unknown` says which steps may be lost
    - AnswerLost                     a single call was applied, its answer was lost with the connection
* FleetError                         some sessions of a fleet were refused; holds everyone's answers
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from tidegate import errors
from tidegate.errors import (
    CapacityError,
    ConnectionLost,
    DeadlineExpired,
    SessionError,
    TidegateError,
)
from tidegate.tensor import Array
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.error_pb2 import Error

_STATUS_DETAILS = "grpc-status-details-bin"
_FACTS: tuple[Literal["expected_step", "next_step", "durable_step"], ...] = (
    "expected_step",
    "next_step",
    "durable_step",
)

# What a transport, or a proxy in front of a server that died, ends a call with (nginx and Envoy:
# INTERNAL; haproxy: CANCELLED).
_TRANSPORT_CODES = frozenset({"UNAVAILABLE", "CANCELLED", "INTERNAL", "UNKNOWN", "ABORTED", "OK"})


class RemoteError(TidegateError):
    """The server gave a reason that this release of the library does not know.

    Attributes:
        remote_code: Name of the canonical code that came.
        remote_reason: The reason that came; empty when none did.
    """

    def __init__(self, message: str, *, remote_code: str = "UNKNOWN", remote_reason: str = "") -> None:
        super().__init__(message)
        self.remote_code = remote_code
        self.remote_reason = remote_reason


Answer = TypeVar("Answer")


class CallTimedOut(DeadlineExpired):
    """No answer came within `timeout_s`. What was handed over keeps its step numbers.

    Do not send the input again when `taken` is true: it is on its way as step `step`, and the state
    will move on with it. `retry()` waits for its answer; the next call waits for it first.

    Attributes:
        taken: Whether this call's input was taken. False: the call before it is still without an answer,
            or there was no room for the input, and nothing of this one was sent.
        step: Number of the first step that is without an answer.
    """

    def __init__(self, message: str, *, taken: bool, step: int, again: Callable[[float | None], Any]) -> None:
        super().__init__(message)
        self.taken = taken
        self.step = step
        self._again = again

    def retry(self, *, timeout_s: float | None = None) -> Any:
        """Wait for what the call would have returned, however often: no step is sent twice.

        Where the input was not taken, the call is made again. With `AsyncClient` this is to be awaited.

        Args:
            timeout_s: Longest wait, in seconds; None waits.

        Returns:
            What the call returns.

        Raises:
            CallTimedOut: Still no answer.
            TidegateError: Whatever the call raises.
        """
        return self._again(timeout_s)

    def through(self, run: Callable[[Coroutine[object, object, Any]], Any]) -> CallTimedOut:
        """The same error, for code without asyncio: `run` waits for what `retry` gives."""
        again = self._again
        return CallTimedOut(
            str(self), taken=self.taken, step=self.step, again=lambda timeout_s: run(again(timeout_s))
        )


class BufferFull(CapacityError):
    """The client holds as many inputs as it may, because the server does not report their steps as durable.

    Nothing of the call was sent. `RecoveryOptions` has the limit, and whether calls wait instead.
    """

    reason = "BUFFER_FULL"


class StreamLost(ConnectionLost):
    """The server cannot be reached, for longer than was to be waited for it.

    Attributes:
        address: Server that was called.
        grpc_code: Name of the code that the last attempt ended with.
        unknown: By session id, steps that the server may or may not have: sent by a single call that got
            no answer, or not durable when the session was left.
    """

    def __init__(
        self, message: str, *, address: str, grpc_code: str, unknown: Mapping[str, range] | None = None
    ) -> None:
        super().__init__(message)
        self.address = address
        self.grpc_code = grpc_code
        self.unknown: Mapping[str, range] = unknown or {}


class AnswerLost(StreamLost):
    """The steps of a single call were applied, but their answer was lost with the connection.

    A stream can have it computed again: open the session with `next_step` at the first of them.

    Attributes:
        next_step: Number of the session's next step.
    """

    def __init__(self, message: str, *, address: str, grpc_code: str, next_step: int) -> None:
        super().__init__(message, address=address, grpc_code=grpc_code)
        self.next_step = next_step


class FleetError(SessionError):
    """Some sessions of a fleet were refused; the others went on.

    Attributes:
        errors: The error of each refused session, by its id.
        answers: What the call would have returned: the answers of all sessions, with NaN (0 in integer
            outputs) where there is none. None when the fleet could not be opened.
    """

    code = "FAILED_PRECONDITION"
    reason = "FLEET"

    def __init__(
        self, failed: Mapping[str, TidegateError], answers: Array | Mapping[str, Array] | None = None
    ) -> None:
        session_id, first = next(iter(failed.items()))
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        super().__init__(f"session {session_id!r}: {first}{more}")
        self.errors = dict(failed)
        self.answers = answers


def heals(error: TidegateError) -> bool:
    """Whether the same may succeed later: the connection was lost, or the server says when to come back."""
    return isinstance(error, ConnectionLost) or error.retry_after_s is not None


def from_message(error: Error) -> TidegateError:
    """The error that travels inside a stream."""
    facts: dict[str, int | str] = {name: getattr(error, name) for name in _FACTS if error.HasField(name)}
    if error.incident_id:
        facts["incident_id"] = error.incident_id
    retry_after = error.retry_after if error.HasField("retry_after") else None
    return _build(_code_name(error.code), error.reason, error.message, facts, retry_after)


def from_notice(notice: pb.Notice, next_step: int) -> TidegateError:
    """The error that a notice means for a session that it names."""
    match notice.reason:
        case pb.NOTICE_REASON_DISPLACED:
            return errors.Displaced(
                notice.message or "another stream resumed the session", next_step=next_step
            )
        case pb.NOTICE_REASON_ENDED:
            return errors.SessionNotFound(notice.message or "the session was ended by a call on its id")
        case _:
            return errors.SessionLost(
                notice.message or "the session's state was given up", next_step=next_step
            )


def from_rpc_error(error: grpc.aio.AioRpcError, address: str) -> TidegateError:
    """The error of a call that failed: the server's own, or that of the transport.

    Args:
        error: What gRPC raised.
        address: Server that was called; named in `ConnectionLost`.
    """
    status = _status_of(error)
    if status is not None:
        return _from_status(status)
    code, text = error.code().name, error.details() or ""
    if code in _TRANSPORT_CODES:
        return StreamLost(f"{address}: {code}: {text}", address=address, grpc_code=code)
    if code == "RESOURCE_EXHAUSTED":
        return errors.MessageTooLarge(f"{address}: {text}")
    return _build(code, "", f"{address}: {text}", {}, None)


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_DETAILS and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return None


def _from_status(status: status_pb2.Status) -> TidegateError:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    has_retry = False
    for detail in status.details:
        detail.Unpack(info)
        has_retry = detail.Unpack(retry) or has_retry
    facts = {key: int(value) if key in _FACTS else value for key, value in info.metadata.items()}
    delay = retry.retry_delay if has_retry else None
    return _build(_code_name(status.code), info.reason, status.message, facts, delay)


def _build(
    code: str, reason: str, message: str, facts: Mapping[str, int | str], retry_after: Duration | None
) -> TidegateError:
    recipe = _BY_REASON.get(reason) or _BY_CODE.get(code)
    if recipe is None or not recipe.required <= facts.keys():
        error: TidegateError = RemoteError(message, remote_code=code, remote_reason=reason)
    else:
        accepted = {key: value for key, value in facts.items() if key in recipe.accepted}
        error = recipe.error_class(message, **accepted)
    if retry_after is not None:
        error.retry_after_s = retry_after.ToTimedelta().total_seconds()
    return error


def _code_name(code: int) -> str:
    return code_pb2.Code.Name(code) if code in code_pb2.Code.values() else "UNKNOWN"


@dataclass(frozen=True)
class _Recipe:
    """How an error class is made from the facts that came with it."""

    error_class: type[TidegateError]
    accepted: frozenset[str]
    required: frozenset[str]


def _recipe(error_class: type[TidegateError]) -> _Recipe:
    parameters = inspect.signature(error_class.__init__).parameters.values()
    facts = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    required = frozenset(p.name for p in facts if p.default is p.empty)
    return _Recipe(error_class, frozenset(p.name for p in facts), required)


_BY_REASON = {
    c.reason: _recipe(c)
    for c in vars(errors).values()
    if inspect.isclass(c) and issubclass(c, TidegateError) and c.reason != TidegateError.reason
}

_BY_CODE = {
    c.code: _recipe(c)
    for c in (
        errors.InvalidRequest,
        errors.CapacityError,
        errors.DeadlineExpired,
        errors.Unsupported,
        errors.InternalError,
    )
}
