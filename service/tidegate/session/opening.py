"""Opening sessions on a stream: creating new ones, taking over live ones, bringing back stored ones.

Each id of a request succeeds or fails by itself. While a piece of it is at work its ids are held, and a
session is attached to the stream only when all else is done: until then it has no handle, and nobody
can step it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass

import numpy as np

from tidegate.errors import InvalidRequest, MessageTooLarge, TidegateError
from tidegate.session.admission import admit
from tidegate.session.creating import Creator
from tidegate.session.finding import Finder, Known
from tidegate.session.handles import HandleStatus
from tidegate.session.holds import Holds
from tidegate.session.keeper import StoreKeeper
from tidegate.session.limits import MAX_CLIENT_INSTANCE_BYTES, SessionLimits
from tidegate.session.open_request import (
    OpenMode,
    OpenRequest,
    OpenResult,
    check_model,
    check_own_id,
)
from tidegate.session.registry import Place
from tidegate.session.returning import Claimant, Returner
from tidegate.session.stores.changes import ModelKey
from tidegate.session.stores.store import StoredSession
from tidegate.session.stream import SessionStream
from tidegate.session.table import SessionTable
from tidegate.session.taking_over import TakeOver
from tidegate.session.whole import to_the_end

PIECE = 1024
"""Sessions opened before others get the event loop."""

PIECES_AT_ONCE = 8
"""Pieces of an open that are at work together: while one is being stored the next ones get ready, and
share a commit."""

MAX_PIECES = 16
"""Pieces of all opens that are at work together: each is thousands of objects. Others wait in turn."""


@dataclass(frozen=True, slots=True)
class _Opening:
    """A request at work.

    Attributes:
        model: Version for new sessions; None if none is to be created.
    """

    stream: SessionStream
    request: OpenRequest
    model: ModelKey | None
    result: OpenResult

    def refuse(self, i: int, error: TidegateError) -> None:
        """The i-th session is not opened."""
        self.result.errors[i] = error.with_traceback(None)  # which would keep a frame for each


class Opener:
    """Opens sessions for all streams."""

    def __init__(
        self,
        finder: Finder,
        holds: Holds,
        creator: Creator,
        returner: Returner,
        take_over: TakeOver,
        keeper: StoreKeeper,
        streams: dict[int, SessionStream],
        limits: SessionLimits,
    ) -> None:
        self._finder = finder
        self._holds = holds
        self._creator = creator
        self._returner = returner
        self._take_over = take_over
        self._keeper = keeper
        self._streams = streams
        self._limits = limits
        self._turns = asyncio.Semaphore(MAX_PIECES)

    async def open(self, stream: SessionStream, request: OpenRequest) -> OpenResult:
        """Open the sessions of a request; each succeeds or fails by itself.

        Args:
            stream: Who is to hold them.
            request: What the client asks for.

        Raises:
            InvalidRequest: The request's form is wrong.
            MessageTooLarge: It names too many sessions.
            TooManyRequests: The stream has no handles left for them.
            ModelNotFound: There is no such model or version.
            PackageError: The version is refused at load.
        """
        self._check(request)
        stream.handles.check_room(len(request.session_ids))
        async with AsyncExitStack() as until_opened:
            model = None
            if request.mode is not OpenMode.RESUME:
                version = self._creator.version(request.model, request.version, request.sha256)
                model = await until_opened.enter_async_context(version)
            opening = _Opening(stream, request, model, _nothing_opened(request))
            count = len(request.session_ids)
            pieces = [range(start, min(start + PIECE, count)) for start in range(0, count, PIECE)]
            for first in range(0, len(pieces), PIECES_AT_ONCE):
                at_once = pieces[first : first + PIECES_AT_ONCE]
                await asyncio.gather(*(self._in_turn(opening, piece) for piece in at_once))
        _tell_durable(opening)
        return opening.result

    async def _in_turn(self, opening: _Opening, positions: range) -> None:
        async with self._turns:
            await to_the_end(self._open_piece(opening, positions))

    def _check(self, request: OpenRequest) -> None:
        count = len(request.session_ids)
        if count == 0:
            raise InvalidRequest("session_ids: expected at least one, got none")
        if count > self._limits.max_open_sessions:
            raise MessageTooLarge(
                f"session_ids: expected at most {self._limits.max_open_sessions}, got {count}"
            )
        if len(request.client_instance) > MAX_CLIENT_INSTANCE_BYTES:
            raise InvalidRequest(
                f"client_instance: expected at most {MAX_CLIENT_INSTANCE_BYTES} bytes, got {len(request.client_instance)}"
            )
        check_model(request.model, request.version, request.sha256)
        if not request.model and request.mode is not OpenMode.RESUME:
            raise InvalidRequest("model.name: expected the name of a model, got an empty one")
        columns = (("have", request.have), ("held_from", request.held_from), ("epochs", request.epochs))
        for name, values in columns:
            if len(values) != count:
                raise InvalidRequest(f"{name}: expected none or one per session ({count}), got {len(values)}")

    async def _open_piece(self, opening: _Opening, positions: range) -> None:
        """Open some of the sessions."""
        by_id: dict[str, int] = {}
        for i in positions:
            if i not in opening.result.errors:
                session_id = opening.request.session_ids[i]
                try:
                    check_own_id(session_id)
                except TidegateError as error:
                    opening.refuse(i, error)
                else:
                    by_id[session_id] = i
        async with self._holds.take(by_id):
            try:
                known = await self._finder.find(list(by_id))
                places = await self._bring_in(opening, by_id, known, self._claimant(opening.request, known))
            except TidegateError as error:
                for i in by_id.values():
                    opening.refuse(i, error)
                return
            if opening.stream.number in self._streams:
                _attach(opening, places)

    def _claimant(self, request: OpenRequest, known: dict[str, Known]) -> Claimant:
        """Who opens; made while the ids are held, so that epochs grow in the order in which they change hands."""
        epochs = (k.table.epoch[k.slot] if isinstance(k, Place) else k.epoch for k in known.values() if k)
        epoch = self._keeper.new_epoch(int(max(epochs, default=0)))
        return Claimant(request.client_instance, request.attempt, epoch, time.time())

    async def _bring_in(
        self, opening: _Opening, by_id: dict[str, int], known: dict[str, Known], claimant: Claimant
    ) -> dict[int, Place]:
        """Let the sessions that may be opened be in memory, where their clients can go on with them."""
        new: dict[int, str] = {}
        live: dict[int, Place] = {}
        stored: dict[int, StoredSession] = {}
        for session_id, i in by_id.items():
            found = known.get(session_id)
            try:
                admit(self._finder, opening.request, i, found)
            except TidegateError as error:
                opening.refuse(i, error)
                continue
            if isinstance(found, Place):
                live[i] = found
            elif found is not None:
                stored[i] = found
            else:
                new[i] = session_id
        outcomes: dict[int, Place | TidegateError] = {}
        if live:
            outcomes |= await self._take(opening, live, claimant)
        if stored:
            reaches = [opening.request.reach(i) for i in stored]
            back = await self._returner.restore(list(stored.values()), reaches, claimant)
            outcomes |= zip(stored, back, strict=True)
        if new:
            assert opening.model is not None, "nothing is created without a model"
            outcomes |= zip(new, await self._create(opening.model, new, claimant), strict=True)
        for i, outcome in outcomes.items():
            if not isinstance(outcome, Place):
                opening.refuse(i, outcome)
        return {i: outcome for i, outcome in outcomes.items() if isinstance(outcome, Place)}

    async def _create(
        self, model: ModelKey, new: dict[int, str], claimant: Claimant
    ) -> list[Place | TidegateError]:
        try:
            return await self._creator.create(model, list(new.values()), claimant)
        except TidegateError as error:  # the version has gone; the other sessions are as they were
            return [error] * len(new)

    async def _take(
        self, opening: _Opening, live: dict[int, Place], claimant: Claimant
    ) -> dict[int, Place | TidegateError]:
        outcomes: dict[int, Place | TidegateError] = {}
        for table, places in _by_table(live):
            slots = np.array([place.slot for place in places.values()], np.int32)
            reaches = [opening.request.reach(i) for i in places]
            errors = await self._take_over.take(table, slots, reaches, claimant)
            for (i, place), error in zip(places.items(), errors, strict=True):
                outcomes[i] = error or place
        return outcomes


def _attach(opening: _Opening, places: dict[int, Place]) -> None:
    """Give sessions to the stream, and say where they stand."""
    stream, request, result = opening.stream, opening.request, opening.result
    for table, mine in _by_table(places):
        slots = np.array([place.slot for place in mine.values()], np.int32)
        handles = stream.handles.give_out(table, slots)
        table.owner[slots] = stream.number
        table.handle[slots] = handles
        table.last_used_s[slots] = time.monotonic()
        table.attempt[slots] = request.attempt
        columns = (slots, handles, table.next_step[slots], table.epoch[slots])
        for i, slot, handle, step, epoch in zip(mine, *(column.tolist() for column in columns), strict=True):
            table.opener[slot] = request.client_instance
            result.models[i], result.handles[i], result.next_steps[i] = table.model, handle, step
            result.epochs[i] = epoch


def _tell_durable(opening: _Opening) -> None:
    """Say last how far sessions are durable.

    Until the answer their handles mean nothing to the client, and what it was told of them meanwhile is lost.
    """
    handles, result = opening.stream.handles, opening.result
    given = np.array(result.handles, np.uint32)
    ours = np.flatnonzero(handles.status(given) == HandleStatus.OPEN)
    numbers, slots = handles.table_numbers(given[ours]), handles.slots(given[ours])
    for number in np.unique(numbers).tolist():
        mine = numbers == number
        durable_steps = handles.tables[number].books.base_step[slots[mine]].tolist()
        for i, step in zip(ours[mine].tolist(), durable_steps, strict=True):
            result.durable_steps[i] = step


def _by_table(places: dict[int, Place]) -> list[tuple[SessionTable, dict[int, Place]]]:
    tables = {id(place.table): place.table for place in places.values()}
    return [(table, {i: p for i, p in places.items() if p.table is table}) for table in tables.values()]


def _nothing_opened(request: OpenRequest) -> OpenResult:
    """The result to begin with: ids that are named twice are refused, all of them."""
    count = len(request.session_ids)
    result = OpenResult([None] * count, [0] * count, [0] * count, [0] * count, [0] * count)
    if len(set(request.session_ids)) < count:
        times = Counter(request.session_ids)
        for i, session_id in enumerate(request.session_ids):
            if times[session_id] > 1:
                result.errors[i] = InvalidRequest(f"session_ids: {session_id!r} is named twice")
    return result
