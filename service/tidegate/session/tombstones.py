"""Ids of sessions whose state is lost, so that nobody restarts one unknowingly (promise P4).

Bounded: past the limit the oldest are forgotten, and the log says so.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from tidegate.errors import SessionLost

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is still known of a lost session."""

    next_step: int
    reason: str

    def error(self, session_id: str) -> SessionLost:
        """What a client is told that asks for the session."""
        return SessionLost(
            f"session {session_id!r} was lost after {self.next_step} steps: {self.reason}; close it to use the id again",
            next_step=self.next_step,
        )


class Tombstones:
    """Lost sessions by id, oldest first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._by_id: dict[str, Tombstone] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, session_id: str) -> Tombstone | None:
        """The tombstone of an id, if it has one."""
        return self._by_id.get(session_id)

    def add(self, session_id: str, tombstone: Tombstone) -> None:
        """Remember a lost session."""
        if len(self._by_id) >= self._capacity:
            forgotten = next(iter(self._by_id))
            del self._by_id[forgotten]
            log.warning("tombstone forgotten, raise max_tombstones", extra={"session_id": forgotten})
        self._by_id[session_id] = tombstone

    def remove(self, session_id: str) -> Tombstone | None:
        """Make the id free again."""
        return self._by_id.pop(session_id, None)
