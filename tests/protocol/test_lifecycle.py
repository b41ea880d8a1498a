"""The life of a session: every condition with every event."""

from __future__ import annotations

from itertools import product

import pytest

from tidegate.protocol.lifecycle import TRANSITIONS, Condition, Event, after, allowed

C, E = Condition, Event


def rule(condition: Condition, event: Event) -> Condition | None:
    """The life of a session as rules, each about one kind of event; None: refused.

    Said a second time on purpose: a change to the life of a session is made in two places.
    """
    exists = condition in (C.ATTACHED, C.DETACHED, C.PASSIVATED)
    free_of_streams = condition in (C.DETACHED, C.PASSIVATED)
    in_arena = condition in (C.ATTACHED, C.DETACHED)
    match event:
        case E.CREATE | E.IMPORT:  # Only where nobody knows the id.
            made = C.ATTACHED if event is E.CREATE else C.PASSIVATED
            return made if condition is C.UNKNOWN else None
        case E.END:  # Whatever is known can be ended.
            return C.UNKNOWN if condition is not C.UNKNOWN else None
        case E.RESUME:  # Whatever has a state can be resumed.
            return C.ATTACHED if exists else None
        case E.READ:  # Looking changes nothing.
            return condition if exists else None
        case E.STEP:  # Never beside a stream; leaves it in the arena.
            return C.DETACHED if free_of_streams else None
        case E.LOSE:  # Damage does not ask who holds what.
            return C.GONE if exists else None
        case E.EXPIRE:  # A stream keeps a session in use.
            return C.GONE if free_of_streams else None
        case E.EVICT:  # Takes a place in the arena that no stream needs.
            return C.GONE if free_of_streams and in_arena else None
        case E.PASSIVATE:
            return C.PASSIVATED if free_of_streams and in_arena else None
        case E.RETURN:
            return C.DETACHED if free_of_streams and not in_arena else None
        case E.DETACH:  # Only a stream can give back.
            return C.DETACHED if in_arena and not free_of_streams else None


@pytest.mark.parametrize(("condition", "event"), product(Condition, Event), ids=lambda x: x.name)
def test_what_may_happen_and_what_follows(condition: Condition, event: Event) -> None:
    follows = rule(condition, event)

    assert allowed(condition, event) is (follows is not None)
    if follows is not None:
        assert after(condition, event) is follows


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
