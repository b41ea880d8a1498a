"""Marks tell after a crash which sessions' answers may be ahead of the store."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from support.stores import CREATED_S, MODEL, batch, session
from tidegate.session.stores.store import Store


def marked(store: Store, *numbers: int) -> set[int]:
    """Those of the sessions that may have lost steps."""
    return {s.number for s in store.find([f"s{n}" for n in numbers]).values() if s.may_have_lost_steps}


def touch(store: Store, numbers: Sequence[int], caught_up: Sequence[int]) -> None:
    store.touch(np.array(numbers, np.int64), np.full(len(numbers), CREATED_S + 9), caught_up=caught_up)


def test_a_mark_is_there_until_it_is_taken_away(store: Store) -> None:
    store.create([session(1), session(2), session(3, runs_ahead=True)])
    assert marked(store, 1, 2, 3) == {3}

    store.mark_ahead([1, 2, 3])
    store.unmark_ahead([2, 99])

    assert marked(store, 1, 2, 3) == {1, 3}


def test_a_crash_leaves_the_marks(opened: Callable[..., Store]) -> None:
    store = opened()
    store.create([session(n, runs_ahead=n > 2) for n in (1, 2, 3, 4)])
    store.mark_ahead([1])

    assert marked(opened(), 1, 2, 3, 4) == {1, 3, 4}


def test_a_run_that_ends_well_leaves_none_of_its_own(opened: Callable[..., Store]) -> None:
    store = opened()
    store.create([session(n, runs_ahead=True) for n in (1, 2, 3)])
    store = opened()
    store.mark_ahead([3, 4])
    store.create([session(5, runs_ahead=True)])

    store.end_run()

    assert marked(store, 1, 2, 3, 4, 5) == {1, 2}, (
        "of the run that crashed, but for what the next one took over"
    )
    assert marked(opened(), 1, 2, 3, 4, 5) == {1, 2}


def test_runs_after_one_that_ended_well_are_told_apart_too(opened: Callable[..., Store]) -> None:
    store = opened()
    store.create([session(n) for n in (1, 2)])
    for _ in range(3):
        store = opened()
        store.mark_ahead([1])
        store.end_run()
    store = opened()
    store.mark_ahead([2])
    store = opened()
    store.mark_ahead([1])

    store.end_run()

    assert marked(opened(), 1, 2) == {2}


def test_what_leaves_memory_loses_its_mark_with_the_note_of_its_use(store: Store) -> None:
    store.create([session(n, runs_ahead=True) for n in (1, 2, 3)])

    touch(store, [1, 2], caught_up=[2])

    assert marked(store, 1, 2, 3) == {1, 3}
    assert store.find(["s2"])["s2"].used_s == CREATED_S + 9


def test_only_living_sessions_are_marked(store: Store) -> None:
    store.create([session(1), session(2)])
    store.bury([(1, 0, 0, "gone")])

    store.mark_ahead([1, 2, 3])
    store.create([session(3)])

    assert marked(store, 1, 2, 3) == {2}


@pytest.mark.parametrize(
    "goes",
    [
        lambda store: store.end([1]),
        lambda store: store.bury([(1, 5, 5, "lost")]),
        lambda store: store.expire(CREATED_S + 1, 1, spare=()),
    ],
    ids=["end", "bury", "expire"],
)
def test_a_mark_goes_with_its_session(
    goes: Callable[[Store], None], opened: Callable[..., Store], path: Path
) -> None:
    store = opened()
    store.create([session(1, runs_ahead=True)])

    goes(store)
    store.close()

    connection = sqlite3.connect(path)
    assert connection.execute("SELECT * FROM ahead").fetchall() == []
    connection.close()


def test_a_create_that_fails_leaves_no_mark(opened: Callable[..., Store], path: Path) -> None:
    store = opened()
    store.create([session(1)])

    with pytest.raises(AssertionError):
        store.create([session(2, runs_ahead=True)], batch([2], row=0, step=7, epoch=99))
    store.create([session(2)])

    assert marked(store, 1, 2) == set()


def forget_new_tables(path: Path) -> None:
    """Make a closed file one of the version before."""
    connection = sqlite3.connect(path)
    connection.executescript("DROP TABLE last_answers; DROP TABLE ahead;")
    connection.close()


def test_a_file_without_the_tables_gets_them(opened: Callable[..., Store], path: Path) -> None:
    store = opened()
    store.create([session(1)])
    store.write(batch([1], row=0, step=5))
    store.close()
    forget_new_tables(path)

    store = opened()
    store.mark_ahead([1])
    store.write(batch([1], row=1, step=6, answers={0: b"answer"}))

    store = opened()
    assert marked(store, 1) == {1}
    assert store.find(["s1"])["s1"].steps == (5, 6)
    assert store.read_answers([(1, "s1")], MODEL) == [b"answer"]
