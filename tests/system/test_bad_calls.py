"""Bad single calls get a clear status; the session that they name stays as it was.

To add a case, add one entry to `CALLS`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import aio
from grpc_status import rpc_status

from support.ids import new_id
from support.raw_stream import alone
from tidegate.v1 import model_pb2, model_pb2_grpc, session_pb2, session_pb2_grpc
from tidegate.v1.model_pb2 import DATA_TYPE_FLOAT64, ModelVersion
from tidegate.v1.session_pb2 import InspectSessionRequest, StepSessionRequest, Tensor

INVALID = ("INVALID_ARGUMENT", "INVALID_REQUEST")
NO_SESSION = ("NOT_FOUND", "SESSION_NOT_FOUND")
NO_MODEL = ("NOT_FOUND", "MODEL_NOT_FOUND")
WRONG_STEP = ("FAILED_PRECONDITION", "WRONG_STEP")
TOO_LARGE = ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
MISMATCH = ("FAILED_PRECONDITION", "MODEL_MISMATCH")

X = np.random.default_rng(1).normal(0, 1, (4, 3)).astype(np.float32)
"""The session's inputs; two steps come before the bad call."""

THIRD = Tensor(name="x", shape=[1, 3], values=X[2].tolist())


def step(**fields: Any) -> StepSessionRequest:
    """A good third step of the session, but for `fields`."""
    return StepSessionRequest(**({"first_step": 2, "inputs": [THIRD]} | fields))


def tensor(**fields: Any) -> StepSessionRequest:
    """A third step with another tensor."""
    return step(inputs=[Tensor(**fields)])


def unknown(**fields: Any) -> ModelVersion:
    return ModelVersion(**({"name": "lstm"} | fields))


