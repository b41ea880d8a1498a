"""Sessions that begin with a state: a fork has that of another session, an import that of a snapshot.

Such a session is stored first, its record and its state in one commit, and only then brought into memory
and answered. So a crash leaves all of it or nothing, and while the store does not work none begins.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import MessageTooLarge, ModelMismatch
from tidegate.model.manifest import Manifest
from tidegate.protocol.lifecycle import Event
from tidegate.session.choosing import NEWEST
from tidegate.session.manager import SessionManager
from tidegate.session.open_request import check_own_id, check_session_id
from tidegate.session.registry import Place
from tidegate.session.single import SessionView
from tidegate.session.snapshot import Snapshot, Tensor, pack, tensors_of, unpack
from tidegate.session.stores.changes import ModelKey, NewSession, StateBatch
from tidegate.session.stores.store import NO_STATE, StoredSession
from tidegate.session.whole import to_the_end

MESSAGE_MARGIN_BYTES = 256
"""What a message has beside the snapshot: an id and protobuf's own bytes."""


class _Start(NamedTuple):
    """Where a session begins.

    Attributes:
        next_step: Steps applied to the state.
        state: As the store keeps it, `[1, state_bytes]`.
    """

    next_step: int
    state: NDArray[np.uint8]


class Snapshots:
    """Export, import and fork of the sessions of one server."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager

    async def export(self, session_id: str) -> bytes:
        """Copy a session's state into a snapshot; the session goes on, and a stream may hold it.

        Raises:
            InvalidRequest: This can be no session's id.
            SessionNotFound: No session has this id.
            SessionLost: Its state was given up.
            MessageTooLarge: The snapshot does not fit into one message.
            ArenaFull: There is no room to bring it back from the store.
            StoreUnavailable: The store cannot be read.
        """
        self._manager.check_running()
        check_session_id(session_id)
        async with self._manager.returner.present(session_id, Event.READ) as place:
            manifest = place.table.model.manifest
            limit_bytes = self._manager.limits.max_message_bytes - MESSAGE_MARGIN_BYTES
            start = await _copy(place)
        snapshot = Snapshot(
            place.table.key, session_id, start.next_step, tensors_of(manifest), start.state.tobytes()
        )
        # In a thread: the checksum of a large state takes as long as many steps.
        data = await asyncio.to_thread(pack, snapshot)
        if len(data) > limit_bytes:
            raise MessageTooLarge(
                f"snapshot: expected at most {limit_bytes} bytes, {manifest.label} has {len(data)}"
            )
        return data

    async def restore(self, data: bytes, session_id: str = "") -> SessionView:
        """Begin a session with the state of a snapshot; it is stored when this returns.

        Args:
            data: The snapshot.
            session_id: Of the new session; "" for the id in the snapshot.

        Raises:
            InvalidRequest: This is no snapshot, or a damaged one; or this can be no session's id.
            ModelNotFound: There is no such model or version here.
            ModelMismatch: The version here is another one under the same number.
            PackageError: The version is refused at load.
            SessionExists: A session has this id.
            SessionLost: One had, and its state was given up.
            StoreFull: As many sessions are known as may be.
            StoreUnavailable: The store does not take it; nothing has begun.
            TooManyRequests: Too many bytes are waiting.
        """
        self._manager.check_running()
        return await to_the_end(self._restore(data, session_id))

    async def fork(self, session_id: str, new_id: str) -> SessionView:
        """Begin a session with the state that another has now, whether a stream holds that or not.

        The new one is stored when this returns; the other one is as it was.

        Raises:
            InvalidRequest: One of these can be no session's id.
            SessionNotFound: No session has the first id.
            SessionExists: A session has the new id.
            SessionLost: The state of one of them was given up.
            ArenaFull: There is no room to bring the first back from the store.
            StoreFull: As many sessions are known as may be.
            StoreUnavailable: The store does not take it; nothing has begun.
        """
        self._manager.check_running()
        check_session_id(session_id)
        check_own_id(new_id)
        return await to_the_end(self._fork(session_id, new_id))

    async def _restore(self, data: bytes, session_id: str) -> SessionView:
        self._manager.budget.take(len(data))
        try:
            snapshot = await asyncio.to_thread(unpack, data)
            session_id = session_id or snapshot.session_id
            check_own_id(session_id)
            loaded = await self._manager.pool.resolve(*snapshot.model)
            with loaded.in_use():
                _check_tensors(loaded.manifest, snapshot.tensors)
                async with self._manager.holds.take([session_id]):
                    known = await self._manager.finder.find([session_id])
                    self._manager.finder.require(session_id, known[session_id], Event.IMPORT)
                    state = np.frombuffer(snapshot.state, np.uint8)[np.newaxis]
                    start = _Start(snapshot.next_step, state)
                    return await self._begin(session_id, snapshot.model, start)
        finally:
            self._manager.budget.give_back(len(data))

    async def _fork(self, session_id: str, new_id: str) -> SessionView:
        async with self._manager.holds.take([session_id, new_id]):
            known = await self._manager.finder.find([session_id, new_id])
            self._manager.finder.require(session_id, known[session_id], Event.READ)
            self._manager.finder.require(new_id, known[new_id], Event.IMPORT)
            source = known[session_id]
            assert source is not None, "an unknown session was let through"
            place = await self._manager.returner.bring_in(source)
            return await self._begin(new_id, place.table.key, await _copy(place))

    async def _begin(self, session_id: str, model: ModelKey, start: _Start) -> SessionView:
        """Store a session whose id is held and free, then bring it into memory if there is room."""
        keeper, now_s = self._manager.keeper, time.time()
        (number,) = keeper.new_numbers(1)
        epoch = keeper.new_epoch()
        record = NewSession(number, session_id, model, b"", 0, epoch, now_s)
        state = StateBatch(
            model=model,
            numbers=np.array([number], np.int64),
            session_ids=[session_id],
            # The row that is only written once the base is no more the initial state, as it never was here.
            rows=np.ones(1, np.int8),
            steps=np.array([start.next_step], np.int64),
            epochs=np.array([epoch], np.int64),
            used_s=np.array([now_s]),
            states=start.state,
        )
        await keeper.write(lambda store: store.create([record], state))
        steps = (NO_STATE, start.next_step)
        stored = StoredSession(number, session_id, model, b"", b"", 0, epoch, now_s, steps)
        # The session exists by now. Where it finds no place it comes back when somebody needs it.
        (outcome,) = await self._manager.returner.restore([stored], [NEWEST], None)
        condition = self._manager.finder.condition(outcome if isinstance(outcome, Place) else stored)
        durable_step = start.next_step if keeper.is_durable else 0
        return SessionView(session_id, model, condition, start.next_step, durable_step, now_s)


async def _copy(place: Place) -> _Start:
    """A session's state between two batches."""
    slots = np.array([place.slot], np.int32)
    return await place.table.model.engine.errands.look(
        lambda: _Start(place.next_step, place.table.stored_bytes(slots))
    )


def _check_tensors(manifest: Manifest, tensors: tuple[Tensor, ...]) -> None:
    """Refuse states that the version's package describes in another way."""
    here = tensors_of(manifest)
    if here != tensors:
        raise ModelMismatch(
            f"snapshot: states: {manifest.label} carries {_listed(here)} here, got {_listed(tensors)}"
        )


def _listed(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(map(str, tensors)) or "none"
