"""Free slots as a stack."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import ArenaFull
from tidegate.runner.slots import SlotPool


def test_the_lowest_slots_go_first_and_slot_0_never() -> None:
    pool = SlotPool(capacity=4)

    assert pool.acquire(3).tolist() == [1, 2, 3]
    assert pool.acquire(1).tolist() == [4]


def test_a_refused_acquire_takes_nothing() -> None:
    pool = SlotPool(capacity=3)
    pool.acquire(2)

    with pytest.raises(ArenaFull, match="2 slots asked for, 1 of 3 free"):
        pool.acquire(2)

    assert pool.acquire(1).tolist() == [3]


def test_what_was_given_back_is_handed_out_again_before_new_slots() -> None:
    pool = SlotPool(capacity=100)
    slots = pool.acquire(10)
    pool.release(slots[3:5])

    assert sorted(pool.acquire(2).tolist()) == slots[3:5].tolist()


def test_the_end_lies_above_every_slot_that_was_ever_handed_out() -> None:
    pool = SlotPool(capacity=100)
    ends = [pool.end]

    slots = pool.acquire(10)
    ends.append(pool.end)
    pool.release(slots)
    pool.acquire(5)
    ends.append(pool.end)

    assert ends == [1, 11, 11]


def test_a_slot_given_back_twice_is_our_mistake() -> None:
    pool = SlotPool(capacity=2)
    slots = pool.acquire(1)
    pool.release(slots)

    with pytest.raises(AssertionError, match="given back twice"):
        pool.release(slots)

    assert pool.num_free == 2


def test_slots_handed_out_earlier_do_not_change_later() -> None:
    pool = SlotPool(capacity=2)
    first = pool.acquire(1)
    kept = first.tolist()
    pool.release(np.array(kept, np.int32))

    pool.acquire(2)

    assert first.tolist() == kept


@given(st.lists(st.integers(-6, 6), max_size=40))
def test_no_slot_is_anyones_twice(changes: list[int]) -> None:
    pool, held = SlotPool(capacity=12), []

    for change in changes:
        if change >= 0 and change <= pool.num_free:
            held += pool.acquire(change).tolist()
        elif change < 0:
            back, held = held[:-change], held[-change:]
            pool.release(np.array(back, np.int32))

        assert len(set(held)) == len(held) == pool.capacity - pool.num_free
        assert set(held) <= set(range(1, 13))