CALLS: dict[str, tuple[str, Message, tuple[str, str], str]] = {
    "no step number": (
        "StepSession",
        StepSessionRequest(inputs=[THIRD]),
        INVALID,
        "first_step: expected the number of the first of these steps, got none",
    ),
    "a duplicate step": ("StepSession", step(first_step=1), WRONG_STEP, "expected 2, got 1: step 1 had been"),
    "a gap": ("StepSession", step(first_step=5), WRONG_STEP, "expected 2, got 5: step 5 would leave a gap"),
    "a step number past all bounds": ("StepSession", step(first_step=2**63), INVALID, f"got {2**63}"),
    "overlapping steps": (
        "StepSession",
        step(first_step=1, inputs=[Tensor(values=X[1:3].ravel().tolist())]),
        WRONG_STEP,
        "expected 2, got 1: steps 1 to 2 begin before",
    ),
    "another element type": (
        "StepSession",
        tensor(data_type=DATA_TYPE_FLOAT64, raw=bytes(24)),
        INVALID,
        "'x' data_type: expected float32, got DATA_TYPE_FLOAT64",
    ),
    "an element type that is none": (
        "StepSession",
        tensor(data_type=77, raw=bytes(12)),
        INVALID,
        "data_type: expected float32, got 77",
    ),
    "another shape": (
        "StepSession",
        tensor(shape=[3], values=[1, 2, 3]),
        INVALID,
        "'x' shape: expected [1, 3], got [3]",
    ),
    "one feature too few": (
        "StepSession",
        tensor(values=[1, 2]),
        INVALID,
        "'x': expected a multiple of 3 elements, got 2",
    ),
    "half an element": (
        "StepSession",
        tensor(raw=bytes(11)),
        INVALID,
        "'x' raw: expected a multiple of 4 bytes (float32), got 11",
    ),
    "numbers and bytes": (
        "StepSession",
        tensor(raw=bytes(12), values=[1, 2, 3]),
        INVALID,
        "expected either raw or values",
    ),
    "neither numbers nor bytes": (
        "StepSession",
        tensor(name="x"),
        INVALID,
        "expected either raw or values",
    ),
    "NaN": ("StepSession", tensor(values=[1, 2, np.nan]), INVALID, "'x'[2] of step 0 of the row: expected a finite"),
    "infinity": ("StepSession", tensor(values=[1, np.inf, 3]), INVALID, "expected a finite value, got inf"),
    "a number that float32 cannot hold": ("StepSession", tensor(values=[1, 1e300, 3]), INVALID, "got inf"),
    "an unknown input": ("StepSession", tensor(name="z", values=[1]), INVALID, "inputs: expected x, got z"),
    "no input": ("StepSession", step(inputs=[]), INVALID, "inputs: expected x, got none"),
    "an unknown output selection": ("StepSession", step(outputs=7), INVALID, "expected ALL, LAST or NONE, got 7"),
    "an unknown mode": ("StepSession", step(mode=9), INVALID, "mode: expected CREATE, RESUME"),
    "another model": (
        "StepSession",
        step(model=ModelVersion(name="decay")),
        MISMATCH,
        "model.name: the session is pinned to 'lstm', got 'decay'",
    ),
    "another version": ("StepSession", step(model=unknown(version="2")), MISMATCH, "pinned to '1', got '2'"),
    "another hash": ("StepSession", step(model=unknown(sha256="ab")), MISMATCH, "model.sha256: the session is"),
    "create what exists": (
        "StepSession",
        step(mode="OPEN_MODE_CREATE", model=unknown()),
        ("ALREADY_EXISTS", "SESSION_EXISTS"),
        "exists, at step 2",
    ),
    "step: an unknown session": (
        "StepSession",
        step(session_id="nobody"),
        NO_SESSION,
        "no session 'nobody'",
    ),
    "more steps than a frame may have": (
        "StepSession",
        tensor(raw=bytes(131_073 * 12)),
        TOO_LARGE,
        "inputs: expected at most 131072 steps, got 131073",
    ),
    "step: no session id": (
        "StepSession",
        step(session_id=" " * 129),
        INVALID,
        "session_id: expected 1 to 128 bytes of UTF-8, got 129",
    ),
    "create of no model": (
        "StepSession",
        step(session_id="nobody", mode="OPEN_MODE_CREATE"),
        INVALID,
        "model.name: expected the name of a model, got an empty one",
    ),
    "create of an unknown model": (
        "StepSession",
        step(session_id="nobody", mode="OPEN_MODE_CREATE", model=ModelVersion(name="tides")),
        NO_MODEL,
        "no model 'tides'; the repository has: decay, lstm",
    ),
    "inspect: an unknown session": ("InspectSession", InspectSessionRequest(session_id="nobody"), NO_SESSION, "'nobody'"),
    "inspect: no session id": ("InspectSession", InspectSessionRequest(inputs=[THIRD]), INVALID, "session_id: expected 1 to 128 bytes of UTF-8, got 0"),
    "get: an unknown session": ("GetSession", session_pb2.GetSessionRequest(session_id="nobody"), NO_SESSION, "'nobody'"),
    "close: an unknown session": ("CloseSession", session_pb2.CloseSessionRequest(session_id="nobody"), NO_SESSION, "'nobody'"),
    "get: an id of megabytes": ("GetSession", session_pb2.GetSessionRequest(session_id="漢" * 10**6), INVALID, "expected 1 to 128 bytes of UTF-8, got 3000000"),
    "close: an id of megabytes": ("CloseSession", session_pb2.CloseSessionRequest(session_id="漢" * 10**6), INVALID, "got 3000000"),
    "load: a name of megabytes": ("LoadModel", model_pb2.LoadModelRequest(version=ModelVersion(name="漢" * 10**6)), INVALID, "model.name: expected at most 255 characters, got 1000000"),
    "load: the longest name": ("LoadModel", model_pb2.LoadModelRequest(version=ModelVersion(name="\U0001f600" * 255)), NO_MODEL, "no model"),
    "get: an unknown model": ("GetModel", model_pb2.GetModelRequest(version=ModelVersion(name="tides")), NO_MODEL, "'tides'"),
    "get: an unknown version": ("GetModel", model_pb2.GetModelRequest(version=unknown(version="9")), NO_MODEL, "'9'"),
    "load: an unknown model": ("LoadModel", model_pb2.LoadModelRequest(version=ModelVersion(name="tides")), NO_MODEL, "'tides'"),
    "load: an unknown version": ("LoadModel", model_pb2.LoadModelRequest(version=unknown(version="9")), NO_MODEL, "'9'"),
    "load: a path": ("LoadModel", model_pb2.LoadModelRequest(version=unknown(version="../1")), NO_MODEL, "'../1'"),
    "unload: an unknown model": ("UnloadModel", model_pb2.UnloadModelRequest(version=ModelVersion(name="tides")), NO_MODEL, "'tides'"),
    "list: a page token of nobody": ("ListModels", model_pb2.ListModelsRequest(page_token="x"), INVALID, "page_token: expected one of an earlier answer, got 'x'"),
    "list: a page token past all bounds": ("ListModels", model_pb2.ListModelsRequest(page_token="9" * 5000), INVALID, "page_token: expected one of an earlier answer"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
async def test_a_bad_call_gets_a_clear_status_and_changes_nothing(channel: aio.Channel, name: str) -> None:
    method, request, expected, text = CALLS[name]
    answers = await alone(channel, "lstm", new_id("undisturbed"), X)
    session_id = new_id("victim")
    sessions = session_pb2_grpc.SessionServiceStub(channel)
    begin = step(
        session_id=session_id,
        first_step=0,
        mode="OPEN_MODE_CREATE",
        model=ModelVersion(name="lstm"),
        inputs=[Tensor(values=X[:2].ravel().tolist())],
    )
    await sessions.StepSession(begin)
    if isinstance(request, StepSessionRequest) and not request.session_id:
        request = StepSessionRequest.FromString(request.SerializeToString())
        request.session_id = session_id

    with pytest.raises(aio.AioRpcError) as caught:
        await call(channel, method, request)
    after = await sessions.StepSession(
        step(session_id=session_id, inputs=[Tensor(values=X[2:].ravel().tolist())])
    )

    assert (caught.value.code().name, reason_of(caught.value)) == expected, caught.value.details()
    assert text in (caught.value.details() or "")
    assert after.next_step == len(X)
    assert np.array(after.outputs[0].values, np.float32).tobytes() == answers[2:].tobytes()


async def call(channel: aio.Channel, method: str, request: Message) -> Message:
    """Call a method of either service by its name."""
    for stub in (session_pb2_grpc.SessionServiceStub(channel), model_pb2_grpc.ModelServiceStub(channel)):
        if hasattr(stub, method):
            reply: Message = await getattr(stub, method)(request)
            return reply
    raise AssertionError(method)


INSPECTIONS: dict[str, tuple[Tensor | None, tuple[str, str], str]] = {
    "no input": (None, INVALID, "inputs: expected x, got none"),
    "another element type": (
        Tensor(data_type=DATA_TYPE_FLOAT64, raw=bytes(24)),
        INVALID,
        "'x' data_type: expected float32, got DATA_TYPE_FLOAT64",
    ),
    "another shape": (Tensor(shape=[3], values=[1, 2, 3]), INVALID, "'x' shape: expected [1, 3], got [3]"),
    "NaN": (Tensor(values=[1, 2, np.nan]), INVALID, "'x'[2] of step 0 of the row: expected a finite"),
    "too many steps": (Tensor(raw=bytes(131_073 * 12)), TOO_LARGE, "inputs: expected at most 131072 steps"),
}


@pytest.mark.parametrize("name", INSPECTIONS)
async def test_a_bad_look_at_a_session_gets_a_clear_status(channel: aio.Channel, name: str) -> None:
    tensor_, expected, text = INSPECTIONS[name]
    session_id = new_id()
    begin = step(session_id=session_id, first_step=0, mode="OPEN_MODE_CREATE", model=unknown())
    await call(channel, "StepSession", begin)
    inputs = [] if tensor_ is None else [tensor_]

    with pytest.raises(aio.AioRpcError) as caught:
        await call(channel, "InspectSession", InspectSessionRequest(session_id=session_id, inputs=inputs))

    assert (caught.value.code().name, reason_of(caught.value)) == expected, caught.value.details()
    assert text in (caught.value.details() or "")


def reason_of(error: aio.AioRpcError) -> str:
    """The reason in the status' details, for programs."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)


async def test_a_wrong_step_tells_the_expected_one_in_the_details(channel: aio.Channel) -> None:
    request = step(
        session_id=new_id(), first_step=4, mode="OPEN_MODE_CREATE", model=ModelVersion(name="lstm")
    )

    with pytest.raises(aio.AioRpcError) as caught:
        await call(channel, "StepSession", request)

    status = rpc_status.from_call(caught.value)
    assert status is not None
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert dict(info.metadata) == {"expected_step": "0"}


async def test_bytes_that_are_no_message_are_the_callers_mistake(channel: aio.Channel) -> None:
    method = channel.unary_unary("/tidegate.v1.SessionService/GetSession")

    with pytest.raises(aio.AioRpcError) as caught:
        await method(b"\xff\xff")

    assert (caught.value.code().name, reason_of(caught.value)) == INVALID
    assert "GetSessionRequest" in (caught.value.details() or "")


async def test_a_refused_first_step_does_not_create_the_session(channel: aio.Channel) -> None:
    session_id = new_id()
    request = step(
        session_id=session_id, first_step=3, mode="OPEN_MODE_CREATE", model=ModelVersion(name="lstm")
    )

    with pytest.raises(aio.AioRpcError):
        await call(channel, "StepSession", request)
    with pytest.raises(aio.AioRpcError) as caught:
        await call(channel, "GetSession", session_pb2.GetSessionRequest(session_id=session_id))

    assert reason_of(caught.value) == "SESSION_NOT_FOUND"
