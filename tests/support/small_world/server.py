"""A server of one session that decides by the functions of `tidegate.protocol`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from support.small_world.messages import (
    Ack,
    Answer,
    Connection,
    Durable,
    Open,
    Opened,
    Refused,
    State,
    Step,
    ToServer,
)
from support.small_world.rules import Rules
from support.small_world.store import Disk, Kept, Store
from support.small_world.witness import Witness
from tidegate.protocol.checkpoints import NO_ROW
from tidegate.protocol.lifecycle import Condition, Event, after, allowed
from tidegate.protocol.numbering import StepVerdict, judge_steps
from tidegate.protocol.resume import EpochVerdict

ARENA = -2
"""In place of a row: the live state."""

SLOT = np.array([1], np.int32)


class Server:
    """One life of the server process."""

    def __init__(self, rules: Rules, store: Store, witness: Witness, clock: Callable[[], int]) -> None:
        self.rules, self.store, self.witness, self.clock = rules, store, witness, clock
        self.condition = rules.at_rest(store.disk)
        self.books = rules.books(capacity=1)
        self.live: State | None = None
        self.holder: Connection | None = None

    def receive(self, connection: Connection, message: ToServer) -> None:
        """Serve a message."""
        match message:
            case Open():
                connection.to_client.append(self._open(connection, message))
            case Step() if connection is self.holder:
                connection.to_client.append(self._step(message))
            case Ack(step) if connection is self.holder and step <= len(self.live or ()):
                if self.books.ack(SLOT, np.array([step])).size:
                    self._report()
            case Step():
                connection.to_client.append(Refused("HANDLE", is_final=False))

    # What the server does by itself.

    def begin_checkpoint(self) -> None:
        """Hand the live state to the store, if that is new to it."""
        if self.live is None or self.books.is_writing(SLOT).any() or not self._is_dirty():
            return
        write = self.books.begin_write(SLOT, np.array([len(self.live)]))
        self.store.queue.append((write, Kept(len(self.live), self.live, self.store.disk.epoch)))

    def commit(self) -> None:
        """The store commits the oldest write."""
        if self.store.queue and self.books.written(self.store.commit_write()).size:
            self._report()

    def detach(self) -> None:
        """The holder's connection is gone."""
        self.holder, self.condition = None, after(self.condition, Event.DETACH)

    def passivate(self) -> None:
        """Give the place in the arena to others, if the state is stored."""
        if allowed(self.condition, Event.PASSIVATE) and not self._is_dirty():
            self._drain()
            self.live, self.condition = None, after(self.condition, Event.PASSIVATE)

    def expire(self) -> None:
        """Bury the session, if nobody uses it."""
        if allowed(self.condition, Event.EXPIRE):
            self._remove(replace(self.store.disk, is_buried=True, rows=(None, None)))
            self.witness.upset(is_buried=True)

    def end(self) -> None:
        """A client that is not in this world ends the session."""
        if allowed(self.condition, Event.END):
            self._tell_holder("ENDED")
            self._remove(Disk())
            self.witness.upset(is_buried=False)

    # Opening.

    def _open(self, connection: Connection, m: Open) -> Opened | Refused:
        if self.condition is Condition.UNKNOWN:
            if m.mode == "resume" or m.have > 0:
                return Refused("NOT_FOUND", is_final=True)
            return self._create(connection, m)
        refusal = self._refuse(m)
        if refusal is not None:
            return refusal
        self._drain()
        states = self._states()
        step = self.rules.choose([s for s, _ in states], m.have, m.held_from)
        if step < 0:
            return Refused("LOST", is_final=True)
        row = next((row for s, row in states if s == step), NO_ROW)
        return self._attach(connection, m, step, row)

    def _refuse(self, m: Open) -> Refused | None:
        disk = self.store.disk
        if not allowed(self.condition, Event.RESUME):
            return Refused("LOST", is_final=True)
        if m.mode == "create" and disk.creator != m.instance:
            return Refused("EXISTS", is_final=True)
        is_opener = disk.opener == m.instance
        if is_opener and self.rules.is_stale(m.attempt, disk.attempt):
            return Refused("STALE", is_final=False)
        verdict = self.rules.judge(disk.epoch, m.epoch, is_opener)
        if verdict is EpochVerdict.CURRENT:
            return None
        return Refused("LOST" if verdict is EpochVerdict.STORE_BEHIND else "DISPLACED", is_final=True)

    def _create(self, connection: Connection, m: Open) -> Opened:
        epoch = self.clock()
        self._drain()
        self.store.commit(
            Disk(is_known=True, creator=m.instance, opener=m.instance, attempt=m.attempt, epoch=epoch)
        )
        self.books.created(SLOT)
        self.live, self.holder, self.condition = (), connection, after(Condition.UNKNOWN, Event.CREATE)
        self.witness.created(m.instance, epoch)
        return Opened(0, 0, epoch)

    def _attach(self, connection: Connection, m: Open, step: int, row: int) -> Opened:
        epoch, disk = self.clock(), self.store.disk
        kept = disk.rows[row] if row >= 0 else None
        rows = (self.rules.forget_above(disk.rows[0], step), self.rules.forget_above(disk.rows[1], step))
        self.store.commit(replace(disk, epoch=epoch, opener=m.instance, attempt=m.attempt, rows=rows))
        if row != ARENA:
            self.live = () if kept is None else kept.state
            self.books.resumed(SLOT, np.array([step]), np.array([row], np.int8))
        self._tell_holder("DISPLACED")
        self.holder, self.condition = connection, after(self.condition, Event.RESUME)
        self.witness.opened(m.instance, epoch, step, self.live or ())
        return Opened(step, int(self.books.base_step[1]), epoch)

    def _states(self) -> list[tuple[int, int]]:
        """Steps of the states that exist, with their rows; a row that holds another step is not the state."""
        on_disk = [(step, row) for row, step in enumerate(self.store.disk.steps)]
        if self.live is None:
            return on_disk
        newest, row = self.books.newest_stored(SLOT)
        base = (int(self.books.base_step[1]), int(self.books.base_row[1]))
        booked = [base, (int(newest[0]), int(row[0]))]
        return [(len(self.live), ARENA), *(s for s in booked if s in on_disk or s[1] == NO_ROW)]

    # Stepping.

    def _step(self, m: Step) -> Answer | Refused:
        assert self.live is not None
        expected = len(self.live)
        if judge_steps(np.array([m.first]), len(m.inputs), np.array([expected]))[0] != StepVerdict.NEXT:
            return Refused("WRONG_STEP", is_final=False)
        self.live += m.inputs
        self.witness.stepped(m.inputs)
        return Answer(m.first, tuple(self.live[: k + 1] for k in range(expected, len(self.live))))

    def _is_dirty(self) -> bool:
        return bool(self.books.is_dirty(SLOT, np.array([len(self.live or ())])).any())

    def _drain(self) -> None:
        while self.store.queue:
            self.commit()

    def _report(self) -> None:
        if self.holder is not None:
            self.holder.to_client.append(Durable(int(self.books.base_step[1])))

    def _tell_holder(self, reason: str) -> None:
        if self.holder is not None:
            self.holder.to_client.append(Refused(reason, is_final=True))
            self.holder = None

    def _remove(self, disk: Disk) -> None:
        self._drain()
        self.store.commit(disk)
        self.live, self.condition = None, self.rules.at_rest(disk)
