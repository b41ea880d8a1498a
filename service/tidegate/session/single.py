"""Calls on one session by its id, for whoever does not keep a stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tidegate.engine.frame import EngineFrame, Part, Source
from tidegate.errors import InvalidRequest, MessageTooLarge, TidegateError
from tidegate.model.manifest import Manifest
from tidegate.protocol.lifecycle import Condition, Event
from tidegate.protocol.outputs import OutputSelection
from tidegate.session.finding import Known
from tidegate.session.frames import judge_rows
from tidegate.session.limits import check_answers
from tidegate.session.manager import SessionManager
from tidegate.session.open_request import (
    OpenMode,
    OpenRequest,
    check_model,
    check_own_id,
    check_session_id,
    check_version,
)
from tidegate.session.registry import Place
from tidegate.session.returning import Claimant
from tidegate.session.stores.changes import ModelKey
from tidegate.session.stores.store import StoredSession
from tidegate.session.table import NOBODY
from tidegate.tensor import Array, IntArray

NUMBER_BYTES = 8
"""An element of a single call's answer, which is written as a double."""

ReadInputs = Callable[[Manifest], list[Array]]
"""Makes the inputs of a step, `[1, T, step_shape...]` each, once it is known what the model takes."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """What a session looks like from outside.

    Attributes:
        model: The version that it is pinned to.
        next_step: Steps applied.
        durable_step: Steps that survive the death of the server.
        last_used_s: Unix time of its last use.
    """

    session_id: str
    model: ModelKey
    condition: Condition
    next_step: int
    durable_step: int
    last_used_s: float


@dataclass(frozen=True, slots=True)
class SingleAnswer:
    """What a step by id gave.

    Attributes:
        manifest: Of the version that the session is pinned to.
        outputs: One array per model output, `[steps, step_shape...]`.
        next_step: Number of the next step.
        durable_step: Steps that survive the death of the server.
    """

    manifest: Manifest
    outputs: list[Array]
    next_step: int
    durable_step: int


class SingleCalls:
    """Single calls on the sessions of one server."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager
        self._registry = manager.registry

    async def step(
        self, request: OpenRequest, first_step: int, read_inputs: ReadInputs, selection: OutputSelection
    ) -> SingleAnswer:
        """Step a session that no stream holds; one that is to be created is so only if the steps are good.

        Args:
            request: Names the session, and how to open it.
            first_step: Number of the first of the steps. The answers before it count as kept.
            read_inputs: Makes the inputs.
            selection: Which answers are wanted.

        Raises:
            SessionNotFound: It does not exist and is not to be created.
            SessionExists: It exists and is to be created.
            ModelMismatch: It is pinned to another version than the one named.
            SessionBusy: A stream holds the session.
            WrongStep: `first_step` is not the number that the session waits for.
            InvalidRequest: A value is not finite.
            MessageTooLarge: More steps, or longer answers, than the server takes at a time.
            ArenaFull: No slot is free for it.
            TooManyRequests: Too many bytes are waiting.
            StoreUnavailable: It may be in the store, which cannot be read.
        """
        self._manager.check_running()
        session_id = request.session_ids[0]
        check_own_id(session_id)
        check_model(request.model, request.version, request.sha256)
        async with self._manager.holds.take([session_id]):
            known = (await self._manager.finder.find([session_id])).get(session_id)
            place = await self._stand(request, known)
            manifest = place.table.model.manifest
            inputs = read_inputs(manifest)
            num_steps = inputs[0].shape[1]
            self._check_size(manifest, num_steps, selection)
            first = np.array([first_step], np.int64)
            refused = judge_rows(place.table, np.array([place.slot], np.int32), first, inputs)
            if refused:
                raise refused[0]
            num_bytes = sum(x.nbytes for x in inputs)
            self._manager.budget.take(num_bytes)
            if place.slot == NOBODY:
                try:
                    place = await self._create(place.table.key, session_id)
                except BaseException:
                    self._manager.budget.give_back(num_bytes)
                    raise
            slots = np.array([place.slot], np.int32)
            place.table.books.ack(slots, first)
            # From here on the last answer gives them back: a call that is cut off leaves its inputs waiting.
            outputs = await self._run(place, first, inputs, selection)
            return SingleAnswer(manifest, outputs, first_step + num_steps, self._durable_step(place))

    async def view(self, session_id: str) -> SessionView:
        """Look at a session.

        Raises:
            SessionNotFound: No session has this id.
            SessionLost: Its state was given up.
            StoreUnavailable: It may be in the store, which cannot be read.
        """
        check_session_id(session_id)
        finder = self._manager.finder
        known = (await finder.find([session_id])).get(session_id)
        # Every session that is not lost may be looked at, so what forbids that says what there is.
        finder.require(session_id, known, Event.READ)
        assert known is not None, "an unknown session was let through"
        return self._view(session_id, known)

    async def page(self, model_name: str, after: str, size: int) -> tuple[list[SessionView], bool]:
        """Sessions in the store's order; those that it does not have yet come last.

        Args:
            model_name: Only sessions of this model; "" for all.
            after: Go on behind this id; "" for the first page.
            size: At most so many.

        Returns:
            The sessions, and whether there are more.

        Raises:
            StoreUnavailable: The store cannot be read.
        """
        stored = await self._manager.keeper.read(lambda store: store.page(model_name, after, size + 1))
        views = [self._view(session.session_id, session) for session in stored[:size]]
        if len(stored) > size:
            return views, True
        return views + self._unsaved(model_name, size - len(views)), False

    def _unsaved(self, model_name: str, count: int) -> list[SessionView]:
        """Some of the sessions that began while the store failed."""
        views: list[SessionView] = []
        for table in self._registry.tables():
            if model_name in ("", table.key.name):
                slots = np.flatnonzero((table.number != 0) & ~table.is_stored)[: count - len(views)]
                places = [Place(table, slot) for slot in slots.tolist()]
                views += [self._view(table.ids[p.slot], p) for p in places]
        return views

    def _view(self, session_id: str, known: Known) -> SessionView:
        known = self._registry.find(session_id) or known
        condition = self._manager.finder.condition(known)
        if isinstance(known, StoredSession):
            durable_step = self._if_durable(known.durable_step)
            return SessionView(
                session_id, known.model, condition, known.next_step, durable_step, known.used_s
            )
        assert known is not None, "there is nothing to look at"
        idle_s = time.monotonic() - float(known.table.last_used_s[known.slot])
        return SessionView(
            session_id,
            known.table.key,
            condition,
            known.next_step,
            self._durable_step(known),
            time.time() - idle_s,
        )

    def _durable_step(self, place: Place) -> int:
        return self._if_durable(int(place.table.books.base_step[place.slot]))

    def _if_durable(self, step: int) -> int:
        return step if self._manager.keeper.is_durable else 0

    def _check_size(self, manifest: Manifest, num_steps: int, selection: OutputSelection) -> None:
        limits = self._manager.limits
        if num_steps > limits.max_frame_steps:
            raise MessageTooLarge(f"inputs: expected at most {limits.max_frame_steps} steps, got {num_steps}")
        num_answered = {OutputSelection.ALL: num_steps, OutputSelection.LAST: 1}.get(selection, 0)
        check_answers(manifest, num_answered, limits, widen_to_bytes=NUMBER_BYTES)

    async def _stand(self, request: OpenRequest, known: Known) -> Place:
        """Where the session is; the slot of nobody where it is to be created."""
        session_id = request.session_ids[0]
        if known is None and request.mode is not OpenMode.RESUME:
            if not request.model:
                raise InvalidRequest("model.name: expected the name of a model, got an empty one")
            model = await self._manager.pool.resolve(request.model, request.version, request.sha256)
            return Place(self._registry.table_of(model), NOBODY)
        event = Event.CREATE if request.mode is OpenMode.CREATE else Event.STEP
        self._manager.finder.require(session_id, known, event)
        assert known is not None, "an unknown session was let through"
        check_version(request, known.table.key if isinstance(known, Place) else known.model)
        return await self._manager.returner.bring_in(known)

    async def _create(self, model: ModelKey, session_id: str) -> Place:
        claimant = Claimant(b"", 0, self._manager.keeper.new_epoch(), time.time())
        (made,) = await self._manager.creator.create(model, [session_id], claimant)
        if isinstance(made, TidegateError):
            raise made
        return made

    async def _run(
        self, place: Place, first: IntArray, inputs: Sequence[Array], selection: OutputSelection
    ) -> list[Array]:
        table, slot = place
        slots = np.array([slot], np.int32)
        parts: list[Part] = []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def collect(part: Part) -> None:
            parts.append(part)
            if done.cancelled():
                parts.clear()  # nobody waits for them any more
            if part.errors:
                table.take_back(slots, first)
            if part.complete:
                self._manager.budget.give_back(sum(x.nbytes for x in inputs))
                if not done.done():
                    done.set_result(None)

        table.accepted[slot] += inputs[0].shape[1]
        table.last_used_s[slot] = time.monotonic()
        frame = EngineFrame(
            slots,
            first,
            inputs,
            outputs=selection,
            source=Source(),
            arrived_s=time.monotonic(),
            deadline_s=None,
            on_part=collect,
        )
        table.model.engine.submit(frame)
        await done
        for part in parts:
            if part.errors:
                raise part.errors[0]
        answered = [p.outputs for p in parts if p.outputs]
        return [np.concatenate(arrays, axis=1)[0] for arrays in zip(*answered, strict=True)]
