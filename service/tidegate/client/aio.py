"""The client for asyncio: one connection, one stream, any number of sessions.

    async with AsyncClient("127.0.0.1:8001") as client:
        async with client.session("co2-weekly") as session:
            forecast = await session.step(315.7)

All of one client's sessions share a stream, which is opened with the first of them. When it breaks,
its sessions end with `StreamLost`; a session opened afterwards gets a new stream.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Self

import grpc.aio

from tidegate.client.calls import ModelCalls, SessionCalls, StepAnswer
from tidegate.client.channel import DEFAULT_ADDRESS, ChannelOptions, connect
from tidegate.client.fleet import Fleet
from tidegate.client.group import SessionGroup
from tidegate.client.opening import MODES, Mode, OpenOptions
from tidegate.client.session import Inputs, Session
from tidegate.client.signature import ModelInfo
from tidegate.client.stream import SessionStream
from tidegate.errors import InvalidRequest, TidegateError
from tidegate.v1.model_pb2 import ModelVersion
from tidegate.v1.session_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:
    # The generated stubs have these names for type checkers alone.
    from tidegate.v1.session_pb2_grpc import SessionServiceAsyncStub


class AsyncClient:
    """A client of one server; belongs to one event loop. Use it as `async with AsyncClient(...)`."""

    def __init__(self, address: str = DEFAULT_ADDRESS, options: ChannelOptions | None = None) -> None:
        """Remember where to connect; nothing is sent before the first call.

        Args:
            address: The server, `host:port`.
            options: What may be chosen about the connection.
        """
        self.address = address
        self._options = options or ChannelOptions()
        self._connection: _Connection | None = None

    async def __aenter__(self) -> Self:
        self._connection = _Connection(self.address, self._options)
        return self

    async def __aexit__(self, *_: object) -> None:
        connection, self._connection = self._open_connection, None
        await connection.close()

    @property
    def models(self) -> ModelCalls:
        """What can be asked of models."""
        return self._open_connection.models

    @property
    def sessions(self) -> SessionCalls:
        """What can be asked of sessions by their ids."""
        return self._open_connection.sessions

    async def step_session(
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
        """Step a session by a single call, as `SessionCalls.step` does; for one that speaks rarely."""
        return await self.sessions.step(
            session_id,
            inputs,
            first_step=first_step,
            model=model,
            version=version,
            mode=mode,
            timeout_s=timeout_s,
        )

    @asynccontextmanager
    async def session(
        self,
        model: str,
        session_id: str | None = None,
        *,
        version: str = "latest",
        mode: Mode = "create-or-resume",
        next_step: int | None = None,
    ) -> AsyncIterator[Session]:
        """Open a session; leaving the block detaches it, to be resumed by its id.

        Args:
            model: Name of the model.
            session_id: At most 128 bytes of UTF-8; None takes a random one.
            version: Of the model; a session that exists stays with the one it was created with.
            mode: Whether the id must be new.
            next_step: Resume here: the answers before are kept, and the inputs from here on can be sent
                again. None continues at the newest state.

        Raises:
            ModelNotFound: No such model or version.
            SessionExists: Mode "create" with an id that is known.
            SessionNotFound: Mode "resume" with an id that is not.
            SessionLost: The server gave the session up, or has no state at `next_step`.
            CapacityError: The server is full.
            ConnectionLost: It cannot be reached.
        """
        ids = [secrets.token_hex(8) if session_id is None else session_id]
        next_steps = None if next_step is None else [next_step]
        connection = self._open_connection
        group, info = await connection.open(
            ids, ModelVersion(name=model, version=version), mode, next_steps, is_fleet=False
        )
        async with _left(group):
            yield Session(group, info)

    @asynccontextmanager
    async def fleet(
        self,
        model: str,
        session_ids: Sequence[str],
        *,
        version: str = "latest",
        mode: Mode = "create-or-resume",
        next_steps: Sequence[int] | None = None,
    ) -> AsyncIterator[Fleet]:
        """Open many sessions of one model together; leaving the block detaches them.

        Args:
            model: Name of the model.
            session_ids: At least one; no two alike.
            version: Of the model, for sessions that are created.
            mode: Whether the ids must be new.
            next_steps: Where to resume, per session; None continues at the newest states.

        Raises:
            InvalidRequest: No ids, or one given twice.
            FleetError: Some were refused; none was opened.
            ModelMismatch: They are pinned to different versions.
            ConnectionLost: The server cannot be reached.
        """
        ids = list(session_ids)
        if not ids or len(set(ids)) < len(ids):
            raise InvalidRequest(f"session_ids: expected one or more, no two alike, got {len(ids)}")
        connection = self._open_connection
        group, info = await connection.open(
            ids, ModelVersion(name=model, version=version), mode, next_steps, is_fleet=True
        )
        async with _left(group):
            yield Fleet(group, info)

    @property
    def _open_connection(self) -> _Connection:
        if self._connection is None:
            raise InvalidRequest("client: expected an open one (`with`), got one that is closed")
        return self._connection


class _Connection:
    """The channel of a client, and the stream that its sessions share."""

    def __init__(self, address: str, options: ChannelOptions) -> None:
        self._address = address
        self._channel: grpc.aio.Channel = connect(address, options)
        self._stub: SessionServiceAsyncStub = SessionServiceStub(self._channel)
        self.models = ModelCalls(self._channel, address)
        self.sessions = SessionCalls(self._channel, address, self.models)
        self._client_instance = secrets.token_bytes(16)
        self._attempt = 0
        self._stream: SessionStream | None = None
        self._infos: dict[str, ModelInfo] = {}

    async def open(
        self,
        ids: Sequence[str],
        model: ModelVersion,
        mode: Mode,
        next_steps: Sequence[int] | None,
        *,
        is_fleet: bool,
    ) -> tuple[SessionGroup, ModelInfo]:
        if mode not in MODES:
            raise InvalidRequest(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
        if next_steps is not None and len(next_steps) != len(ids):
            raise InvalidRequest(f"next_steps: expected {len(ids)}, one per session, got {len(next_steps)}")
        group = SessionGroup(ids, await self._live_stream(), is_fleet)
        options = OpenOptions(model, mode, self._client_instance, self._attempt, next_steps)
        try:
            return group, await self._info(await group.open(options))
        except BaseException:
            with suppress(TidegateError):
                await group.leave("detach")
            raise

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()
        await self._channel.close()

    async def _live_stream(self) -> SessionStream:
        if self._stream is not None and self._stream.failure is None:
            return self._stream
        self._attempt += 1
        broken, self._stream = self._stream, SessionStream(self._stub, self._address)
        if broken is not None:
            await broken.aclose()
        return self._stream

    async def _info(self, version: ModelVersion) -> ModelInfo:
        key = f"{version.name}/{version.version}/{version.sha256}"
        if key not in self._infos:
            self._infos[key] = await self.models.get_pinned(version)
        return self._infos[key]


@asynccontextmanager
async def _left(group: SessionGroup) -> AsyncIterator[None]:
    """Leave the sessions at the end; what went wrong inside is more telling than what goes wrong then."""
    try:
        yield
    except BaseException:
        with suppress(TidegateError):
            await group.leave("detach")
        raise
    await group.leave("detach")
