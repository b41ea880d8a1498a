"""A request that comes again is answered again, and applied once."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from support.sequence_clients import SequenceClient
from support.session_bench import SessionBench
from support.waiting import until
from tidegate.errors import DeadlineExpired, InvalidRequest, WrongStep
from tidegate.session.sequences.kept import MAX_OUTPUT_BYTES

WIDTH = 1024
"""Of `wide`."""


def repeats(bench: SessionBench) -> float | None:
    return bench.value("tidegate_sequence_repeats_total", model="counter")


async def test_the_last_request_is_answered_again(door_bench: SessionBench, client: SequenceClient) -> None:
    await client.step(5, 1, start=True, request_id="a")
    first = await client.step(5, 2, 3, request_id="b").answer()

    again = await client.step(5, 2, 3, request_id="b").answer()

    assert (again.first_step, again.outputs[0].tobytes()) == (first.first_step, first.outputs[0].tobytes())
    assert again.outputs[0].shape == first.outputs[0].shape
    assert await client.step(5, 1) == [7]
    assert repeats(door_bench) == 1


async def test_a_start_that_comes_again_does_not_begin_anew(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    await client.step(5, 1, start=True, request_id="a")

    assert await client.step(5, 1, start=True, request_id="a") == [1]
    assert await client.step(5, 1) == [2]
    assert door_bench.value("tidegate_sequence_restarts_total", model="counter") is None
    assert repeats(door_bench) == 1


async def test_an_end_that_comes_again_is_answered_after_the_end(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    await client.step(5, 1, start=True)
    await client.step(5, 2, end=True, request_id="z")
    await until(door_bench.manager.is_idle)

    assert await client.step(5, 2, end=True, request_id="z") == [3]
    assert await client.step(5, 2, end=True, request_id="z") == [3]
    assert repeats(door_bench) == 2


async def test_a_last_request_that_comes_again_with_an_end_ends_the_sequence(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    await client.step(5, 1, start=True)
    await client.step(5, 2, request_id="z")

    assert await client.step(5, 2, end=True, request_id="z") == [3]
    await until(door_bench.manager.is_idle)
    assert door_bench.in_memory() == set()


async def test_a_whole_sequence_that_comes_again_is_not_begun_anew(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    replies = [client.step(5, 1, start=True, end=True, request_id="a") for _ in range(3)]

    assert [await reply for reply in replies] == [[1], [1], [1]]
    assert door_bench.value("tidegate_sequence_starts_total", model="counter") == 1


async def test_an_id_counts_for_as_long_as_its_sequence(client: SequenceClient) -> None:
    await client.step(5, 1, start=True, end=True, request_id="a")

    assert await client.step(5, 9, start=True, request_id="a") == [9]
    assert await client.step(5, 1, end=True) == [10]


async def test_a_repeat_gets_its_answer_when_it_is_there(
    door_bench: SessionBench, client: SequenceClient, in_thread: None
) -> None:
    await client.step(5, 1, start=True)
    with door_bench.engine_stalls("counter/2"):
        first = client.step(5, 2, request_id="a")
        await until(lambda: door_bench.runs("sequence/counter/int/5"))
        again = SequenceClient(door_bench.manager).step(5, 2, request_id="a")
        other = client.step(5, 4, request_id="a")
        table, slot = door_bench.place("sequence/counter/int/5")
        assert not again.has_come
        assert table.accepted[slot] == 2

    assert (await first, await again) == ([3], [3])
    with pytest.raises(
        InvalidRequest, match="repeated with other inputs: give every request an id of its own"
    ):
        await other


async def test_other_inputs_under_the_same_id_change_nothing(client: SequenceClient) -> None:
    await client.step(5, 1, start=True, request_id="a")
    for start in (True, False):
        with pytest.raises(InvalidRequest, match="request id 'a' repeated with other inputs"):
            await client.step(5, 2, start=start, request_id="a")

    assert await client.step(5, 1) == [2]


async def test_only_the_last_request_counts(client: SequenceClient) -> None:
    await client.step(5, 1, start=True, request_id="a")
    await client.step(5, 1)

    assert await client.step(5, 1, request_id="a") == [3]


async def test_a_request_that_was_refused_may_come_again(
    door_bench: SessionBench, client: SequenceClient, in_thread: None
) -> None:
    await client.step(5, 1, start=True, request_id="a")
    client.source.paused = True
    late = client.step(5, 2, request_id="b", time_limit_s=0.01)
    await asyncio.sleep(0.02)
    door_bench.place("sequence/counter/int/5").table.model.engine.wake()
    with pytest.raises(DeadlineExpired):
        await late
    client.source.paused = False

    assert await client.step(5, 1, request_id="a") == [1]
    assert await client.step(5, 2, request_id="b") == [3]


async def test_an_answer_too_large_to_be_kept_is_not_given_again(client: SequenceClient) -> None:
    small, large = (np.ones((1, num_steps, WIDTH), np.float32) for num_steps in (1, 5))
    assert large.nbytes > MAX_OUTPUT_BYTES
    await client.step(5, model="wide", start=True, request_id="a", inputs=[large]).answer()

    for start in (False, True):
        with pytest.raises(
            WrongStep, match=r"applied as steps 0 to 4, and its answer is too large"
        ) as caught:
            await client.step(5, model="wide", start=start, request_id="a", inputs=[large])
        assert caught.value.expected_step == 5
    assert (await client.step(5, model="wide", inputs=[small]).answer()).first_step == 5
