"""Calls on one session by its id, for whoever does not keep a stream."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidegate.engine.frame import EngineFrame, Part, Source
from tidegate.engine.pool import LoadedModel
from tidegate.errors import ArenaFull, InvalidRequest, MessageTooLarge
from tidegate.protocol.lifecycle import Condition, Event
from tidegate.protocol.outputs import OutputSelection
from tidegate.session.frames import judge_rows
from tidegate.session.limits import check_answers
from tidegate.session.manager import SessionManager
from tidegate.session.open_request import (
    OpenMode,
    OpenRequest,
    check_model,
    check_session_id,
    check_version,
)
from tidegate.session.registry import Place
from tidegate.session.table import NOBODY, SessionTable
from tidegate.tensor import Array, IntArray

NUMBER_BYTES = 8
"""An element of a single call's answer, which is written as a double."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """What a session looks like from outside.

    Attributes:
        next_step: Steps applied.
        last_used_s: Unix time of its last use.
    """

    session_id: str
    model: LoadedModel
    condition: Condition
    next_step: int
    last_used_s: float


class SingleCalls:
    """Single calls on the sessions of one server."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager
        self._registry = manager.registry

    async def model_of(self, request: OpenRequest) -> LoadedModel:
        """The version that the one session of a request runs on, or is to be created with.

        Raises:
            SessionNotFound: It does not exist and is not to be created.
            SessionExists: It exists and is to be created.
            ModelMismatch: It is pinned to another version than the one named.
        """
        self._manager.check_running()
        session_id = request.session_ids[0]
        check_session_id(session_id)
        check_model(request.model, request.version, request.sha256)
        if request.mode is not OpenMode.RESUME and self._registry.condition(session_id) is Condition.UNKNOWN:
            if not request.model:
                raise InvalidRequest("model.name: expected the name of a model, got an empty one")
            model = await self._manager.pool.resolve(request.model, request.version, request.sha256)
            # Someone else may have created it while the version was being loaded.
            if self._registry.condition(session_id) is Condition.UNKNOWN:
                return model
        return self._existing(request, session_id).table.model

    async def step(
        self,
        request: OpenRequest,
        model: LoadedModel,
        first_step: int,
        inputs: Sequence[Array],
        selection: OutputSelection,
    ) -> tuple[list[Array], int]:
        """Step a session that no stream holds; one that is to be created is so only if the steps are good.

        Args:
            request: Names the session.
            model: As `model_of` gave it; nothing may be awaited in between.
            first_step: Number of the first of the steps.
            inputs: One array per model input, `[1, T, step_shape...]`.
            selection: Which answers are wanted.

        Returns:
            One array per model output, `[steps, step_shape...]`, and the number of the next step.

        Raises:
            SessionBusy: A stream holds the session.
            WrongStep: `first_step` is not the number that the session waits for.
            InvalidRequest: A value is not finite.
            MessageTooLarge: More steps, or longer answers, than the server takes at a time.
            ArenaFull: No slot is free for a new session.
            TooManyRequests: Too many bytes are waiting.
        """
        session_id, num_steps = request.session_ids[0], inputs[0].shape[1]
        if num_steps > self._manager.limits.max_frame_steps:
            raise MessageTooLarge(
                f"inputs: expected at most {self._manager.limits.max_frame_steps} steps, got {num_steps}"
            )
        num_answered = {OutputSelection.ALL: num_steps, OutputSelection.LAST: 1}.get(selection, 0)
        check_answers(model.manifest, num_answered, self._manager.limits, widen_to_bytes=NUMBER_BYTES)
        place = self._registry.find(session_id) or Place(self._registry.table_of(model), NOBODY)
        self._registry.require(session_id, Event.CREATE if place.slot == NOBODY else Event.STEP)
        first = np.array([first_step], np.int64)
        refused = judge_rows(place.table, np.array([place.slot], np.int32), first, inputs)
        if refused:
            raise refused[0]
        num_bytes = sum(x.nbytes for x in inputs)
        self._manager.budget.take(num_bytes)
        if place.slot == NOBODY:
            try:
                place = self._create(place.table, session_id)
            except ArenaFull:
                self._manager.budget.give_back(num_bytes)
                raise
        # From here on the last answer gives them back: a call that is cut off leaves its inputs waiting.
        return await self._run(place, first, inputs, selection), first_step + num_steps

    def view(self, session_id: str) -> SessionView:
        """Look at a session.

        Raises:
            SessionNotFound: No session has this id.
            SessionLost: Its state was given up.
        """
        check_session_id(session_id)
        table, slot = self._registry.get(session_id)
        idle_s = time.monotonic() - float(table.last_used_s[slot])
        return SessionView(
            session_id,
            table.model,
            self._registry.condition(session_id),
            int(table.next_step[slot]),
            time.time() - idle_s,
        )

    async def page(self, model_name: str, after: str, size: int) -> tuple[list[SessionView], bool]:
        """Sessions in order of their ids.

        Args:
            model_name: Only sessions of this model; "" for all.
            after: Only ids greater than this.
            size: At most so many.

        Returns:
            The sessions, and whether there are more.
        """
        ids = self._registry.ids()
        first = await asyncio.to_thread(
            heapq.nsmallest, size + 1, (i for i in ids if i > after and self._is_of(i, model_name))
        )
        known = [i for i in first[:size] if self._registry.find(i) is not None]
        return [self.view(i) for i in known], len(first) > size

    def _is_of(self, session_id: str, model_name: str) -> bool:
        place = self._registry.find(session_id)
        return place is not None and model_name in ("", place.table.model.manifest.name)

    def _create(self, table: SessionTable, session_id: str) -> Place:
        if not table.pool.num_free:
            raise table.full(self._manager.limits.retry_after_s)
        return Place(table, int(self._registry.create(table, [session_id], creator=b"")[0]))

    def _existing(self, request: OpenRequest, session_id: str) -> Place:
        if request.mode is OpenMode.CREATE:
            self._registry.require(session_id, Event.CREATE)
        place = self._registry.get(session_id)
        check_version(request, place.table)
        return place

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
