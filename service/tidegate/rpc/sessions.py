"""`SessionService`: the stream, and single calls on a session by its id.

Each method converts, delegates, converts; the interceptor turns errors into statuses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from grpc import aio

from tidegate.errors import InvalidRequest
from tidegate.protocol.lifecycle import Condition
from tidegate.protocol.resume import NO_EPOCH
from tidegate.rpc import convert, tensors
from tidegate.rpc.streaming import Connection, Context
from tidegate.session.forecasting import Forecaster
from tidegate.session.inspecting import Inspector
from tidegate.session.manager import SessionManager
from tidegate.session.open_request import OpenMode, OpenRequest
from tidegate.session.single import SessionView, SingleCalls
from tidegate.session.snapshots import Snapshots
from tidegate.telemetry.metrics import Metrics
from tidegate.v1 import session_pb2 as pb
from tidegate.v1 import session_pb2_grpc, stream_pb2

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

UnaryContext = aio.ServicerContext[Any, Any]

_CONDITIONS = {
    Condition.ATTACHED: pb.SESSION_CONDITION_ATTACHED,
    Condition.DETACHED: pb.SESSION_CONDITION_DETACHED,
    Condition.PASSIVATED: pb.SESSION_CONDITION_PASSIVATED,
}


class SessionServicer(session_pb2_grpc.SessionServiceServicer):
    """The service on top of one session manager."""

    def __init__(self, manager: SessionManager, metrics: Metrics) -> None:
        self._manager = manager
        self._calls = SingleCalls(manager)
        self._forecaster = Forecaster(manager)
        self._inspector = Inspector(manager)
        self._snapshots = Snapshots(manager)
        self._metrics = metrics
        self._connections: set[Connection] = set()

    async def Stream(  # type: ignore[override]  # a coroutine that reads and writes beats a generator
        self, request_iterator: AsyncIterator[stream_pb2.StreamRequest], context: Context
    ) -> None:
        """Serve one stream."""
        connection = Connection(self._manager, self._metrics, context)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def drain(self) -> None:
        """End every stream once what it sent is answered."""
        for connection in self._connections:
            connection.drain()

    async def StepSession(
        self, request: pb.StepSessionRequest, context: UnaryContext
    ) -> pb.StepSessionResponse:
        """Step a session that no stream holds, creating it if the mode says so."""
        if not request.HasField("first_step"):
            raise InvalidRequest("first_step: expected the number of the first of these steps, got none")
        first = int(convert.step_array("first_step", [request.first_step])[0])
        selection = convert.output_selection(request.outputs)
        answer = await self._calls.step(
            _which_session(request),
            first,
            lambda manifest: tensors.read_inputs(manifest, request.inputs),
            selection,
        )
        return pb.StepSessionResponse(
            next_step=answer.next_step,
            durable_step=answer.durable_step,
            outputs=tensors.write_outputs(answer.manifest, answer.outputs),
            model=convert.model_version(answer.manifest),
        )

    async def GetSession(self, request: pb.GetSessionRequest, context: UnaryContext) -> pb.GetSessionResponse:
        """Look at one session."""
        return pb.GetSessionResponse(session=_session(await self._calls.view(request.session_id)))

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: UnaryContext
    ) -> pb.ListSessionsResponse:
        """A page of sessions, in order of their ids; the page token is the last id."""
        size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        views, more = await self._calls.page(request.model_name, request.page_token, size)
        return pb.ListSessionsResponse(
            sessions=[_session(v) for v in views],
            next_page_token=views[-1].session_id if more and views else "",
        )

    async def CloseSession(
        self, request: pb.CloseSessionRequest, context: UnaryContext
    ) -> pb.CloseSessionResponse:
        """End a session."""
        return pb.CloseSessionResponse(next_step=await self._manager.end_session(request.session_id))

    async def ForkSession(
        self, request: pb.ForkSessionRequest, context: UnaryContext
    ) -> pb.ForkSessionResponse:
        """Begin a session with the state of another."""
        view = await self._snapshots.fork(request.session_id, request.new_session_id)
        return pb.ForkSessionResponse(session=_session(view))

    async def ExportSession(
        self, request: pb.ExportSessionRequest, context: UnaryContext
    ) -> pb.ExportSessionResponse:
        """Copy the state of a session into a snapshot."""
        return pb.ExportSessionResponse(snapshot=await self._snapshots.export(request.session_id))

    async def ImportSession(
        self, request: pb.ImportSessionRequest, context: UnaryContext
    ) -> pb.ImportSessionResponse:
        """Begin a session with the state of a snapshot."""
        view = await self._snapshots.restore(request.snapshot, request.session_id)
        return pb.ImportSessionResponse(session=_session(view))

    async def ForecastSession(
        self, request: pb.ForecastSessionRequest, context: UnaryContext
    ) -> pb.ForecastSessionResponse:
        """Roll the next steps from the live state of a session, which does not advance."""
        model = await self._manager.model_of(request.session_id)
        future = tensors.read_future(model.manifest, request.future_inputs)
        made = await self._forecaster.forecast(request.session_id, model, request.num_steps, future)
        return pb.ForecastSessionResponse(
            next_step=made.next_step,
            horizon_steps=made.horizon_steps,
            outputs=[tensors.write_tensor(spec, values) for spec, values in made.outputs],
            inputs=[tensors.write_tensor(spec, values) for spec, values in made.inputs],
        )

    async def InspectSession(
        self, request: pb.InspectSessionRequest, context: UnaryContext
    ) -> pb.InspectSessionResponse:
        """Show what the recurrent layers would do in some steps; the session does not go on."""
        model = await self._manager.model_of(request.session_id)
        inputs = tensors.read_inputs(model.manifest, request.inputs)
        seen = await self._inspector.inspect(request.session_id, model, inputs)
        return pb.InspectSessionResponse(
            first_step=seen.first_step,
            layers=[tensors.write_trace(i, layer) for i, layer in enumerate(seen.layers)],
        )


def _which_session(request: pb.StepSessionRequest) -> OpenRequest:
    return OpenRequest(
        model=request.model.name,
        version=request.model.version,
        sha256=request.model.sha256,
        mode=convert.open_mode(request.mode or OpenMode.RESUME),
        session_ids=[request.session_id],
        have=[None],
        held_from=[None],
        epochs=[NO_EPOCH],
        client_instance=b"",
        attempt=0,
    )


def _session(view: SessionView) -> pb.Session:
    return pb.Session(
        session_id=view.session_id,
        model=convert.model_version(view.model),
        condition=_CONDITIONS[view.condition],
        next_step=view.next_step,
        durable_step=view.durable_step,
        last_used_at=convert.timestamp(view.last_used_s),
    )
