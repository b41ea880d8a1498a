"""What the server asks of a store of sessions, whatever keeps them.

A store knows sessions by id and by number. Of each it keeps a record and the states in its rows 0 and 1;
which of the two is base, and when a state is due, others decide. What always holds:

* every method is one commit: all of it is stored when it returns, none of it when it raises;
* a state is given back only if it is, byte for byte, what was written under that session, step and
  epoch; anything else is refused by name, and its neighbours still load;
* a kept answer is given back only with the state that it was written with, while that is the newest;
* a known id is never taken for an unknown one: a lost session leaves a tombstone, a damaged record says so.

Methods block. One thread at a time may call them; the server has one thread for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tidegate.session.stores.changes import Claim, ModelKey, NewSession, StateBatch
from tidegate.tensor import BoolArray, IntArray

NO_STATE = -1
"""Stands for a step where a row holds no usable state."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is still known of a lost session.

    Attributes:
        next_step: Steps that had been applied, as far as the store was told.
        durable_step: Last step that was reported as durable.
        reason: For people.
    """

    next_step: int
    durable_step: int
    reason: str


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as the store has it.

    Attributes:
        number: Its number.
        session_id: Its id, as it was asked for.
        model: Version that it is pinned to.
        creator: Client instance that created it.
        opener: Client instance that claimed it last; the creator before any claim.
        attempt: Of the opener.
        epoch: Of its last owner.
        used_s: Unix time of its last create, claim or write; of a tombstone, when it was lost.
        steps: Step of the state in row 0 and in row 1; NO_STATE if there is none that may be used.
        newest_step: Step of the newest state that should be there, 0 if it is the initial one; NO_STATE if not known.
        damage: What was refused or is missing, by name; empty if nothing is.
        tombstone: Set if the session is lost: it has no states, and its id must be refused. A session whose own record is
            damaged has one too; then only `number` and `session_id` mean anything.
        may_have_lost_steps: It was marked as running ahead, and the mark is still there: answers may have left for steps
            later than its newest state here.
    """

    number: int
    session_id: str
    model: ModelKey
    creator: bytes
    opener: bytes
    attempt: int
    epoch: int
    used_s: float
    steps: tuple[int, int]
    newest_step: int = NO_STATE
    damage: str = ""
    tombstone: Tombstone | None = None
    may_have_lost_steps: bool = False

    @property
    def next_step(self) -> int:
        """Step of the newest state; 0 if there is none but the initial one."""
        return max(0, *self.steps)

    @property
    def durable_step(self) -> int:
        """Step of the older of two states, or of the only one: what the session may be resumed from."""
        return min((step for step in self.steps if step != NO_STATE), default=0)


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """How much a store holds.

    Attributes:
        sessions: Sessions that are not lost.
        tombstones: Lost ones whose ids are remembered.
        disk_bytes: Size of the store on disk; 0 if it is not on one.
    """

    sessions: int
    tombstones: int
    disk_bytes: int


class Store(Protocol):
    """A store of sessions.

    Every method may raise StoreUnavailable, naming the place and the cause: the medium failed, and nothing was changed.

    Attributes:
        is_durable: What it keeps survives the process.
        last_number: Greatest session number in use when the store was opened; 0 if there was none.
    """

    is_durable: bool
    last_number: int

    def find(self, session_ids: Sequence[str]) -> dict[str, StoredSession]:
        """The known ones of these ids, tombstones included."""
        ...

    def create(self, sessions: Sequence[NewSession], states: StateBatch | None = None) -> None:
        """Add sessions.

        Args:
            sessions: Each begins with the initial state of its model, if it is not in `states`.
            states: What the sessions of one model version begin with, under their own epochs.

        Raises:
            SessionExists: An id is known.
            StoreFull: There would be more than `max_stored_sessions`.
        """
        ...

    def claim(self, claims: Sequence[Claim]) -> None:
        """Give sessions new owners, and delete what they must not continue from."""
        ...

    def write(self, batch: StateBatch) -> BoolArray:
        """Store states.

        Returns:
            Which were stored, shape (n,): False where the session has ended, is lost, or has another epoch by now.
        """
        ...

    def touch(self, numbers: IntArray, used_s: NDArray[np.float64], *, caught_up: Sequence[int] = ()) -> None:
        """Note when sessions were used; unknown numbers are passed over.

        Args:
            numbers: Of the sessions, shape (n,).
            used_s: Unix times, shape (n,).
            caught_up: Numbers of sessions whose marks go in the same commit, as by `unmark_ahead`.
        """
        ...

    def mark_ahead(self, numbers: Sequence[int]) -> None:
        """From now on, answers of these sessions may leave before the states that they led to are stored.

        The mark stays until `unmark_ahead`, `touch` or `end_run` removes it or the session ends; a crash leaves it, and
        `find` tells. Ask for it before the first such answer leaves. Unknown and lost numbers are passed over.
        """
        ...

    def unmark_ahead(self, numbers: Sequence[int]) -> None:
        """All that was answered of these sessions is stored; unknown numbers are passed over."""
        ...

    def end_run(self) -> None:
        """The process ends, and all that was answered is stored: the marks that it made go, older ones stay."""
        ...

    def read(self, wanted: Sequence[tuple[int, str, int]], model: ModelKey) -> list[bytes | None]:
        """The states in these rows.

        Args:
            wanted: Number and id of a session, and the row.
            model: The version that the states are read for.

        Returns:
            For each its bytes as in `StateBatch.states`; None if there is none that may be used.
        """
        ...

    def read_answers(self, wanted: Sequence[tuple[int, str]], model: ModelKey) -> list[bytes | None]:
        """The kept answers to the last requests of sessions.

        Args:
            wanted: Number and id of each session.
            model: The version that they are read for.

        Returns:
            For each its bytes as in `StateBatch.answers`; None if none was written with the newest state.
        """
        ...

    def end(self, numbers: Sequence[int]) -> None:
        """Delete sessions, lost ones too; their ids are free. Unknown numbers are passed over."""
        ...

    def bury(self, tombstones: Sequence[tuple[int, int, int, str]]) -> None:
        """Delete the states of sessions and keep their ids.

        Past `max_tombstones` the oldest are forgotten, and the log says so.

        Args:
            tombstones: Session number, next step, durable step and reason of each.
        """
        ...

    def expire(
        self, used_before_s: float, limit: int, spare: Collection[int], spare_ids: Collection[str] = ()
    ) -> list[StoredSession]:
        """Bury sessions that nobody has used since a time.

        Args:
            used_before_s: Unix time.
            limit: At most so many.
            spare: Numbers of sessions that are not buried, whatever their age.
            spare_ids: Ids of others that are not.

        Returns:
            Those that were buried.
        """
        ...

    def page(self, model_name: str, after: str, size: int) -> list[StoredSession]:
        """Sessions in the store's own order, which does not change; tombstones are left out.

        Args:
            model_name: Only sessions of this model; empty for all.
            after: Go on behind this id, known or not; empty for the first page.
            size: At most so many.
        """
        ...

    def count(self) -> StoreCounts:
        """How much is stored."""
        ...

    def check_writable(self) -> None:
        """Store something of no consequence.

        Raises:
            StoreUnavailable: Nothing can be stored at present.
        """
        ...

    def close(self) -> None:
        """Let go of the store; no other method may be called after it. Raises nothing."""
        ...
