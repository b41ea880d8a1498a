"""Calls on a group: one at a time, in the order in which they were made.

Whoever leaves before the answer (timeout, cancellation) leaves the call on its way. The next caller
waits for it, and is told of its refusal if nobody was; `settle` and `CallTimedOut.retry` get its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from tidegate.client.connection import Connection
from tidegate.client.errors import BufferFull, CallTimedOut
from tidegate.client.flushing import flush
from tidegate.client.group import SessionGroup
from tidegate.client.pending import PendingCall
from tidegate.client.signature import ModelInfo
from tidegate.protocol.outputs import OutputSelection
from tidegate.protocol.tracking import StepCall
from tidegate.tensor import Array

T = TypeVar("T")


class Caller:
    """Who calls on a group: a `Session` or a `Fleet`."""

    def __init__(self, connection: Connection, group: SessionGroup, model: ModelInfo) -> None:
        self.group = group
        self.model = model
        self._connection = connection
        self._waits_when_full = connection.recovery.when_full == "wait"
        self._turn = asyncio.Lock()
        self._loop = asyncio.get_running_loop()

    async def call(
        self,
        inputs: Sequence[Array],
        selection: OutputSelection,
        timeout_s: float | None,
        answer: Callable[[StepCall], T],
    ) -> T:
        """Hand over the next steps and wait for their answers.

        Args:
            inputs: Per model input, (n, T, step_shape...).
            selection: Which answers come back.
            timeout_s: Longest wait for the call before and for this one together; None waits.
            answer: Makes the result, or raises the errors of rows.

        Raises:
            CallTimedOut: No answer in time.
            BufferFull: No room to hold the inputs, and the client is not to wait for it.
            TidegateError: The call before was refused after its caller had left.
        """
        deadline_s = self._deadline_s(timeout_s)
        try:
            if self._turn.locked() or not self._may_submit(inputs):
                async with asyncio.timeout_at(deadline_s), self._turn:
                    await self._settle_before()
                    await self._find_room(inputs)
                    pending = self._submit(inputs, selection)
            else:
                pending = self._submit(inputs, selection)
        except TimeoutError:
            step = self._first_open_step()
            text = f"step {step}: still no answer after {timeout_s} s; nothing of this call was sent"
            raise CallTimedOut(
                text, taken=False, step=step, again=lambda t: self.call(inputs, selection, t, answer)
            ) from None
        return await self._await(pending, deadline_s, timeout_s, answer)

    async def settle(self, timeout_s: float | None, answer: Callable[[StepCall], T]) -> T | None:
        """Wait for the call that a caller left behind.

        Returns:
            Its answer; None when every call has been told its outcome.

        Raises:
            CallTimedOut: Still no answer.
            TidegateError: As `call`.
        """
        pending = self.group.untold
        if pending is None or not pending.is_abandoned:
            return None
        return await self._await(pending, self._deadline_s(timeout_s), timeout_s, answer)

    async def flush(self, timeout_s: float | None) -> None:
        """Wait until the steps are durable; see `flushing.flush`."""
        await flush(self.group, timeout_s)

    async def end(self) -> None:
        """End the sessions for good."""
        await self._connection.leave(self.group, "end")

    def _deadline_s(self, timeout_s: float | None) -> float | None:
        return None if timeout_s is None else self._loop.time() + timeout_s

    def _may_submit(self, inputs: Sequence[Array]) -> bool:
        group = self.group
        fits = group.budget.fits(group.held.num_bytes, group.held.cost(inputs))
        return group.pending is None and group.untold is None and fits and not group.is_left

    def _submit(self, inputs: Sequence[Array], selection: OutputSelection) -> PendingCall:
        return self.group.submit(self.model, inputs, selection)

    def _first_open_step(self) -> int:
        return int(self.group.answered_steps.min())

    async def _settle_before(self) -> None:
        """Wait for the call under way; tell of its refusal if its caller has left."""
        group = self.group
        if group.pending is not None:
            await asyncio.wait([group.pending.done])
        group.raise_untold()
        group.check_open()

    async def _find_room(self, inputs: Sequence[Array]) -> None:
        budget, held = self.group.budget, self.group.held
        num_bytes = held.cost(inputs)
        # Even a call that finds no room: only what is kept becomes durable, and makes some.
        self.group.keep_returned()
        if not budget.can_ever_fit(num_bytes):
            raise BufferFull(
                f"inputs: expected at most {budget.max_bytes // 2} bytes in a call, half of max_held_bytes, "
                f"got {num_bytes}"
            )
        if not self._waits_when_full and not budget.fits(held.num_bytes, num_bytes):
            raise BufferFull(
                f"inputs: {held.num_bytes} bytes are held for steps that the server has not reported as "
                f"durable, and {num_bytes} more find no room within max_held_bytes {budget.max_bytes}",
                retry_after_s=1.0,
            )
        while not budget.fits(held.num_bytes, num_bytes):
            await budget.until_changed()
            self.group.check_open()

    async def _await(
        self,
        pending: PendingCall,
        deadline_s: float | None,
        timeout_s: float | None,
        answer: Callable[[StepCall], T],
    ) -> T:
        is_done = False
        try:
            pending.is_abandoned = False
            is_done = await pending.wait(deadline_s)
        finally:
            # A caller that is cancelled as the answer comes does not get it.
            pending.is_abandoned = not is_done
        if is_done:
            if self.group.untold is pending:
                self.group.untold = None
            return answer(pending.account)
        step = pending.step
        text = f"step {step}: no answer within {timeout_s} s; its input is on its way and stays step {step}"
        raise CallTimedOut(
            text,
            taken=True,
            step=step,
            again=lambda t: self._await(pending, self._deadline_s(t), t, answer),
        )
