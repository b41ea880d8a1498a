"""The turn of a request that had to wait: it begins its sequence, ends it, or finds it in the store.

Every turn happens while the id of the sequence is held, so nobody else works on it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial

import numpy as np

from tidegate.engine.pool import LoadedModel, ModelPool
from tidegate.errors import TidegateError
from tidegate.protocol.sequences import (
    ACTIONS,
    Action,
    Course,
    behind,
    check_step,
    is_repeat,
    lost,
    unknown,
)
from tidegate.session.keeper import StoreKeeper
from tidegate.session.registry import Place, Registry
from tidegate.session.sequences.answering import Answers, kept_outcome
from tidegate.session.sequences.ending import Ender
from tidegate.session.sequences.entering import Entry
from tidegate.session.sequences.kept import KeptAnswer, digest_of
from tidegate.session.sequences.refusals import expired
from tidegate.session.sequences.request import Outcome, SequenceRequest
from tidegate.session.sequences.restarts import Restarts
from tidegate.session.sequences.row import Row, tell
from tidegate.session.sequences.sharing import Shared
from tidegate.session.stores.store import StoredSession
from tidegate.session.table import NOBODY, SessionTable
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import Array


class Turns:
    """Serves requests one by one, for all sequences. The event loop owns it."""

    def __init__(
        self,
        pool: ModelPool,
        registry: Registry,
        keeper: StoreKeeper,
        entry: Entry,
        ender: Ender,
        answers_of: Callable[[SessionTable], Answers],
        metrics: Metrics,
    ) -> None:
        """Prepare; `leave_if_spoilt` has to be set.

        Args:
            pool: The models.
            registry: Which sessions are in memory.
            keeper: The store.
            entry: Has sequences come into memory.
            ender: Has them leave.
            answers_of: The answers of the sequences of a version.
            metrics: Counts sequences.
        """
        self._pool = pool
        self._registry = registry
        self._entry = entry
        self._ender = ender
        self._answers_of = answers_of
        self._metrics = metrics
        self._restarts = Restarts(metrics)
        self._finds: Shared[str, StoredSession | None] = Shared(self._find)
        self._keeper = keeper
        self.leave_if_spoilt: Callable[[str], Awaitable[None]]

    def live(self, session_id: str) -> Place | None:
        """Where a sequence is that waits in memory for its next step."""
        place = self._registry.find(session_id)
        return place if place is not None and place.table.sequences.is_sequence.item(place.slot) else None

    async def serve(self, request: SequenceRequest) -> None:
        """Let a request have its turn.

        Raises:
            TidegateError: What it is refused with.
        """
        _check_in_time(request)
        session_id = request.key.session_id
        await self._ender.finish(session_id)
        place = self.live(session_id) or await self._from_store(request)
        if place is None:
            return
        if request.starts:
            await self._start_beside(request, place)
        else:
            await self._go_on(request, place)

    async def _from_store(self, request: SequenceRequest) -> Place | None:
        """Bring a sequence in for a request.

        Returns:
            Where it is; None if the request has been answered meanwhile.
        """
        if await self._is_repeated_end(request):
            return None
        stored = await self._finds.ask(request.key.session_id)
        course, name = _course(stored), str(request.key)
        action = ACTIONS[course, request.starts]
        if action is Action.BEGIN:
            await self._begin(request, None)
            return None
        if stored is None:
            raise unknown(name)
        if action is Action.REFUSE_AS_LOST and stored.tombstone is not None:
            grave = stored.tombstone
            raise lost(name, grave.next_step, grave.durable_step, grave.reason)
        # One that can be brought in may have answered this very request.
        if action is Action.BEGIN_ANEW and not (course is Course.GOING and request.request_id):
            await self._begin(request, stored)
            return None
        is_sure = course is Course.BEHIND and request.step == stored.next_step
        if action is Action.GO_ON_IF_SURE and not is_sure:
            raise behind(name, stored.next_step, stored.damage)
        return await self._entry.bring_in(stored, is_sure=is_sure)

    async def _is_repeated_end(self, request: SequenceRequest) -> bool:
        """Answer a request that repeats the last one of a sequence that has ended."""
        last = self._ender.last_answer(request.key.session_id)
        if last is None or last.answer.request_id != request.request_id:
            return False
        model = await self._pool.resolve(*last.model)
        # With other inputs it is none: an id counts for as long as its sequence.
        if digest_of(self._read(request, model)) != last.answer.digest:
            return False
        self._tell_kept(request, model, last.answer)
        return True

    async def _go_on(self, request: SequenceRequest, place: Place) -> None:
        """Hand the steps of a request on; if it ends its sequence, wait for them."""
        answers = self._answers_of(place.table)
        row = answers.row(request, place.slot)
        answers.gathering.add(row)
        if request.ends and not isinstance(await row.ended(), TidegateError):
            await self._end(request, place)

    async def _start_beside(self, request: SequenceRequest, place: Place) -> None:
        """Begin a sequence that is going on, unless the request has been answered already."""
        gathering = self._answers_of(place.table).gathering
        while (row := gathering.newest(place.slot)) is not None:
            await row.ended()
        await self.leave_if_spoilt(request.key.session_id)
        if self.live(request.key.session_id) != place:
            await self.serve(request)
            return
        kept = place.table.sequences.answer(place.slot)
        if kept is not None and request.request_id == kept.request_id:
            digest = digest_of(self._read(request, place.table.model))
            if is_repeat(request.request_id, digest, kept.request_id, kept.digest):
                outcome = self._tell_kept(request, place.table.model, kept)
                if request.ends and not isinstance(outcome, TidegateError):
                    await self._end(request, place)
                return
        await self._begin(request, place)

    async def _begin(self, request: SequenceRequest, old: Place | StoredSession | None) -> None:
        """Begin a sequence, run its first steps, and leave nothing of it if they are refused."""
        key = request.key
        check_step(request.step, 0)
        model = await self._pool.resolve(key.model, request.version)
        with model.in_use():
            inputs = self._read(request, model)
            _check_in_time(request)
            if old is not None:
                await _try_out(model, inputs)
                if not (isinstance(old, Place) and old.table.model is model):
                    await self._entry.check_room(model)
                await self._leave_old(request, old)
            place = await self._entry.create(key, model)
        self._ender.begun(key.session_id)
        self._metrics.sequence_starts.labels(key.model).inc()
        row = Row(request, place.slot, place.table.number.item(place.slot), inputs)
        if old is not None:
            row.deadline_s = None  # its time was not over when the old course was given up for it
        self._answers_of(place.table).gathering.add(row)
        outcome = await row.ended()
        if self.live(key.session_id) != place or place.table.sequences.is_spoilt(place.slot):
            return
        if isinstance(outcome, TidegateError):
            await self._ender.end(place)
        elif request.ends:
            await self._end(request, place)

    async def _leave_old(self, request: SequenceRequest, old: Place | StoredSession) -> None:
        """End the course that a sequence was on, and tell the operator."""
        if isinstance(old, Place):
            next_step = old.next_step
            await self._ender.end_for_another(old)
        else:
            next_step = old.next_step if old.tombstone is None else old.tombstone.next_step
            await self._ender.forget(old.session_id, old.number)
        self._restarts.tell(request.key, next_step)

    async def _end(self, request: SequenceRequest, place: Place) -> None:
        self._metrics.sequence_ends.labels(request.key.model).inc()
        await self._ender.end(place)

    def _read(self, request: SequenceRequest, model: LoadedModel) -> list[Array]:
        return self._answers_of(self._registry.table_of(model)).reader.read(request)

    def _tell_kept(self, request: SequenceRequest, model: LoadedModel, kept: KeptAnswer) -> Outcome:
        self._metrics.sequence_repeats.labels(request.key.model).inc()
        outcome = kept_outcome(model, kept)
        tell(request, outcome)
        return outcome

    async def _find(self, session_ids: list[str]) -> list[StoredSession | None]:
        found = await self._keeper.read(lambda store: store.find(session_ids))
        return [found.get(session_id) for session_id in session_ids]


def _course(stored: StoredSession | None) -> Course:
    """What the store tells of a sequence."""
    if stored is None:
        return Course.NONE
    if stored.tombstone is not None:
        return Course.LOST
    is_behind = stored.may_have_lost_steps or stored.newest_step > stored.next_step
    return Course.BEHIND if is_behind else Course.GOING


async def _try_out(model: LoadedModel, inputs: list[Array]) -> None:
    """Run the first steps of a sequence on nobody's state: those that cannot run must not end the course before them.

    Raises:
        InvalidRequest: The graph refuses them.
    """
    runner, errands = model.runner, model.engine.errands
    states = await errands.look(lambda: runner.copy_states(np.array([NOBODY], np.int32)))
    for first in range(0, inputs[0].shape[1], runner.max_slice_steps):
        piece = [np.ascontiguousarray(x[:, first : first + runner.max_slice_steps]) for x in inputs]
        _, states = await errands.work(partial(runner.roll, piece, states))


def _check_in_time(request: SequenceRequest) -> None:
    deadline_s, now_s = request.deadline_s, time.monotonic()
    if deadline_s is not None and deadline_s <= now_s:
        raise expired(request.arrived_s, now_s)
