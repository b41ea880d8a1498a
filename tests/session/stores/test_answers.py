"""An answer is given back with the state that it was written with, and with no other."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.stores import CREATED_S, MODEL, OTHER_MODEL, batch, change, open_for_test, session
from tidegate.session.stores import records
from tidegate.session.stores.changes import FORGET_NOTHING, Claim
from tidegate.session.stores.store import Store

ANSWER = b"what the last request was told"


def wanted(*numbers: int) -> list[tuple[int, str]]:
    return [(n, f"s{n}") for n in numbers]


def count_of(path: Path, table: str) -> int:
    connection = sqlite3.connect(path)
    ((count,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
    connection.close()
    return int(count)


def test_answers_are_read_back_as_they_were_written(store: Store) -> None:
    store.create([session(n) for n in (1, 2, 3, 4)])
    large = np.random.default_rng(1).bytes(20_000)

    store.write(batch([1, 2, 3, 4], row=0, step=5, answers={0: b"one", 3: large, 2: b""}))

    assert store.read_answers(wanted(4, 2, 1, 3, 9), MODEL) == [large, None, b"one", b"", None]


def test_an_answer_goes_with_the_newest_state_alone(store: Store) -> None:
    store.create([session(1), session(2)])
    store.write(batch([1, 2], row=0, step=5, answers={0: ANSWER, 1: ANSWER}))

    store.write(batch([1], row=1, step=6))
    store.write(batch([2], row=1, step=6, answers={0: b"newer"}))

    assert store.read_answers(wanted(1, 2), MODEL) == [None, b"newer"]


def test_an_answer_of_another_owner_at_the_same_step_is_not_given(
    opened: Callable[..., Store], path: Path
) -> None:
    store = opened()
    store.create([session(1)])
    store.write(batch([1], row=0, step=5, answers={0: ANSWER}))
    store.claim([Claim(1, 200, b"", 0, CREATED_S, FORGET_NOTHING)])

    # The same step by another course: the answer to the first must not be given for it.
    store.write(batch([1], row=0, step=5, epoch=200))

    assert store.read_answers(wanted(1), MODEL) == [None]
    assert count_of(path, "last_answers") == 1


def test_an_answer_is_read_for_its_session_and_model_alone(store: Store) -> None:
    store.create([session(1)])
    store.write(batch([1], row=0, step=5, answers={0: ANSWER}))

    assert store.read_answers([(1, "s2")], MODEL) == [None]
    assert store.read_answers(wanted(1), OTHER_MODEL) == [None]


def test_an_answer_of_an_older_owner_is_not_stored(store: Store) -> None:
    store.create([session(1), session(2)])
    store.write(batch([1, 2], row=0, step=5, answers={0: b"a", 1: b"b"}))
    store.claim([Claim(1, 200, b"", 0, CREATED_S, FORGET_NOTHING)])

    store.write(batch([1, 2], row=0, step=5, answers={0: b"stale", 1: b"newer"}))

    assert store.read_answers(wanted(1, 2), MODEL) == [b"a", b"newer"]


@pytest.mark.parametrize(
    "goes",
    [
        lambda store: store.end([1]),
        lambda store: store.bury([(1, 5, 5, "lost")]),
        lambda store: store.expire(CREATED_S + 1, 1, spare=()),
        lambda store: store.claim([Claim(1, 200, b"", 0, CREATED_S, 4)]),
    ],
    ids=["end", "bury", "expire", "claim"],
)
def test_an_answer_goes_with_its_session_or_state(
    goes: Callable[[Store], None], opened: Callable[..., Store], path: Path
) -> None:
    store = opened()
    store.create([session(1)])
    store.write(batch([1], row=0, step=5, answers={0: ANSWER}))

    goes(store)

    assert count_of(path, "last_answers") == 0
    assert store.read_answers(wanted(1), MODEL) == [None]


def test_a_claim_that_goes_on_from_the_newest_state_keeps_its_answer(store: Store) -> None:
    store.create([session(1)])
    store.write(batch([1], row=0, step=5, answers={0: ANSWER}))

    store.claim([Claim(1, 200, b"", 0, CREATED_S, 5)])

    assert store.read_answers(wanted(1), MODEL) == [ANSWER]


@pytest.mark.parametrize("offset", range(records.HEADER_BYTES + len(ANSWER)))
def test_a_flipped_byte_anywhere_in_an_answer_is_found(
    offset: int, opened: Callable[..., Store], path: Path
) -> None:
    store = opened()
    store.create([session(1), session(2)])
    store.write(batch([1, 2], row=0, step=5, answers={0: ANSWER, 1: ANSWER}))
    store.close()
    connection = sqlite3.connect(path)
    ((record,),) = connection.execute("SELECT record FROM last_answers WHERE number = 1").fetchall()
    connection.close()
    change(path, "UPDATE last_answers SET record = ? WHERE number = 1", flipped(record, offset))

    store = opened()

    assert store.read_answers(wanted(1, 2), MODEL) == [None, ANSWER]
    assert store.find(["s1"])["s1"].damage == ""


def flipped(record: bytes, offset: int) -> bytes:
    damaged = bytearray(record)
    damaged[offset] ^= 0x10
    return bytes(damaged)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE last_answers SET record = substr(record, 1, 70) WHERE number = 1",
        "UPDATE last_answers SET record = 'text' WHERE number = 1",
        "UPDATE last_answers SET step = 4 WHERE number = 1",
        "UPDATE last_answers SET epoch = 99 WHERE number = 1",
        "UPDATE last_answers SET record = (SELECT record FROM last_answers WHERE number = 2) WHERE number = 1",
        "UPDATE last_answers SET record = (SELECT record FROM state_0 WHERE number = 1) WHERE number = 1",
        "UPDATE state_0 SET record = x'00' WHERE number = 1",
    ],
)
def test_an_answer_that_is_not_as_it_was_written_is_not_given(
    damage: str, opened: Callable[..., Store], path: Path
) -> None:
    store = opened()
    store.create([session(1), session(2)])
    store.write(batch([1, 2], row=0, step=5, answers={0: ANSWER, 1: b"another"}))
    store.close()

    change(path, damage)

    assert opened().read_answers(wanted(1, 2), MODEL) == [None, b"another"]


def test_an_answer_is_no_state(opened: Callable[..., Store], path: Path) -> None:
    store = opened()
    store.create([session(1)])
    store.write(batch([1], row=0, step=5, answers={0: ANSWER}))
    store.close()

    change(path, "UPDATE state_0 SET record = (SELECT record FROM last_answers)")

    assert "another kind of record" in opened().find(["s1"])["s1"].damage


@settings(max_examples=30)
@given(
    st.lists(
        st.dictionaries(st.integers(0, 39), st.binary(max_size=300), max_size=40), min_size=1, max_size=6
    )
)
def test_many_sessions_keep_their_own_answers(rounds: list[dict[int, bytes]]) -> None:
    store = open_for_test(None)
    numbers = list(range(1, 41))
    store.create([session(n) for n in numbers])

    for i, answers in enumerate(rounds):
        store.write(batch(numbers, row=i % 2, step=i + 1, answers=answers))

    assert store.read_answers(wanted(*numbers), MODEL) == [rounds[-1].get(n - 1) for n in numbers]
    store.close()
