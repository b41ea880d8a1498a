"""The life of a session, as one table: what may happen in which condition, and what follows."""

from __future__ import annotations

from enum import IntEnum


class Condition(IntEnum):
    """Where a session is."""

    UNKNOWN = 0
    """Never opened, or ended: the id is free."""

    ATTACHED = 1
    """Held by a stream."""

    DETACHED = 2
    """Without a stream, in the arena."""

    GONE = 3
    """Evicted: the state is lost, a tombstone keeps the id from being restarted unknowingly."""


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
    """The server gives its state up."""

    END = 5
    """A client ends it: the id becomes free."""


TRANSITIONS: dict[Condition, dict[Event, Condition]] = {
    Condition.UNKNOWN: {Event.CREATE: Condition.ATTACHED},
    Condition.ATTACHED: {
        Event.RESUME: Condition.ATTACHED,
        Event.DETACH: Condition.DETACHED,
        Event.END: Condition.UNKNOWN,
    },
    Condition.DETACHED: {
        Event.RESUME: Condition.ATTACHED,
        Event.STEP: Condition.DETACHED,
        Event.EVICT: Condition.GONE,
        Event.END: Condition.UNKNOWN,
    },
    Condition.GONE: {Event.END: Condition.UNKNOWN},
}
"""What is not in this table is refused. An attached session is never evicted, and only ending an
evicted one, which tells that the loss is known, frees its id."""


def allowed(condition: Condition, event: Event) -> bool:
    """Whether the event may happen in this condition."""
    return event in TRANSITIONS[condition]


def after(condition: Condition, event: Event) -> Condition:
    """The condition that follows; the event must be allowed."""
    return TRANSITIONS[condition][event]
