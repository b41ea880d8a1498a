"""Sessions that were opened together: their handles, their step numbers, their call under way.

A `Session` is a group of one, a `Fleet` a group of many. One call of a group is under way at a time;
the next waits for it. A call whose caller left (timeout, cancellation) goes on, because what was handed
over keeps its step numbers: the next call settles it first, and raises what it ended with if that was an
error that nobody has been told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from tidegate.client.errors import CallTimedOut, FleetError, StreamLost, from_message
from tidegate.client.opening import OpenOptions
from tidegate.client.outbox import PendingCall
from tidegate.client.signature import ModelInfo
from tidegate.client.stream import SessionStream
from tidegate.errors import ConnectionLost, DeadlineExpired, InvalidRequest, ModelMismatch, TidegateError
from tidegate.protocol.outputs import OutputSelection
from tidegate.protocol.tracking import StepCall
from tidegate.tensor import Array, IntArray
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.model_pb2 import ModelVersion

LEAVE_TIMEOUT_S = 10.0
"""Longest that leaving a session waits for what is under way and for the server's word."""

_CHUNK = 1024  # Sessions in one open, within what the server takes.


@dataclass
class SessionGroup:
    """Sessions of one model version on one stream.

    Attributes:
        ids: Their ids, in the order of rows.
        handles: Their names on the stream, shape (n,), int64; 0 where the open was refused.
        next_steps: Number of each one's next step, shape (n,), int64. While a call is under way it
            counts as applied.
        durable_steps: Steps below are safe in the server's store, shape (n,), int64.
        is_fleet: Errors of rows are gathered in a `FleetError`.
        lost: Rows that the stream does not hold any more, with the reason.
    """

    ids: Sequence[str]
    stream: SessionStream
    is_fleet: bool
    handles: IntArray = field(init=False)
    next_steps: IntArray = field(init=False)
    durable_steps: IntArray = field(init=False)
    lost: dict[int, TidegateError] = field(default_factory=dict)
    _versions: set[tuple[str, str, str]] = field(default_factory=set)
    _pending: PendingCall | None = None
    _is_left: bool = False

    def __post_init__(self) -> None:
        self.handles = np.zeros(len(self.ids), np.int64)
        self.next_steps = np.zeros(len(self.ids), np.int64)
        self.durable_steps = np.zeros(len(self.ids), np.int64)

    async def open(self, options: OpenOptions) -> ModelVersion:
        """Attach the sessions: all of them, or none.

        Returns:
            The version that all of them are pinned to.

        Raises:
            TidegateError: For a group of one, why it was refused.
            FleetError: Some ids were refused; the others were given back.
            ModelMismatch: The sessions are pinned to different versions.
        """
        start = 0
        while start < len(self.ids):
            stop = min(start + min(_CHUNK, self.stream.max_open_sessions), len(self.ids))
            request = options.request(self.ids, start, stop)
            await self.stream.open(request, self, partial(self._enter, start))
            start = stop
        if not self.lost and len(self._versions) == 1:
            name, version, sha256 = next(iter(self._versions))
            return ModelVersion(name=name, version=version, sha256=sha256)
        await self.leave("detach")
        self.raise_errors(self.lost)
        labels = sorted(f"{name}/{version}" for name, version, _ in self._versions)
        raise ModelMismatch(f"sessions: expected all of one model version, got {', '.join(labels)}")

    async def call(
        self,
        model: ModelInfo,
        inputs: Sequence[Array],
        selection: OutputSelection,
        timeout_s: float | None,
    ) -> StepCall:
        """Send the next steps and wait for their answers.

        Args:
            model: What the sessions are pinned to.
            inputs: Per model input, (n, T, step_shape...).
            selection: Which answers come back.
            timeout_s: Longest wait for the call before and for this one together; None waits.

        Returns:
            The account of the call, with its outputs and the errors of single rows.

        Raises:
            CallTimedOut: No answer in time.
            StreamLost: The connection broke; says which steps are unknown.
            TidegateError: The stream has ended, or the call before was refused after its caller had left.
        """
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        while self._pending is not None:
            await self._settle_before(self._pending, deadline, timeout_s)
        if self._is_left:
            raise InvalidRequest("session: expected an open one, got one that was left or ended")
        account = StepCall(
            self.next_steps.copy(), inputs, [o.form for o in model.outputs], selection, self.lost
        )
        pending = PendingCall(account, self.handles, self._on_done)
        self.stream.submit(pending)
        self.next_steps += account.num_steps
        self._pending = pending
        if not await _wait(pending, deadline):
            step = int(account.first_steps.min())
            text = (
                f"step {step}: no answer within {timeout_s} s; its input is on its way and stays step {step}"
            )
            raise CallTimedOut(text, taken=True, step=step)
        self._retire(pending)
        return self._outcome(pending)

    async def settle(self, timeout_s: float | None) -> StepCall | None:
        """Wait for the call that a caller left behind.

        Returns:
            Its account; None when every call has been told its outcome.

        Raises:
            CallTimedOut: Still no answer.
            TidegateError: As `call`.
        """
        pending = self._pending
        if pending is None or not pending.is_abandoned:
            return None
        pending.is_abandoned = False
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        if not await _wait(pending, deadline):
            step = int(pending.account.first_steps.min())
            raise CallTimedOut(f"step {step}: no answer within {timeout_s} s", taken=True, step=step)
        self._retire(pending)
        return self._outcome(pending)

    async def leave(self, mode: Literal["detach", "end"]) -> None:
        """Give the sessions back, after what is under way.

        Raises:
            TidegateError: Ending a session was refused, or a call that was left behind had failed.
        """
        if self._is_left:
            return
        self._is_left = True
        held = self.handles[(self.handles != 0) & ~np.isin(np.arange(len(self.ids)), list(self.lost))]
        pending = self._pending
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                if pending is not None:
                    await asyncio.wait([pending.done])
                if held.size and (self.stream.failure is None or mode == "end"):
                    await self._close(held, mode)
        except TimeoutError as error:
            raise DeadlineExpired(f"session: no answer to its close within {LEAVE_TIMEOUT_S} s") from error
        if pending is not None and pending.is_abandoned:
            self.raise_errors(self._outcome(pending).errors)

    def raise_errors(
        self, errors: Mapping[int, TidegateError], answers: Array | Mapping[str, Array] | None = None
    ) -> None:
        """Raise what went wrong with rows, if anything did: as it is for a `Session`, else `FleetError`."""
        if errors and not self.is_fleet:
            raise errors[0]
        if errors:
            raise FleetError({self.ids[row]: error for row, error in sorted(errors.items())}, answers)

    def session_lost(self, handle: int, error: TidegateError) -> None:
        """Called by the stream: it does not hold this session any more."""
        for row in np.flatnonzero(self.handles == handle).tolist():
            self.lost[row] = error

    def durable(self, handles: Sequence[int], steps: Sequence[int]) -> None:
        """Called by the stream: steps below these numbers are safe."""
        order = np.argsort(self.handles)
        rows = order[np.searchsorted(self.handles, handles, sorter=order)]
        self.durable_steps[rows] = steps

    def _enter(self, start: int, opened: pb.Opened) -> None:
        stop = start + len(opened.handles)
        self.handles[start:stop] = opened.handles
        self.next_steps[start:stop] = opened.next_steps
        self.durable_steps[start:stop] = opened.durable_steps
        self._versions |= {(m.name, m.version, m.sha256) for m in opened.models}
        for refused in opened.errors:
            self.lost[start + refused.index] = from_message(refused.error)

    async def _settle_before(
        self, pending: PendingCall, deadline: float | None, timeout_s: float | None
    ) -> None:
        if not await _wait(pending, deadline, leaves=False):
            step = int(pending.account.first_steps.min())
            text = f"step {step}: still no answer after {timeout_s} s; nothing of this call was sent"
            raise CallTimedOut(text, taken=False, step=step)
        self._retire(pending)
        if pending.is_abandoned:
            pending.is_abandoned = False
            self.raise_errors(self._outcome(pending).errors)

    def _retire(self, pending: PendingCall) -> None:
        if self._pending is pending:
            self._pending = None

    def _on_done(self, pending: PendingCall) -> None:
        self.next_steps = pending.account.first_steps + pending.account.applied

    def _outcome(self, pending: PendingCall) -> StepCall:
        failure = pending.failure
        if failure is None:
            return pending.account
        if not isinstance(failure, ConnectionLost):
            raise failure
        unknown = {self.ids[row]: steps for row, steps in pending.account.unknown_steps().items()}
        address = failure.address if isinstance(failure, StreamLost) else ""
        grpc_code = failure.grpc_code if isinstance(failure, StreamLost) else failure.code
        raise StreamLost(_lost_text(failure, unknown), address=address, grpc_code=grpc_code, unknown=unknown)

    async def _close(self, held: IntArray, mode: Literal["detach", "end"]) -> None:
        close_mode = pb.CLOSE_MODE_DETACH if mode == "detach" else pb.CLOSE_MODE_END
        rows = np.flatnonzero(np.isin(self.handles, held))
        errors: dict[int, TidegateError] = {}
        for start in range(0, len(held), self.stream.max_open_sessions):
            end = start + self.stream.max_open_sessions
            closed = await self.stream.close(held[start:end].tolist(), close_mode)
            errors |= {int(rows[start + e.index]): from_message(e.error) for e in closed.errors}
        if mode == "end":
            self.raise_errors(errors)


async def _wait(pending: PendingCall, deadline: float | None, *, leaves: bool = True) -> bool:
    """Wait for a call without ever cancelling it; if its caller leaves early, mark that."""
    timeout_s = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
    try:
        await asyncio.wait([pending.done], timeout=timeout_s)
    finally:
        if leaves and not pending.done.done():
            pending.is_abandoned = True
    return pending.done.done()


def _lost_text(failure: ConnectionLost, unknown: dict[str, range]) -> str:
    if not unknown:
        return str(failure)
    session_id, steps = next(iter(unknown.items()))
    more = f" and of {len(unknown) - 1} more sessions" if len(unknown) > 1 else ""
    return f"{failure}; steps {steps.start} to {steps.stop - 1} of session {session_id!r}{more} may or may not have been applied"
