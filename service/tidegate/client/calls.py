"""Single calls: what can be asked of models and of sessions by their ids, without a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc.aio

from tidegate.client.codec import Inputs, encode_inputs
from tidegate.client.forecasts import Forecast, read_forecast, write_future
from tidegate.client.inspection import Inspection, read_inspection
from tidegate.client.opening import MODES, Mode
from tidegate.client.session_info import SessionInfo, session_info
from tidegate.client.signature import ModelInfo, model_info
from tidegate.client.single_step import step_settled
from tidegate.client.tensors import read_tensor, write_tensor
from tidegate.client.unary import UnaryCaller
from tidegate.tensor import Array
from tidegate.v1 import model_pb2, session_pb2
from tidegate.v1.model_pb2_grpc import ModelServiceStub
from tidegate.v1.session_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:
    # The generated stubs have these names for type checkers alone.
    from tidegate.v1.model_pb2_grpc import ModelServiceAsyncStub
    from tidegate.v1.session_pb2_grpc import SessionServiceAsyncStub


@dataclass(frozen=True)
class StepAnswer:
    """The answer of a single call that stepped a session.

    Attributes:
        outputs: Every output of the model by name, shape (T, step_shape...).
        next_step: Number of the session's next step.
        durable_step: Steps below are safe in the store.
    """

    outputs: Mapping[str, Array]
    next_step: int
    durable_step: int


class ModelCalls:
    """What can be asked of models; made by the client.

    Every method raises `ModelNotFound` for a model or version that the repository does not have, and
    `StreamLost` when the server cannot be reached; all but `unload` try again for a while before.
    """

    def __init__(self, channel: grpc.aio.Channel, unary: UnaryCaller) -> None:
        self._stub: ModelServiceAsyncStub = ModelServiceStub(channel)
        self._unary = unary

    async def list(self, name: str = "") -> list[ModelInfo]:
        """Every version in the repository, loaded or not; of one model where `name` is given."""
        models, token = [], ""
        while True:
            request = model_pb2.ListModelsRequest(name=name, page_token=token)
            page = await self._unary.repeat(self._stub.ListModels, request)
            models += [model_info(m) for m in page.models]
            token = page.next_page_token
            if not token:
                return models

    async def get(self, name: str, version: str = "latest") -> ModelInfo:
        """One version; by default the newest that is ready."""
        return await self.get_pinned(model_pb2.ModelVersion(name=name, version=version))

    async def get_pinned(self, version: model_pb2.ModelVersion) -> ModelInfo:
        """The version that a session is pinned to; the hash must match where it is set."""
        request = model_pb2.GetModelRequest(version=version)
        return model_info((await self._unary.repeat(self._stub.GetModel, request)).model)

    async def get_ready(self, name: str, version: str = "latest") -> ModelInfo:
        """One version, loaded first where it is not: only then are its inputs and outputs known."""
        info = await self.get(name, version)
        return info if info.state == "ready" else await self.load(name, info.version)

    async def load(self, name: str, version: str = "latest") -> ModelInfo:
        """Load a version, check it and warm it up; loading a loaded version changes nothing.

        Raises:
            PackageError: The package is broken; the text says what does not hold.
        """
        request = model_pb2.LoadModelRequest(version=model_pb2.ModelVersion(name=name, version=version))
        return model_info((await self._unary.repeat(self._stub.LoadModel, request)).model)

    async def unload(self, name: str, version: str) -> None:
        """Unload a version.

        Raises:
            ModelInUse: Sessions in memory need it.
        """
        request = model_pb2.UnloadModelRequest(version=model_pb2.ModelVersion(name=name, version=version))
        await self._unary.once(self._stub.UnloadModel, request)


class SessionCalls:
    """What can be asked of sessions by their ids; made by the client.

    Every method raises `SessionNotFound` for an id that the server does not know, `SessionLost` for one
    that it has given up, and `StreamLost` when it cannot be reached; all but `close`, `import_snapshot`
    and `fork` try again for a while before.
    """

    def __init__(self, channel: grpc.aio.Channel, unary: UnaryCaller, models: ModelCalls) -> None:
        self._stub: SessionServiceAsyncStub = SessionServiceStub(channel)
        self._unary = unary
        self._models = models

    async def get(self, session_id: str) -> SessionInfo:
        """One session."""
        request = session_pb2.GetSessionRequest(session_id=session_id)
        return session_info((await self._unary.repeat(self._stub.GetSession, request)).session)

    async def list(self, model: str = "", *, limit: int | None = None) -> list[SessionInfo]:
        """All sessions, or the first `limit`; of one model where `model` is given."""
        sessions: list[SessionInfo] = []
        token = ""
        while True:
            size = 1000 if limit is None else min(1000, limit - len(sessions))
            request = session_pb2.ListSessionsRequest(model_name=model, page_size=size, page_token=token)
            page = await self._unary.repeat(self._stub.ListSessions, request)
            sessions += [session_info(s) for s in page.sessions]
            token = page.next_page_token
            if not token or len(sessions) == limit:
                return sessions

    async def close(self, session_id: str) -> int:
        """End a session: its state is deleted, and a stream that holds it is told.

        Returns:
            Number of steps that it had applied.
        """
        request = session_pb2.CloseSessionRequest(session_id=session_id)
        return (await self._unary.once(self._stub.CloseSession, request)).next_step

    async def step(
        self,
        session_id: str,
        inputs: Inputs,
        *,
        first_step: int,
        model: str = "",
        version: str = "latest",
        mode: Mode = "resume",
        timeout_s: float | None = None,
    ) -> StepAnswer:
        """Step a session without a stream.

        Args:
            session_id: The session.
            inputs: The model's inputs, shape (T, step_shape...) each.
            first_step: Number of the first of these steps.
            model: Needed where the session may have to be created.
            version: Of the model, for a session that is created.
            mode: Whether the id must be new.
            timeout_s: Longest wait, in seconds; None waits.

        Raises:
            InvalidRequest: Wrong type or shape, or a value that the model does not take.
            WrongStep: `first_step` is not the session's next step.
            SessionBusy: A stream holds the session.
            AnswerLost: The steps were applied, their answer was lost with the connection.
            StreamLost: The steps that its `unknown` names may or may not have been applied: `get` tells.
            DeadlineExpired: No answer in time; as before.
        """
        info = await self._model_of(session_id, model, version)
        arrays = encode_inputs(info.inputs, inputs, {"T": None})
        request = session_pb2.StepSessionRequest(
            session_id=session_id,
            model=model_pb2.ModelVersion(name=info.name, version=info.version) if model else None,
            mode=MODES[mode],
            first_step=first_step,
            inputs=[write_tensor(spec, array) for spec, array in zip(info.inputs, arrays, strict=True)],
        )
        answer = await step_settled(self._unary, self._stub.StepSession, request, len(arrays[0]), timeout_s)
        outputs = {tensor.name: read_tensor(tensor) for tensor in answer.outputs}
        return StepAnswer(outputs, answer.next_step, answer.durable_step)

    async def inspect(self, session_id: str, inputs: Inputs, *, timeout_s: float | None = None) -> Inspection:
        """See the gates and memories of every recurrent layer in some steps, from the live state on.

        The session does not advance, and a stream may hold it.

        Args:
            session_id: The session.
            inputs: The model's inputs, shape (T, step_shape...) each.
            timeout_s: Longest wait, in seconds; None waits.

        Raises:
            InvalidRequest: Wrong type or shape, or a value that the model does not take.
            MessageTooLarge: More steps than the server shows at a time.
            Unsupported: The server cannot read the graph of the model; says why.
            DeadlineExpired: No answer in time.
        """
        info = await self._model_of(session_id, "", "")
        arrays = encode_inputs(info.inputs, inputs, {"T": None})
        request = session_pb2.InspectSessionRequest(
            session_id=session_id,
            inputs=[write_tensor(spec, array) for spec, array in zip(info.inputs, arrays, strict=True)],
        )
        return read_inspection(await self._unary.repeat(self._stub.InspectSession, request, timeout_s))

    async def forecast(
        self, session_id: str, num_steps: int, future: Inputs | None = None, *, timeout_s: float | None = None
    ) -> Forecast:
        """Forecast the next steps of a session, which does not advance; a stream may hold it.

        Args:
            session_id: The session.
            num_steps: How many.
            future: Inputs that are known ahead, shape (T, step_shape...) each, T at most `num_steps`. In
                elements that the model feeds back, NaN means "as predicted".
            timeout_s: Longest wait, in seconds; None waits.

        Raises:
            InvalidRequest: Inputs are needed that `future` lacks, by name; or steps past the model's horizon.
            SessionNotStarted: Nothing can be said before the first step.
            Unsupported: The package does not say how its model forecasts.
        """
        specs = (await self._model_of(session_id, "", "")).inputs if future is not None else ()
        request = session_pb2.ForecastSessionRequest(
            session_id=session_id,
            num_steps=num_steps,
            future_inputs=[] if future is None else write_future(specs, future),
        )
        return read_forecast(await self._unary.repeat(self._stub.ForecastSession, request, timeout_s))

    async def export_snapshot(self, session_id: str) -> bytes:
        """Copy a session's state into bytes that any server with the same model version takes.

        The session goes on, and a stream may hold it.

        Raises:
            MessageTooLarge: The state does not fit into one message.
        """
        request = session_pb2.ExportSessionRequest(session_id=session_id)
        return (await self._unary.repeat(self._stub.ExportSession, request)).snapshot

    async def import_snapshot(self, snapshot: bytes, session_id: str = "") -> SessionInfo:
        """Begin a session with an exported state; it is stored when this returns.

        Args:
            snapshot: As `export_snapshot` gave it.
            session_id: Of the new session; "" for the id in the snapshot.

        Raises:
            InvalidRequest: This is no snapshot, or a damaged one.
            ModelNotFound: The server does not have the model version.
            ModelMismatch: It has another one under the same number.
            SessionExists: A session has this id; after a lost call it may be the new one.
            StoreUnavailable: It cannot be stored; nothing has begun.
        """
        request = session_pb2.ImportSessionRequest(session_id=session_id, snapshot=snapshot)
        return session_info((await self._unary.once(self._stub.ImportSession, request)).session)

    async def fork(self, session_id: str, new_session_id: str) -> SessionInfo:
        """Begin a session with the state that another has now; it is stored when this returns.

        The other one is as it was, and a stream may hold it.

        Raises:
            SessionExists: A session has the new id; after a lost call it may be the new one.
            StoreUnavailable: It cannot be stored; nothing has begun.
        """
        request = session_pb2.ForkSessionRequest(session_id=session_id, new_session_id=new_session_id)
        return session_info((await self._unary.once(self._stub.ForkSession, request)).session)

    async def _model_of(self, session_id: str, model: str, version: str) -> ModelInfo:
        if not model:
            session = await self.get(session_id)
            model, version = session.model, session.version
        return await self._models.get_ready(model, version)
