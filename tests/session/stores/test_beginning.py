"""Sessions that begin with a state: both are in the store, or neither is."""

import pytest

from support.stores import MODEL, batch, session, state
from tidegate.session.stores.store import NO_STATE, Store


def test_a_session_may_begin_with_a_state(store: Store) -> None:
    store.create([session(1), session(2)], batch([2], row=0, step=7))

    found = store.find(["s1", "s2"])
    assert (found["s1"].steps, found["s2"].steps) == ((NO_STATE, NO_STATE), (7, NO_STATE))
    assert (found["s2"].next_step, found["s2"].durable_step) == (7, 7)
    assert store.read([(2, "s2", 0)], MODEL) == [state(2, 7)]


def test_a_session_that_cannot_have_its_state_does_not_begin(store: Store) -> None:
    store.create([session(1)])

    with pytest.raises(AssertionError):
        store.create([session(2)], batch([2], row=0, step=7, epoch=99))

    assert set(store.find(["s1", "s2"])) == {"s1"}
    assert store.count().sessions == 1


def test_the_older_of_two_states_is_the_durable_one(store: Store) -> None:
    store.create([session(1)])
    store.write(batch([1], row=1, step=5))
    store.write(batch([1], row=0, step=9))

    found = store.find(["s1"])["s1"]

    assert (found.next_step, found.durable_step) == (9, 5)
