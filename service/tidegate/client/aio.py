"""The client for asyncio: one connection, one stream, any number of sessions.

    async with AsyncClient("127.0.0.1:8001") as client:
        async with client.session("co2-weekly") as session:
            forecast = await session.step(315.7)

All of one client's sessions share a stream, which is opened with the first of them. When it breaks, or
the server is started again, the client connects anew, resumes its sessions and sends again what the
server has lost: a call only takes longer, within its time limit. `RecoveryOptions` says how long it
tries and how many inputs it holds for that.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

from tidegate.client.acks import Acks
from tidegate.client.calling import Caller
from tidegate.client.calls import ModelCalls, SessionCalls, StepAnswer
from tidegate.client.channel import DEFAULT_ADDRESS, ChannelOptions
from tidegate.client.codec import Inputs
from tidegate.client.connection import Connection
from tidegate.client.fleet import Fleet
from tidegate.client.group import SessionGroup
from tidegate.client.opening import MODES, Mode, OpenOptions
from tidegate.client.recovery import RecoveryOptions
from tidegate.client.session import Session
from tidegate.errors import InvalidRequest
from tidegate.v1.model_pb2 import ModelVersion


class AsyncClient:
    """A client of one server; belongs to one event loop. Use it as `async with AsyncClient(...)`."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        options: ChannelOptions | None = None,
        recovery: RecoveryOptions | None = None,
    ) -> None:
        """Remember where to connect; nothing is sent before the first call.

        Args:
            address: The server, `host:port`.
            options: What may be chosen about the connection.
            recovery: What may be chosen about lost connections.
        """
        self.address = address
        self._options = options or ChannelOptions()
        self._recovery = recovery or RecoveryOptions()
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        self._connection = Connection(self.address, self._options, self._recovery)
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
        held_from: int | None = None,
        ack: Acks = "auto",
    ) -> AsyncIterator[Session]:
        """Open a session; leaving the block detaches it, to be resumed by its id.

        While the server cannot be reached, or has no room, this waits for up to `open_timeout_s` of
        `RecoveryOptions`. Leaving waits until the server has every step that was answered.

        Args:
            model: Name of the model.
            session_id: At most 128 bytes of UTF-8; None takes a random one.
            version: Of the model; a session that exists stays with the one it was created with.
            mode: Whether the id must be new.
            next_step: Resume here: the answers before are kept, and the inputs from here on can be sent
                again. None continues at the newest state.
            held_from: The inputs from this earlier step on can be sent again too, so the session may go
                on from any step in [held_from, next_step]: `Session.next_step` says from which.
            ack: Who says that answers are kept, so that the server may forget the state before them:
                asking for the next answer says it of the last ("auto"), or `Session.ack` ("explicit").

        Raises:
            ModelNotFound: No such model or version.
            SessionExists: Mode "create" with an id that is known.
            SessionNotFound: Mode "resume" with an id that is not.
            SessionLost: The server gave the session up, or has no state at such a step.
            CapacityError: The server is full.
            StreamLost: It cannot be reached; or, when leaving, may lack the steps that `unknown` names.
        """
        ids = [secrets.token_hex(8) if session_id is None else session_id]
        connection = self._open_connection
        options = _options(
            model,
            version,
            mode,
            ids,
            None if next_step is None else [next_step],
            None if held_from is None else [held_from],
        )
        group, info = await connection.open(ids, options, ack, is_fleet=False)
        async with _left(connection, group):
            yield Session(Caller(connection, group, info))

    @asynccontextmanager
    async def fleet(
        self,
        model: str,
        session_ids: Sequence[str],
        *,
        version: str = "latest",
        mode: Mode = "create-or-resume",
        next_steps: Sequence[int] | None = None,
        held_from: Sequence[int] | None = None,
        ack: Acks = "auto",
    ) -> AsyncIterator[Fleet]:
        """Open many sessions of one model together; leaving the block detaches them, as `session` does.

        Args:
            model: Name of the model.
            session_ids: At least one; no two alike.
            version: Of the model, for sessions that are created.
            mode: Whether the ids must be new.
            next_steps: Where to resume, per session; None continues at the newest states.
            held_from: Earlier steps from which they may go on, as for `session`; `Fleet.next_steps` says
                from which.
            ack: As for `session`.

        Raises:
            InvalidRequest: No ids, or one given twice.
            FleetError: Some were refused; none was opened.
            ModelMismatch: They are pinned to different versions.
            StreamLost: The server cannot be reached; or, when leaving, may lack the steps that `unknown` names.
        """
        ids = list(session_ids)
        if not ids or len(set(ids)) < len(ids):
            raise InvalidRequest(f"session_ids: expected one or more, no two alike, got {len(ids)}")
        connection = self._open_connection
        options = _options(model, version, mode, ids, next_steps, held_from)
        group, info = await connection.open(ids, options, ack, is_fleet=True)
        async with _left(connection, group):
            yield Fleet(Caller(connection, group, info))

    async def flush(self, *, timeout_s: float | None = None) -> None:
        """Wait until every step of every open session is durable, as `Session.flush` does.

        Raises:
            CallTimedOut: Not so in time; nothing is lost by that.
        """
        await self._open_connection.flush(timeout_s)

    @property
    def _open_connection(self) -> Connection:
        if self._connection is None:
            raise InvalidRequest("client: expected an open one (`with`), got one that is closed")
        return self._connection


@asynccontextmanager
async def _left(connection: Connection, group: SessionGroup) -> AsyncIterator[None]:
    """Leave the sessions at the end; what went wrong inside is more telling than what goes wrong then."""
    try:
        yield
    except BaseException:
        connection.abandon(group)
        raise
    await connection.leave(group, "detach")


def _options(
    model: str,
    version: str,
    mode: Mode,
    ids: Sequence[str],
    next_steps: Sequence[int] | None,
    held_from: Sequence[int] | None,
) -> OpenOptions:
    if mode not in MODES:
        raise InvalidRequest(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    for name, steps in (("next_steps", next_steps), ("held_from", held_from)):
        if steps is not None and len(steps) != len(ids):
            raise InvalidRequest(f"{name}: expected {len(ids)}, one per session, got {len(steps)}")
    if held_from is not None and next_steps is None:
        raise InvalidRequest("held_from: expected next_step with it, got none")
    return OpenOptions(ModelVersion(name=model, version=version), mode, next_steps, held_from)
