"""The life of a session: every condition with every event."""

from __future__ import annotations

import pytest

from tidegate.protocol.lifecycle import TRANSITIONS, Condition, Event, after, allowed

REFUSED = None

# Written out a second time on purpose: a change to the life of a session is made in two places.
LIFE: dict[tuple[Condition, Event], Condition | None] = {
    (Condition.UNKNOWN, Event.CREATE): Condition.ATTACHED,
    (Condition.UNKNOWN, Event.RESUME): REFUSED,
    (Condition.UNKNOWN, Event.DETACH): REFUSED,
    (Condition.UNKNOWN, Event.STEP): REFUSED,
    (Condition.UNKNOWN, Event.EVICT): REFUSED,
    (Condition.UNKNOWN, Event.END): REFUSED,
    (Condition.ATTACHED, Event.CREATE): REFUSED,
    (Condition.ATTACHED, Event.RESUME): Condition.ATTACHED,
    (Condition.ATTACHED, Event.DETACH): Condition.DETACHED,
    (Condition.ATTACHED, Event.STEP): REFUSED,
    (Condition.ATTACHED, Event.EVICT): REFUSED,
    (Condition.ATTACHED, Event.END): Condition.UNKNOWN,
    (Condition.DETACHED, Event.CREATE): REFUSED,
    (Condition.DETACHED, Event.RESUME): Condition.ATTACHED,
    (Condition.DETACHED, Event.DETACH): REFUSED,
    (Condition.DETACHED, Event.STEP): Condition.DETACHED,
    (Condition.DETACHED, Event.EVICT): Condition.GONE,
    (Condition.DETACHED, Event.END): Condition.UNKNOWN,
    (Condition.GONE, Event.CREATE): REFUSED,
    (Condition.GONE, Event.RESUME): REFUSED,
    (Condition.GONE, Event.DETACH): REFUSED,
    (Condition.GONE, Event.STEP): REFUSED,
    (Condition.GONE, Event.EVICT): REFUSED,
    (Condition.GONE, Event.END): Condition.UNKNOWN,
}


def test_every_condition_meets_every_event_here() -> None:
    assert set(LIFE) == {(c, e) for c in Condition for e in Event}


@pytest.mark.parametrize(("condition", "event"), LIFE, ids=lambda x: x.name)
def test_what_may_happen_and_what_follows(condition: Condition, event: Event) -> None:
    follows = LIFE[condition, event]

    assert allowed(condition, event) is (follows is not None)
    if follows is not None:
        assert after(condition, event) is follows


def test_no_condition_is_a_trap() -> None:
    for condition in Condition:
        reached = {condition}
        for _ in Condition:
            reached |= {follows for c in reached for follows in TRANSITIONS[c].values()}

        assert reached == set(Condition)
