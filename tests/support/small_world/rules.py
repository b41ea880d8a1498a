"""The rules of the protocol that a server obeys, and servers that have forgotten one of them."""

from __future__ import annotations

import numpy as np

from support.small_world.store import Disk, Kept
from tidegate.protocol.checkpoints import CheckpointBooks, RowArray
from tidegate.protocol.lifecycle import Condition
from tidegate.protocol.resume import UNSET, EpochVerdict, choose_steps, judge_epochs
from tidegate.tensor import SlotArray


class Rules:
    """The rules as they are."""

    books: type[CheckpointBooks] = CheckpointBooks

    def choose(self, candidates: list[int], have: int, held_from: int) -> int:
        """The step to go on from."""
        columns = np.array(candidates, np.int64)[:, None]
        return int(choose_steps(columns, np.array([have]), np.array([held_from]), np.array([True]))[0])

    def judge(self, stored: int, told: int, is_opener: bool) -> EpochVerdict:
        """What the epochs say."""
        return EpochVerdict(judge_epochs(np.array([stored]), np.array([told]), np.array([is_opener]))[0])

    def is_stale(self, attempt: int, newest: int) -> bool:
        """Whether a newer connection of the same client has been seen."""
        return attempt < newest

    def at_rest(self, disk: Disk) -> Condition:
        """The condition of a session that is not in memory."""
        if disk.is_buried:
            return Condition.GONE
        return Condition.PASSIVATED if disk.is_known else Condition.UNKNOWN

    def forget_above(self, kept: Kept | None, step: int) -> Kept | None:
        """What remains of a row when a resume goes on from `step`."""
        return None if kept is not None and kept.step > step else kept


class _OneRow(CheckpointBooks):
    def _other_row(self, slots: SlotArray) -> RowArray:
        return np.zeros(len(slots), np.int8)


class OneRowOnly(Rules):
    """Head is written over base."""

    books = _OneRow


class HeldFromIgnored(Rules):
    """Goes back to any state that the client has passed."""

    def choose(self, candidates: list[int], have: int, held_from: int) -> int:
        return super().choose(candidates, have, held_from if held_from == UNSET else 0)


class HaveIgnored(Rules):
    """Goes on from the newest state, whatever the client has."""

    def choose(self, candidates: list[int], have: int, held_from: int) -> int:
        return super().choose(candidates, UNSET, held_from)


class LostTailIgnored(Rules):
    """Does not mind an epoch that the store has forgotten."""

    def judge(self, stored: int, told: int, is_opener: bool) -> EpochVerdict:
        return super().judge(stored, min(told, stored), is_opener)


class TakeOverIgnored(Rules):
    """Lets a client that was displaced unawares go on."""

    def judge(self, stored: int, told: int, is_opener: bool) -> EpochVerdict:
        return super().judge(stored, told, is_opener=True)


class AttemptsIgnored(Rules):
    """Takes any connection of a client for its newest."""

    def is_stale(self, attempt: int, newest: int) -> bool:
        return False


class TombstonesIgnored(Rules):
    """Forgets that a session was lost."""

    def at_rest(self, disk: Disk) -> Condition:
        condition = super().at_rest(disk)
        return Condition.UNKNOWN if condition is Condition.GONE else condition


class NothingForgotten(Rules):
    """Leaves states of an abandoned branch in the store."""

    def forget_above(self, kept: Kept | None, step: int) -> Kept | None:
        return kept
