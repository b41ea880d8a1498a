"""Handles of one stream."""

from __future__ import annotations

import numpy as np
import pytest

from support.session_bench import SessionBench
from tidegate.errors import TooManyRequests
from tidegate.session import handles as handles_module
from tidegate.session.handles import HandleMap, HandleStatus
from tidegate.session.table import SessionTable


@pytest.fixture
async def table(bench: SessionBench) -> SessionTable:
    return SessionTable(await bench.pool.load("counter"))


@pytest.fixture
async def other(bench: SessionBench) -> SessionTable:
    return SessionTable(await bench.pool.load("lstm"))


def handles_of(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint32)


def slots_of(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def test_handle_0_stands_for_nothing(table: SessionTable) -> None:
    handles = HandleMap()

    given = handles.give_out(table, slots_of(4, 2))

    assert 0 not in given
    assert handles.status(handles_of(0)).tolist() == [HandleStatus.UNKNOWN]
    assert handles.slots(given).tolist() == [4, 2]


@pytest.mark.parametrize("handle", [3, 17, 2**24, 2**32 - 1])
def test_a_handle_never_given_out_is_unknown(table: SessionTable, handle: int) -> None:
    handles = HandleMap()
    handles.give_out(table, slots_of(1, 2))

    assert handles.status(handles_of(handle, 1)).tolist() == [HandleStatus.UNKNOWN, HandleStatus.OPEN]


def test_many_handles_at_once_are_all_there(table: SessionTable) -> None:
    handles = HandleMap()
    slots = np.arange(1, 1001, dtype=np.int32)

    given = handles.give_out(table, slots)

    assert (handles.slots(given) == slots).all()
    assert (handles.status(given) == HandleStatus.OPEN).all()


def test_a_handle_given_back_is_given_out_again_only_once(table: SessionTable) -> None:
    handles = HandleMap()
    given = handles.give_out(table, slots_of(1, 2))
    handles.take_back(given[:1])
    assert handles.status(given).tolist() == [HandleStatus.UNKNOWN, HandleStatus.OPEN]

    again = handles.give_out(table, slots_of(3, 4))

    assert again[0] == given[0]
    assert len({*given.tolist(), *again.tolist()}) == 3


def test_a_lost_handle_keeps_saying_so_until_it_comes_back(table: SessionTable) -> None:
    handles = HandleMap()
    given = handles.give_out(table, slots_of(1, 2))

    handles.mark(given[:1], HandleStatus.DISPLACED)
    later = handles.give_out(table, slots_of(5))

    assert given[0] not in later
    assert handles.status(given).tolist() == [HandleStatus.DISPLACED, HandleStatus.OPEN]


def test_sessions_that_are_being_closed_are_still_held(table: SessionTable) -> None:
    handles = HandleMap()
    given = handles.give_out(table, slots_of(1, 2, 3, 4))
    for handle, status in zip(
        given, (HandleStatus.DISPLACED, HandleStatus.CLOSING, HandleStatus.ENDED), strict=False
    ):
        handles.mark(np.array([handle]), status)

    assert handles.held().tolist() == [given[1], given[3]]


def test_handles_are_told_apart_by_model_version(table: SessionTable, other: SessionTable) -> None:
    handles = HandleMap()
    first, second = handles.give_out(table, slots_of(1, 2)), handles.give_out(other, slots_of(1))

    grouped = handles.by_table(np.concatenate([second, first]))

    assert [(t is table, h.tolist()) for t, h in grouped] == [
        (True, first.tolist()),
        (False, second.tolist()),
    ]


def test_a_forgotten_version_is_kept_by_no_stream(table: SessionTable, other: SessionTable) -> None:
    handles = HandleMap()
    handles.take_back(handles.give_out(table, slots_of(1)))
    held = handles.give_out(other, slots_of(1))

    handles.forget(table)
    again = handles.give_out(table, slots_of(2))

    assert len(handles.tables) == 2
    assert [t for t, _ in handles.by_table(np.concatenate([held, again]))] == [other, table]


def test_a_stream_that_never_closes_reaches_an_end_and_loses_nothing(
    table: SessionTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handles_module, "MAX_HANDLES", 5)
    handles = HandleMap()
    handles.give_out(table, slots_of(1, 2, 3))

    with pytest.raises(TooManyRequests, match="5 handles are out"):
        handles.give_out(table, slots_of(4, 5))

    assert len(handles.give_out(table, slots_of(4))) == 1
