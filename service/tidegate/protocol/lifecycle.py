"""The life of a session, as one table: what may happen in which condition, and what follows."""

from __future__ import annotations

from enum import IntEnum


class Condition(IntEnum):
    """Where a session is."""

    UNKNOWN = 0
    """Never opened, or ended: the id is free."""

    ATTACHED = 1
    """Held by a stream, in the arena."""

    DETACHED = 2
    """Without a stream, in the arena."""

    GONE = 3
    """Lost, evicted or expired: a tombstone keeps the id from being restarted unknowingly."""

    PASSIVATED = 4
    """Without a stream, only in the store."""


class Event(IntEnum):
    """What may happen to a session."""

    CREATE = 0
    """A client asks for a new session under this id."""

    RESUME = 1
    """A stream takes the session over, from nobody or from another stream."""

    DETACH = 2
    """The stream gives it back, or is lost."""

    STEP = 3
    """A single call steps it by its id."""

    EVICT = 4
    """The server gives its state up, because it needs the room and the store does not take it."""

    END = 5
    """A client ends it: the id becomes free."""

    IMPORT = 6
    """A client makes it from a state: a snapshot, or that of another session (a fork)."""

    READ = 7
    """A call looks at its state: export, forecast, inspect, fork from it."""

    PASSIVATE = 8
    """Its state is stored, and its place in the arena given to others."""

    RETURN = 9
    """Its state comes back to the arena."""

    EXPIRE = 10
    """Nobody has used it for as long as the operator allows."""

    LOSE = 11
    """Its state turns out to be damaged, or to exist nowhere."""


TRANSITIONS: dict[Condition, dict[Event, Condition]] = {
    Condition.UNKNOWN: {
        Event.CREATE: Condition.ATTACHED,
        Event.IMPORT: Condition.PASSIVATED,
    },
    Condition.ATTACHED: {
        Event.RESUME: Condition.ATTACHED,
        Event.DETACH: Condition.DETACHED,
        Event.READ: Condition.ATTACHED,
        Event.LOSE: Condition.GONE,
        Event.END: Condition.UNKNOWN,
    },
    Condition.DETACHED: {
        Event.RESUME: Condition.ATTACHED,
        Event.STEP: Condition.DETACHED,
        Event.READ: Condition.DETACHED,
        Event.PASSIVATE: Condition.PASSIVATED,
        Event.EVICT: Condition.GONE,
        Event.EXPIRE: Condition.GONE,
        Event.LOSE: Condition.GONE,
        Event.END: Condition.UNKNOWN,
    },
    Condition.PASSIVATED: {
        Event.RESUME: Condition.ATTACHED,
        Event.STEP: Condition.DETACHED,
        Event.READ: Condition.PASSIVATED,
        Event.RETURN: Condition.DETACHED,
        Event.EXPIRE: Condition.GONE,
        Event.LOSE: Condition.GONE,
        Event.END: Condition.UNKNOWN,
    },
    Condition.GONE: {Event.END: Condition.UNKNOWN},
}
"""What is not in this table is refused. A session that a stream holds is never evicted, expired,
passivated or stepped by a single call. A passivated one is resumed and stepped as if it were in the
arena: it returns for it. Only ending a session that is gone, which tells that the loss is known, frees
its id."""


def allowed(condition: Condition, event: Event) -> bool:
    """Whether the event may happen in this condition."""
    return event in TRANSITIONS[condition]


def after(condition: Condition, event: Event) -> Condition:
    """The condition that follows; the event must be allowed."""
    return TRANSITIONS[condition][event]
