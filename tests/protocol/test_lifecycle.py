"""The life of a session: every condition with every event."""

from __future__ import annotations

from itertools import product

import pytest

from tidegate.protocol.lifecycle import TRANSITIONS, Condition, Event, after, allowed

C, E = Condition, Event


HAS_STATE = {C.ATTACHED, C.DETACHED, C.PASSIVATED}
WITHOUT_STREAM = {C.DETACHED, C.PASSIVATED}

# Said a second time on purpose, event by event: a change to the life of a session is made in two places.
RULES: dict[Event, tuple[set[Condition], Condition | None]] = {
    E.CREATE: ({C.UNKNOWN}, C.ATTACHED),  # never an id that anyone knows
    E.IMPORT: ({C.UNKNOWN}, C.PASSIVATED),  # likewise; its state is stored first
    E.END: (set(Condition) - {C.UNKNOWN}, C.UNKNOWN),  # whatever is known can be ended
    E.RESUME: (HAS_STATE, C.ATTACHED),  # a stream takes whatever has a state, from whomever
    E.READ: (HAS_STATE, None),  # looking changes nothing
    E.LOSE: (HAS_STATE, C.GONE),  # damage does not ask who holds what
    E.STEP: (WITHOUT_STREAM, C.DETACHED),  # never beside a stream
    E.EXPIRE: (WITHOUT_STREAM, C.GONE),  # a stream keeps a session in use
    E.EVICT: ({C.DETACHED}, C.GONE),  # only a place in the arena that no stream needs is taken
    E.PASSIVATE: ({C.DETACHED}, C.PASSIVATED),
    E.RETURN: ({C.PASSIVATED}, C.DETACHED),
    E.DETACH: ({C.ATTACHED}, C.DETACHED),  # only a stream can give back
}
"""The conditions in which an event may happen, and what follows; None: the same condition."""


def test_every_event_has_its_rule() -> None:
    assert set(RULES) == set(Event)


@pytest.mark.parametrize(("condition", "event"), list(product(Condition, Event)), ids=lambda x: x.name)
def test_what_may_happen_and_what_follows(condition: Condition, event: Event) -> None:
    sources, target = RULES[event]

    assert allowed(condition, event) is (condition in sources)
    if condition in sources:
        assert after(condition, event) is (condition if target is None else target)


def test_no_condition_is_a_trap() -> None:
    for condition in Condition:
        reached = {condition}
        for _ in Condition:
            reached |= {follows for c in reached for follows in TRANSITIONS[c].values()}

        assert reached == set(Condition)


def test_an_id_that_is_gone_is_freed_by_ending_it_and_by_nothing_else() -> None:
    assert {event for event in Event if allowed(Condition.GONE, event)} == {Event.END}


@pytest.mark.parametrize("event", [E.EVICT, E.EXPIRE, E.PASSIVATE, E.STEP, E.RETURN], ids=lambda x: x.name)
def test_what_the_server_does_by_itself_never_touches_an_attached_session(event: Event) -> None:
    assert not allowed(Condition.ATTACHED, event)


def test_a_session_is_lost_only_by_events_that_say_so() -> None:
    losing = {event for c in Condition for event in Event if allowed(c, event) and after(c, event) is C.GONE}

    assert losing == {Event.EVICT, Event.EXPIRE, Event.LOSE}
