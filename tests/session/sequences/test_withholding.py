"""An answer that waits for the store, and what comes behind it."""

from __future__ import annotations

import numpy as np
import pytest

from support.sequence_clients import SequenceClient
from support.session_bench import MAX_SESSIONS, Lives, SessionBench
from support.waiting import until
from tidegate.session.registry import Place

TURNS = 50
"""Turns of the store: more than a state is tried to be stored."""


def is_writing(place: Place) -> bool:
    return bool(place.table.books.is_writing(np.array([place.slot], np.int32))[0])


@pytest.fixture
async def bench(lives: Lives) -> SessionBench:
    """With a store that lasts."""
    return lives.begin()


async def test_a_long_request_waits_for_the_answers_before_it(bench: SessionBench, in_thread: None) -> None:
    client = SequenceClient(bench.manager)
    await client.step(1, 1, start=True)
    place = bench.place("sequence/counter/int/1")

    with bench.store_stalls():
        short = client.step(1, 1)
        long = client.step(1, *[1.0] * 64)
        behind = client.step(1, 1)
        await until(lambda: is_writing(place))
        assert place.next_step == 2

    assert await short == [2]
    assert not long.has_come
    assert (await long)[-1] == 66
    assert await behind == [67]


async def test_an_answer_is_not_given_up_for_one_that_has_not_been_handed_on(
    bench: SessionBench, in_thread: None
) -> None:
    ids = range(1, MAX_SESSIONS + 1)
    client, other = SequenceClient(bench.manager), SequenceClient(bench.manager)
    for sequence_id in ids:
        await client.step(sequence_id, 1, start=True)
    place = bench.place("sequence/counter/int/1")

    with bench.store_stalls():
        stalled = other.step(2, 1)
        await until(lambda: is_writing(bench.place("sequence/counter/int/2")))
        first = other.step(1, 1)
        await until(lambda: place.next_step == 2)
        # More of them than a batch takes: the answers to those that run first are kept for the others.
        replies = [client.step(sequence_id, 1) for sequence_id in ids]
        await until(lambda: place.next_step == 3)
        client.source.paused = True
    for _ in range(TURNS):
        await bench.manager.keeper.barrier()
    was_given_up = first.has_come
    client.source.paused = False
    place.table.model.engine.wake()

    assert not was_given_up
    assert (await stalled, await first) == ([2], [2])
    assert [await reply for reply in replies] == [[3], [3], *[[2]] * (MAX_SESSIONS - 2)]
