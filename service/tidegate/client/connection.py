"""The connection of a client: its channel, the stream that its sessions share, and how it comes back.

One task keeps the stream. When it ends for a reason that may pass, the task waits a little, longer each
time, opens a new one and attaches all groups of sessions to it. Any other reason means that the two
sides do not understand each other: then every session is told, and the next one opened gets a new
stream.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from tidegate.client import leaving
from tidegate.client.acks import Acks
from tidegate.client.attaching import Attachment
from tidegate.client.budget import InputBudget
from tidegate.client.calls import ModelCalls, SessionCalls
from tidegate.client.channel import ChannelOptions, connect
from tidegate.client.errors import CallTimedOut, StreamLost, heals
from tidegate.client.flushing import flush
from tidegate.client.group import LEFT, SessionGroup
from tidegate.client.opening import OpenOptions
from tidegate.client.recovery import RecoveryOptions, delays_s, leave_alone_s
from tidegate.client.signature import ModelInfo
from tidegate.client.stream import SessionStream
from tidegate.client.unary import UnaryCaller
from tidegate.errors import CapacityError, InternalError, InvalidRequest, ModelMismatch, TidegateError
from tidegate.v1.model_pb2 import ModelVersion
from tidegate.v1.session_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:
    # The generated stubs have these names for type checkers alone.
    from tidegate.v1.session_pb2_grpc import SessionServiceAsyncStub


class Connection:
    """What a client has while it is open; belongs to one event loop.

    Attributes:
        models: What can be asked of models.
        sessions: What can be asked of sessions by their ids.
        recovery: What is done about lost connections.
        groups: The sessions that are open.
    """

    def __init__(self, address: str, options: ChannelOptions, recovery: RecoveryOptions) -> None:
        self.recovery = recovery
        self.groups: set[SessionGroup] = set()
        self._address = address
        self._channel: grpc.aio.Channel = connect(address, options)
        self._stub: SessionServiceAsyncStub = SessionServiceStub(self._channel)
        unary = UnaryCaller(address, recovery)
        self.models = ModelCalls(self._channel, unary)
        self.sessions = SessionCalls(self._channel, unary, self.models)
        self._budget = InputBudget(recovery.max_held_bytes)
        self._client_instance = secrets.token_bytes(16)
        self._attempt = 0
        self._stream: SessionStream | None = None
        self._failure: TidegateError | None = None
        self._attaching: dict[SessionGroup, asyncio.Task[None]] = {}
        self._is_wanted = asyncio.Event()
        self._infos: dict[str, ModelInfo] = {}
        self._keeper = asyncio.create_task(self._keep(), name="tidegate connection")

    async def open(
        self, ids: list[str], options: OpenOptions, acks: Acks, *, is_fleet: bool
    ) -> tuple[SessionGroup, ModelInfo]:
        """Open sessions: all of them, or none.

        Raises:
            TidegateError: For a single one, why it was refused.
            FleetError: Some ids were refused; the others were given back.
            ModelMismatch: The sessions are pinned to different versions.
            StreamLost: The server cannot be reached.
        """
        group = SessionGroup(ids, options, self._budget, self._address, acks=acks, is_fleet=is_fleet)
        self.groups.add(group)
        self._is_wanted.set()
        if self._stream is not None and self._stream.failure is None:
            self._attach(group, self._stream)
        try:
            async with asyncio.timeout(self.recovery.open_timeout_s):
                await group.ready
            return group, await self._info(_one_version(group))
        except TimeoutError:
            self.abandon(group)
            raise self._no_answer(group) from None
        except BaseException:
            self.abandon(group)
            raise

    async def leave(self, group: SessionGroup, mode: leaving.LeaveMode) -> None:
        """Give sessions back; see `leaving.leave`."""
        try:
            await leaving.leave(group, mode)
        finally:
            self._forget(group)

    async def flush(self, timeout_s: float | None) -> None:
        """Wait until every step of every session is durable; see `flushing.flush`.

        Raises:
            CallTimedOut: Not so in time; its `retry` waits for all of them.
            TidegateError: A session is lost.
        """
        groups = list(self.groups)
        flushes = [flush(group, timeout_s) for group in groups]
        outcomes = await asyncio.gather(*flushes, return_exceptions=True)
        for group, error in zip(groups, outcomes, strict=True):
            if isinstance(error, CallTimedOut):
                raise CallTimedOut(str(error), taken=True, step=error.step, again=self.flush) from None
            if error is not None and not group.is_left:
                raise error

    async def close(self) -> None:
        """End the stream, and every session that is still open."""
        self._keeper.cancel()
        error = StreamLost("the client was closed", address=self._address, grpc_code="CANCELLED")
        for group in list(self.groups):
            self._drop(group, error)
        if self._stream is not None:
            await self._stream.aclose()
        await asyncio.gather(self._keeper, *self._attaching.values(), return_exceptions=True)
        await self._channel.close()

    def abandon(self, group: SessionGroup) -> None:
        """Give sessions back without waiting for anything."""
        self._drop(group, InvalidRequest(LEFT))

    async def _keep(self) -> None:
        delays, clock = delays_s(self.recovery), asyncio.get_running_loop().time
        try:
            while True:
                await self._is_wanted.wait()
                stream = self._stream = SessionStream(self._stub, self._address)
                self._attempt += 1
                began_s = clock()
                for group in self.groups:
                    self._attach(group, stream)
                error = self._failure = await stream.ended()
                await stream.aclose()
                await self._stop_attaching()
                if not heals(error):
                    self._give_up(error)
                has_lasted = clock() - began_s > self.recovery.max_delay_s
                if stream.has_answered or has_lasted:  # One that dies of all it is sent is left alone.
                    delays = delays_s(self.recovery)
                hint_s = error.retry_after_s if isinstance(error, CapacityError) else None
                await self._pause(max(next(delays), leave_alone_s(hint_s)))
        finally:
            self._give_up(InternalError("the client's connection stopped"))

    async def _pause(self, longest_s: float) -> None:
        """Wait before the next attempt; less if gRPC finds a lost server before that."""
        state = self._channel.get_state()
        if state is grpc.ChannelConnectivity.READY:
            await asyncio.sleep(longest_s)  # The server is there and wants to be left alone.
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                while state is not grpc.ChannelConnectivity.READY:
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state()
                # Not at the same moment as everyone else who lost it.
                await asyncio.sleep(next(delays_s(self.recovery)))

    def _attach(self, group: SessionGroup, stream: SessionStream) -> None:
        if not group.roster.live.any():
            return
        attachment = Attachment(group, stream, self._client_instance, self._attempt)
        task = asyncio.create_task(attachment.run(), name="tidegate attachment")
        self._attaching[group] = task
        task.add_done_callback(lambda task: self._attached(group, task))

    def _attached(self, group: SessionGroup, task: asyncio.Task[None]) -> None:
        del self._attaching[group]
        error = None if task.cancelled() else task.exception()
        if isinstance(error, TidegateError) and heals(error):
            return  # The stream has ended: the next one attaches the group.
        if isinstance(error, TidegateError):
            self._refuse(group, error)
        elif error is not None:
            self._refuse(group, InternalError(f"session: not attached: {error!r}"))

    async def _stop_attaching(self) -> None:
        tasks = list(self._attaching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _give_up(self, error: TidegateError) -> None:
        self._is_wanted.clear()
        for group in list(self.groups):
            self._refuse(group, error)

    def _refuse(self, group: SessionGroup, error: TidegateError) -> None:
        if group.ready.done():
            group.fail(error)
        else:
            group.ready.set_exception(error)

    def _drop(self, group: SessionGroup, error: TidegateError) -> None:
        if not group.ready.done():
            group.ready.set_exception(error)
        leaving.drop(group, error)
        self._forget(group)

    def _forget(self, group: SessionGroup) -> None:
        self.groups.discard(group)
        if group in self._attaching:
            self._attaching[group].cancel()
        if not self.groups:
            self._is_wanted.clear()

    def _no_answer(self, group: SessionGroup) -> TidegateError:
        """Why sessions could not be opened in time."""
        if group.trouble is not None:
            return group.trouble
        waited = f"not within {self.recovery.open_timeout_s} s"
        if isinstance(self._failure, StreamLost):
            return StreamLost(
                f"{self._failure} ({waited})", address=self._address, grpc_code=self._failure.grpc_code
            )
        code = "DEADLINE_EXCEEDED" if self._failure is None else self._failure.code
        text = f"{self._address}: {self._failure or 'no answer'} ({waited})"
        return StreamLost(text, address=self._address, grpc_code=code)

    async def _info(self, version: ModelVersion) -> ModelInfo:
        key = f"{version.name}/{version.version}/{version.sha256}"
        if key not in self._infos:
            self._infos[key] = await self.models.get_pinned(version)
        return self._infos[key]


def _one_version(group: SessionGroup) -> ModelVersion:
    """The version that all sessions are pinned to; raises what forbids going on with them."""
    group.raise_errors(group.roster.lost)
    if group.model is None:
        raise ModelMismatch(
            f"sessions: expected all of one model version, got {', '.join(sorted(group.versions))}"
        )
    return group.model
