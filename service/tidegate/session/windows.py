"""Windows of steps from the initial state: requests that belong to no session.

A window runs on a slot that is borrowed for it and given back at its end, so it shares batches with the
sessions, and turns go round both. However many windows a request has, it borrows at most `MAX_SLOTS` at a time,
and all together at most half of a version's slots; who comes then waits, in the order of arrival.

Only the event loop's thread calls this.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from weakref import WeakKeyDictionary

import numpy as np

from tidegate.engine.frame import EngineFrame, Part, Source
from tidegate.engine.pool import LoadedModel
from tidegate.errors import MessageTooLarge, ServerStopping, TidegateError
from tidegate.protocol.outputs import OutputSelection
from tidegate.session.limits import check_answers
from tidegate.session.manager import SessionManager
from tidegate.session.table import SessionTable
from tidegate.tensor import Array, SlotArray

MAX_SLOTS = 256
"""Slots of one request at a time: a full batch. More would keep sessions out of memory for nothing."""


class Windows:
    """Stateless requests, for one server."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager
        # Per version, held by the first of those that wait for slots.
        self._first: WeakKeyDictionary[SessionTable, asyncio.Lock] = WeakKeyDictionary()
        self._given_back = asyncio.Event()

    async def run(
        self, model: LoadedModel, inputs: Sequence[Array], *, source: Source, time_limit_s: float | None
    ) -> list[Array]:
        """Run windows; a call that is cancelled drops what has not run.

        Args:
            model: The version to run; nothing may have been awaited since it was resolved.
            inputs: One array per model input, `[B, T, step_shape...]`, with values that the model may see.
            source: Where they come from.
            time_limit_s: From now to the start of the last windows' first step; None for no limit.

        Returns:
            One array per model output, `[B, T, step_shape...]`.

        Raises:
            MessageTooLarge: More windows or steps, or longer answers, than the server takes at a time.
            ArenaFull: No slot is free.
            DeadlineExpired: The time limit passed.
            InternalError: The model failed.
            ServerStopping: The server drains.
        """
        self._manager.check_running()
        self._check_size(model, inputs)
        arrived_s = time.monotonic()
        deadline_s = None if time_limit_s is None else arrived_s + time_limit_s
        num_windows, pieces, start = len(inputs[0]), list[list[Array]](), 0
        with model.in_use():
            while start < num_windows:
                async with self._slots(model, num_windows - start) as slots:
                    piece = [x[start : start + len(slots)] for x in inputs]
                    pieces.append(await _run(model, slots, piece, source, arrived_s, deadline_s))
                    start += len(slots)
        return pieces[0] if len(pieces) == 1 else [np.concatenate(p) for p in zip(*pieces, strict=True)]

    def _check_size(self, model: LoadedModel, inputs: Sequence[Array]) -> None:
        limits = self._manager.limits
        num_windows, num_steps = inputs[0].shape[:2]
        if num_windows > limits.max_frame_rows:
            raise MessageTooLarge(
                f"inputs: expected at most {limits.max_frame_rows} windows, got {num_windows}"
            )
        if num_steps > limits.max_frame_steps:
            raise MessageTooLarge(f"inputs: expected at most {limits.max_frame_steps} steps, got {num_steps}")
        check_answers(model.manifest, num_windows * num_steps, limits)

    @asynccontextmanager
    async def _slots(self, model: LoadedModel, count: int) -> AsyncIterator[SlotArray]:
        """Some slots for `count` windows; they are given back once nothing runs on them."""
        table = self._manager.registry.table_of(model)
        slots = await self._borrow(table, min(count, MAX_SLOTS))
        with ExitStack() as until_settled:
            until_settled.enter_context(model.in_use())
            until_settled.callback(self._give_back, table, slots)
            try:
                yield slots
            except BaseException:
                model.engine.drop(slots, _given_up)
                raise
            finally:
                model.engine.when_settled(slots, until_settled.pop_all().close)

    async def _borrow(self, table: SessionTable, wanted: int) -> SlotArray:
        """Take at most as many slots as wanted, once there are some."""
        first = self._first.setdefault(table, asyncio.Lock())
        room = self._manager.passivator.room
        if not (first.locked() or room.locked()) and min(_left(table), table.pool.num_free) >= wanted:
            return _take(table, wanted)
        async with first:
            while True:
                self._given_back.clear()
                if _left(table):
                    async with room:
                        await self._manager.passivator.make_room(table, min(wanted, _left(table)))
                        count = min(wanted, _left(table), table.pool.num_free)
                        if count:
                            return _take(table, count)
                    if not table.num_borrowed:
                        raise table.full(self._manager.limits.retry_after_s)
                await self._given_back.wait()

    def _give_back(self, table: SessionTable, slots: SlotArray) -> None:
        table.num_borrowed -= len(slots)
        table.pool.release(slots)
        self._given_back.set()


def _left(table: SessionTable) -> int:
    """Slots that may still be borrowed."""
    return max(1, table.pool.capacity // 2) - table.num_borrowed


def _take(table: SessionTable, count: int) -> SlotArray:
    """Borrow free slots, at the initial state and step 0."""
    slots = table.pool.acquire(count)
    table.num_borrowed += count
    table.model.runner.arena.reset(slots)
    table.next_step[slots] = 0
    return slots


async def _run(
    model: LoadedModel,
    slots: SlotArray,
    inputs: Sequence[Array],
    source: Source,
    arrived_s: float,
    deadline_s: float | None,
) -> list[Array]:
    """Run one window on each slot.

    Returns:
        One array per model output, `[slots, T, step_shape...]`.
    """
    parts: list[Part] = []
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def collect(part: Part) -> None:
        parts.append(part)
        if part.complete and not done.done():
            done.set_result(None)

    frame = EngineFrame(
        slots,
        np.zeros(len(slots), np.int64),
        inputs,
        outputs=OutputSelection.ALL,
        source=source,
        arrived_s=arrived_s,
        deadline_s=deadline_s,
        on_part=collect,
    )
    model.engine.submit(frame)
    await done
    return _joined(model, parts, len(slots), frame.num_steps)


def _joined(model: LoadedModel, parts: Sequence[Part], num_rows: int, num_steps: int) -> list[Array]:
    """The answers of all parts at their places; the first refusal is the request's."""
    for part in parts:
        if part.errors:
            raise part.errors[0]
    if len(parts) == 1:
        return parts[0].outputs
    outputs = [np.empty((num_rows, num_steps, *o.step_shape), o.dtype.numpy) for o in model.manifest.outputs]
    for part in parts:
        end = part.step_offset + part.num_steps
        for whole, piece in zip(outputs, part.outputs, strict=True):
            whole[part.rows, part.step_offset : end] = piece
    return outputs


def _given_up(expected: int) -> TidegateError:
    return ServerStopping(f"the request was given up before step {expected}")
