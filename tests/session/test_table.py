"""Sessions of one version as arrays by slot."""

from __future__ import annotations

import numpy as np
import pytest

from support.session_bench import MAX_SESSIONS, SessionBench
from tidegate.errors import ArenaFull
from tidegate.session.table import SessionTable
from tidegate.tensor import SlotArray


@pytest.fixture
async def table(bench: SessionBench) -> SessionTable:
    return SessionTable(await bench.pool.load("counter"))


def create(table: SessionTable, ids: list[str], creator: bytes = b"") -> SlotArray:
    return table.create(ids, range(7, 7 + len(ids)), creator=creator, attempt=3, epoch=11)


def test_new_sessions_begin_at_step_0_detached_with_the_initial_state(table: SessionTable) -> None:
    slots = create(table, ["a", "b"], b"me")

    assert [table.ids[s] for s in slots] == ["a", "b"]
    assert [table.creator[s] for s in slots] == [b"me", b"me"]
    assert not table.accepted[slots].any()
    assert (table.number[slots].tolist(), table.epoch[slots].tolist()) == ([7, 8], [11, 11])
    assert table.attempt[slots].tolist() == [3, 3]
    assert all(table.model.runner.arena.is_initial(int(s)) for s in slots)
    assert (table.num_sessions, table.num_attached) == (2, 0)
    table.check_integrity()


def test_more_sessions_than_slots_create_nothing(table: SessionTable) -> None:
    with pytest.raises(ArenaFull):
        create(table, [str(i) for i in range(MAX_SESSIONS + 1)])

    assert table.num_sessions == 0
    table.check_integrity()


def test_a_full_table_says_how_many_and_when_to_come_back(table: SessionTable) -> None:
    error = table.full(retry_after_s=2.5)

    assert str(error) == f"max_sessions: all {MAX_SESSIONS} slots of counter/1 are in use"
    assert error.retry_after_s == 2.5


def test_a_slot_remembers_nothing_of_its_last_session(table: SessionTable) -> None:
    slots = create(table, ["a"], b"me")
    slot = int(slots[0])
    table.accepted[slot] = table.next_step[slot] = 7
    table.owner[slot], table.attempt[slot], table.last_used_s[slot] = 3, 9, 1.0
    table.is_stored[slot] = table.frozen[slot] = True
    table.opener[slot] = b"me"
    table.model.runner.step(slots, [np.ones((1, 1, 2), np.float32)])

    table.release(slots)
    assert (table.ids[slot], table.opener[slot], table.creator[slot]) == ("", b"", b"")
    again = create(table, ["b"], b"you")

    assert again.tolist() == slots.tolist()
    assert (table.accepted[slot], table.next_step[slot], table.owner[slot], table.attempt[slot]) == (
        0,
        0,
        0,
        3,
    )
    assert not table.is_stored[slot]
    assert not table.frozen[slot]
    assert table.model.runner.arena.is_initial(slot)
    table.check_integrity()


def test_refused_rows_are_taken_back_to_where_the_first_of_them_stands(table: SessionTable) -> None:
    slots = create(table, ["a", "b", "c"])
    table.accepted[slots] = [9, 9, 9]
    table.next_step[slots] = [4, 4, 9]

    # A row not begun, at step 6; one of which some steps have run; one behind another that was refused.
    table.take_back(slots, np.array([6, 2, 9]))
    table.take_back(slots[:1], np.array([8]))

    assert table.accepted[slots].tolist() == [6, 4, 9]


def test_only_detached_sessions_grow_idle(table: SessionTable) -> None:
    slots = create(table, ["a", "b", "c"])
    table.last_used_s[slots] = [10.0, 10.0, 20.0]
    table.owner[slots[0]] = 1

    assert table.idle_since(15.0).tolist() == [slots[1]]


def test_books_that_do_not_balance_are_noticed(table: SessionTable) -> None:
    slots = create(table, ["a"])
    table.next_step[slots] = 1

    with pytest.raises(AssertionError, match="more steps applied than accepted"):
        table.check_integrity()

    table.next_step[slots] = 0
    table.owner[5] = 1
    with pytest.raises(AssertionError, match="a free slot is owned"):
        table.check_integrity()
