"""How an error travels: the one place that maps `tidegate.errors` to the wire.

Inside a stream an error is a `tidegate.v1.Error`; a unary call that fails carries the same facts in
its gRPC status, as `google.rpc` details. The text of an exception that nobody expected never leaves
the process: it is logged under an id, and the caller is told the id.

Called by everything in `rpc/`; no other package knows these messages.
"""

from __future__ import annotations

from math import floor

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from tidegate.errors import TidegateError
from tidegate.telemetry.incidents import incident
from tidegate.v1.error_pb2 import Error

DOMAIN = "tidegate"
"""`ErrorInfo.domain`: whose reasons these are."""

MAX_TEXT_BYTES = 1000
"""Longest text of an error, in UTF-8. A status travels in HTTP/2 headers, which peers cap at 8 KiB in
all, and the text is in it twice: in base64, and with three characters for a byte that is not ASCII. Past
the cap the caller would get another error than the one that happened."""

_CODES: dict[str, int] = dict(Code.items())


def to_error(error: TidegateError) -> Error:
    """The message that tells of an error inside a stream."""
    message = Error(code=_CODES[error.code], message=error_text(error), reason=error.reason)
    for name, value in error.facts.items():  # each fact has a field of its name
        setattr(message, name, value)
    if error.retry_after_s is not None:
        message.retry_after.CopyFrom(_duration(error.retry_after_s))
    return message


def to_status(error: TidegateError) -> Status:
    """The status that ends a failed call.

    Returns:
        A status with an `ErrorInfo` (the error's reason, and its facts as metadata) and, where trying
        again later can help, a `RetryInfo`.
    """
    info = ErrorInfo(
        reason=error.reason, domain=DOMAIN, metadata={key: str(value) for key, value in error.facts.items()}
    )
    details = [_packed(info)]
    if error.retry_after_s is not None:
        details.append(_packed(RetryInfo(retry_delay=_duration(error.retry_after_s))))
    return Status(code=_CODES[error.code], message=error_text(error), details=details)


def as_public(error: Exception) -> TidegateError:
    """What the caller may know of an exception: itself if it is ours, otherwise an incident."""
    return error if isinstance(error, TidegateError) else incident(error)


def error_text(error: TidegateError) -> str:
    """The text of an error, cut where it would not fit into a status."""
    text = str(error)
    data = text[: MAX_TEXT_BYTES + 1].encode(errors="replace")
    if len(data) <= MAX_TEXT_BYTES:
        return data.decode()
    return data[: MAX_TEXT_BYTES - len("…".encode())].decode(errors="ignore") + "…"


def _duration(seconds: float) -> Duration:
    whole = floor(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1_000_000_000))


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
