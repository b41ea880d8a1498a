"""Opening sessions on a stream: creating new ones and taking known ones over.

A resume displaces: the network may have cut a client off without the server having noticed. The older
stream's waiting rows are dropped, its running batch is written back, and only then does the newer one
learn where to go on.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import ExitStack

import numpy as np

from tidegate.engine.pool import ModelPool
from tidegate.errors import (
    Displaced,
    InvalidRequest,
    MessageTooLarge,
    SessionNotFound,
    StaleAttempt,
    TidegateError,
)
from tidegate.protocol.lifecycle import Event
from tidegate.session.handles import HandleStatus
from tidegate.session.limits import MAX_CLIENT_INSTANCE_BYTES, SessionLimits
from tidegate.session.open_request import (
    OpenMode,
    OpenRequest,
    OpenResult,
    check_model,
    check_reach,
    check_session_id,
    check_version,
)
from tidegate.session.registry import Place, Registry
from tidegate.session.rows import handle_error
from tidegate.session.stream import NoticeReason, SessionStream
from tidegate.session.table import NO_STREAM, SessionTable
from tidegate.tensor import SlotArray

PIECE = 1024
"""Sessions opened before others get the event loop."""


class Opener:
    """Opens sessions for all streams."""

    def __init__(
        self, pool: ModelPool, registry: Registry, streams: dict[int, SessionStream], limits: SessionLimits
    ) -> None:
        self._pool = pool
        self._registry = registry
        self._streams = streams
        self._limits = limits

    async def open(self, stream: SessionStream, request: OpenRequest) -> OpenResult:
        """Open the sessions of a request; each succeeds or fails by itself.

        Raises:
            InvalidRequest: The request's form is wrong.
            MessageTooLarge: It names too many sessions.
            TooManyRequests: The stream has no handles left for them.
            ModelNotFound: There is no such model or version.
            PackageError: The version is refused at load.
        """
        self._check(request)
        stream.handles.check_room(len(request.session_ids))
        result = _nothing_opened(request)
        table = None
        with ExitStack() as until_opened:
            if request.mode is not OpenMode.RESUME:
                model = await self._pool.resolve(request.model, request.version, request.sha256)
                until_opened.enter_context(model.in_use())
                table = self._registry.table_of(model)
            for start in range(0, len(request.session_ids), PIECE):
                piece = range(start, min(start + PIECE, len(request.session_ids)))
                await self._open_piece(stream, request, result, table, piece)
                await asyncio.sleep(0)
        return result

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
        for name, values in (("have", request.have), ("held_from", request.held_from)):
            if len(values) != count:
                raise InvalidRequest(f"{name}: expected none or one per session ({count}), got {len(values)}")

    async def _open_piece(
        self,
        stream: SessionStream,
        request: OpenRequest,
        result: OpenResult,
        table: SessionTable | None,
        positions: range,
    ) -> None:
        """Open some of the sessions."""
        new: dict[str, int] = {}
        known: dict[int, Place] = {}
        for i in positions:
            if i in result.errors:
                continue
            try:
                place = self._admit(request, i)
            except TidegateError as error:
                result.errors[i] = error.with_traceback(None)  # which would keep a frame for each
                continue
            if place is None:
                new[request.session_ids[i]] = i
            else:
                known[i] = place
        if new:
            assert table is not None
            self._create(stream, request, result, table, new)
        if known:
            await self._resume(stream, request, result, known)

    def _admit(self, request: OpenRequest, i: int) -> Place | None:
        """Where the i-th session is, None if it is to be created; raise what forbids opening it."""
        session_id, have = request.session_ids[i], request.have[i]
        check_session_id(session_id)
        place = self._registry.find(session_id)
        creates = place is None and request.mode is not OpenMode.RESUME
        if place is not None and request.mode is OpenMode.CREATE:
            resent = request.client_instance and place.table.creator[place.slot] == request.client_instance
            creates = not resent
        self._registry.require(session_id, Event.CREATE if creates else Event.RESUME)
        if place is None:
            if request.mode is OpenMode.CREATE_OR_RESUME and (have or 0) > 0:
                raise SessionNotFound(
                    f"no session {session_id!r}, and it is not created for a client that has answers before {have}"
                )
            return None
        table, slot = place
        check_version(request, table)
        same_client = request.client_instance and table.opener[slot] == request.client_instance
        if same_client and request.attempt < int(table.attempt[slot]):
            raise StaleAttempt(f"attempt: expected at least {table.attempt[slot]}, got {request.attempt}")
        check_reach(place.next_step, session_id, have, request.held_from[i], final=False)
        return place

    def _create(
        self,
        stream: SessionStream,
        request: OpenRequest,
        result: OpenResult,
        table: SessionTable,
        new: dict[str, int],
    ) -> None:
        ids = list(new)
        room = min(len(ids), table.pool.num_free)
        for session_id in ids[room:]:
            result.errors[new[session_id]] = table.full(self._limits.retry_after_s)
        if room:
            slots = self._registry.create(table, ids[:room], request.client_instance)
            self._attach(stream, request, result, table, slots, [new[i] for i in ids[:room]])

    async def _resume(
        self, stream: SessionStream, request: OpenRequest, result: OpenResult, known: dict[int, Place]
    ) -> None:
        taken: list[tuple[SessionTable, SlotArray, list[int]]] = []
        # All of them before the first wait: during it a session may end, and its slot be another's.
        for table in {id(p.table): p.table for p in known.values()}.values():
            positions = [i for i, p in known.items() if p.table is table]
            slots = np.array([known[i].slot for i in positions], np.int32)
            self._displace(table, slots)
            self._attach(stream, request, result, table, slots, positions)
            stream.in_hand.update(result.handles[i] for i in positions)
            taken.append((table, slots, positions))
        for table, slots, positions in taken:
            await table.model.engine.settle(slots)
            for i, slot in zip(positions, slots.tolist(), strict=True):
                stream.in_hand.discard(result.handles[i])
                self._confirm(stream, request, result, i, Place(table, slot))

    def _displace(self, table: SessionTable, slots: SlotArray) -> None:
        """Take sessions from the streams that hold them, and drop what waits there."""
        engine = table.model.engine
        table.drop(slots, _displaced)
        for number in np.unique(table.owner[slots]).tolist():
            if number == NO_STREAM:
                continue
            older, theirs = self._streams[number], slots[table.owner[slots] == number]
            handles = table.handle[theirs]
            older.handles.mark(handles, HandleStatus.DISPLACED)
            what = (
                f"session {table.ids[theirs[0]]!r} was"
                if len(theirs) == 1
                else f"{len(theirs)} sessions were"
            )
            older.tell(
                NoticeReason.DISPLACED,
                handles.tolist(),
                engine.expected_steps(theirs),
                f"{what} resumed by another stream",
            )

    def _attach(
        self,
        stream: SessionStream,
        request: OpenRequest,
        result: OpenResult,
        table: SessionTable,
        slots: SlotArray,
        positions: list[int],
    ) -> None:
        handles = stream.handles.give_out(table, slots)
        table.owner[slots] = stream.number
        table.handle[slots] = handles
        table.last_used_s[slots] = time.monotonic()
        table.attempt[slots] = request.attempt
        for i, slot, handle, step in zip(
            positions, slots.tolist(), handles.tolist(), table.next_step[slots].tolist(), strict=True
        ):
            table.opener[slot] = request.client_instance
            result.models[i], result.handles[i], result.next_steps[i] = table.model, handle, step

    def _confirm(
        self, stream: SessionStream, request: OpenRequest, result: OpenResult, i: int, place: Place
    ) -> None:
        """Report where a resumed session stands now, or that it was lost to another in between."""
        handle, session_id = result.handles[i], request.session_ids[i]
        status = HandleStatus(int(stream.handles.status(np.array([handle], np.uint32))[0]))
        try:
            if status is not HandleStatus.OPEN:
                raise handle_error(status, handle)
            check_reach(place.next_step, session_id, request.have[i], request.held_from[i], final=True)
            result.next_steps[i] = place.next_step
        except TidegateError as error:
            if status is HandleStatus.OPEN:
                place.table.owner[place.slot] = NO_STREAM
                # A client may have guessed the handle and sent rows, which nobody would drop later.
                place.table.drop(np.array([place.slot], np.int32), _displaced)
            stream.handles.take_back(np.array([handle], np.uint32))
            result.models[i], result.handles[i], result.next_steps[i] = None, 0, 0
            result.errors[i] = error


def _nothing_opened(request: OpenRequest) -> OpenResult:
    """The result to begin with: ids that are named twice are refused, all of them."""
    count = len(request.session_ids)
    result = OpenResult([None] * count, [0] * count, [0] * count)
    if len(set(request.session_ids)) < count:
        times = Counter(request.session_ids)
        for i, session_id in enumerate(request.session_ids):
            if times[session_id] > 1:
                result.errors[i] = InvalidRequest(f"session_ids: {session_id!r} is named twice")
    return result


def _displaced(next_step: int) -> Displaced:
    return Displaced(f"another stream has resumed the session at step {next_step}", next_step=next_step)
