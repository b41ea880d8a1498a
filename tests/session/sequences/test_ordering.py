"""Several requests of a sequence in flight: they apply in their order of arrival, each whole or not at all."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from support.sequence_clients import LONG_AGO_S, Reply, SequenceClient, indices
from support.session_bench import SessionBench
from support.waiting import until
from tidegate.errors import DeadlineExpired, InvalidRequest, SessionNotFound, WrongStep
from tidegate.session.sequences.request import SequenceAnswer

TIME_LIMIT_S = 0.3
"""Much longer than a request takes to the engine, on a busy machine too."""


async def steps_of(*replies: Reply) -> list[int | type[Exception]]:
    """Of each, the number of its first step, or the class of its error."""
    outcomes = [await reply.outcome() for reply in replies]
    return [o.first_step if isinstance(o, SequenceAnswer) else type(o) for o in outcomes]


async def test_steps_behind_a_start_wait_for_it(client: SequenceClient) -> None:
    replies = [client.step(5, 1, start=True), *(client.step(5, 1) for _ in range(10))]

    assert [await reply for reply in replies] == [[i] for i in range(1, 12)]
    assert await steps_of(*replies) == list(range(11))


async def test_what_comes_behind_an_end_is_of_no_sequence(client: SequenceClient) -> None:
    replies = [client.step(5, 1, start=True), client.step(5, 1, end=True), client.step(5, 1)]
    replies += [client.step(5, 1, start=True), client.step(5, 1)]

    assert await steps_of(*replies) == [0, 1, SessionNotFound, 0, 1]


async def test_what_comes_at_once_behind_the_end_of_a_live_sequence_is_refused(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    await client.step(5, 1, start=True)
    await until(door_bench.manager.is_idle)

    replies = [client.step(5, 1, end=True), client.step(5, 1)]

    assert await steps_of(*replies) == [1, SessionNotFound]


async def test_two_streams_on_one_id_are_both_served(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    other = SequenceClient(door_bench.manager)
    await client.step(5, 1, start=True)

    replies = [c.step(5, 1) for _ in range(5) for c in (client, other)]

    assert [await reply for reply in replies] == [[i] for i in range(2, 12)]


async def test_requests_of_any_length_and_stream_keep_their_order(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    rng = np.random.default_rng(7)
    clients = [client, SequenceClient(door_bench.manager), SequenceClient(door_bench.manager)]
    ids = [1, 2, "a", "b"]
    totals = dict.fromkeys(ids, 0.0)
    expected: list[tuple[Reply, list[float]]] = []
    for sequence_id in ids:
        await client.step(sequence_id, 0, start=True)
    for _ in range(150):
        sequence_id, sender = ids[rng.integers(4)], clients[rng.integers(3)]
        values = rng.integers(-5, 5, rng.choice([1, 1, 1, 2, 7])).tolist()
        answers = [totals[sequence_id] + float(v) for v in np.cumsum(values)]
        totals[sequence_id] = answers[-1]
        expected.append((sender.step(sequence_id, *values), answers))
        if rng.random() < 0.2:
            await asyncio.sleep(0)

    assert [await reply for reply, _ in expected] == [answers for _, answers in expected]


async def test_many_sequences_share_a_run(door_bench: SessionBench, client: SequenceClient) -> None:
    for i in range(4):
        await client.step(i + 1, 1, start=True)
    before = door_bench.value("tidegate_batch_rows_count", model="counter", version="2")

    replies = [client.step(i + 1, 1) for i in range(4)]
    for reply in replies:
        await reply

    after = door_bench.value("tidegate_batch_rows_count", model="counter", version="2")
    assert (before, after) == (4, 5)


async def test_a_refused_request_leaves_no_gap(client: SequenceClient) -> None:
    await client.step(5, 1, start=True)

    replies = [
        client.step(5, 10),
        client.step(5, 100, step=7),
        client.step(5, 100, time_limit_s=LONG_AGO_S),
        client.step(5, 20),
    ]

    assert await steps_of(*replies) == [1, WrongStep, DeadlineExpired, 2]
    assert await replies[3] == [31]


async def test_a_limit_that_passes_in_the_queue_refuses_nothing_behind_it(
    door_bench: SessionBench, client: SequenceClient, in_thread: None
) -> None:
    await client.step(5, 1, start=True)
    with door_bench.engine_stalls("counter/2"):
        running = client.step(5, 1)
        await until(lambda: door_bench.runs("sequence/counter/int/5"))
        late = client.step(5, 100, time_limit_s=0.01)
        behind = [client.step(5, 1), client.step(5, 1, step=3), client.step(5, 1, step=2), client.step(5, 1)]
        await asyncio.sleep(0.02)

    assert await steps_of(running, late, *behind) == [1, DeadlineExpired, 2, 3, WrongStep, 4]
    assert await behind[-1] == [5]


async def test_a_limit_that_passes_in_the_engine_refuses_nothing_behind_it(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    other = SequenceClient(door_bench.manager)
    await client.step(5, 1, start=True)
    client.source.paused = True
    late, behind = client.step(5, 100, time_limit_s=TIME_LIMIT_S), client.step(5, 1)
    numbered = [other.step(5, 1, step=3), other.step(5, 1), other.step(5, 1, step=5)]
    table, slot = door_bench.place("sequence/counter/int/5")
    await until(lambda: table.accepted[slot] == 6)
    await asyncio.sleep(2 * TIME_LIMIT_S)
    client.source.paused = False
    last = other.step(5, 1)

    assert await steps_of(late, behind, *numbered, last) == [DeadlineExpired, 1, WrongStep, 2, WrongStep, 3]
    assert await behind == [2]
    with pytest.raises(WrongStep, match="step: expected 2, got 3"):
        await numbered[0]


async def test_a_model_that_fails_refuses_nothing_behind_it(client: SequenceClient) -> None:
    await client.step(5, model="table", start=True, inputs=indices(1))

    bad = client.step(5, model="table", inputs=indices(99))
    behind = [client.step(5, model="table", inputs=indices(1)) for _ in range(3)]

    assert await steps_of(bad, *behind) == [InvalidRequest, 1, 2, 3]


async def test_a_request_that_fails_half_way_is_not_applied(client: SequenceClient) -> None:
    first = await client.step(5, model="table", start=True, inputs=indices(1)).answer()
    ahead = client.step(5, model="table", inputs=indices(1))
    bad = client.step(5, model="table", inputs=indices(*[2] * 30, 99, 2))
    behind = client.step(5, model="table", inputs=indices(1))

    assert await steps_of(ahead, bad, behind) == [1, InvalidRequest, 2]
    row = first.outputs[0][0, 0]
    assert np.array_equal((await behind.answer()).outputs[0][0, 0], row + row + row)


async def test_a_start_whose_first_step_fails_leaves_nothing(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    bad = client.step(5, model="table", start=True, inputs=indices(1, 99))
    behind = client.step(5, model="table", inputs=indices(1))

    assert await steps_of(bad, behind) == [InvalidRequest, SessionNotFound]
    assert door_bench.in_memory() == set()
    assert await door_bench.stored("sequence/table/int/5") is None


async def test_a_paused_stream_holds_up_only_its_own_sequences(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    other = SequenceClient(door_bench.manager)
    await client.step(5, 1, start=True)
    await other.step(6, 1, start=True)
    client.source.paused = True

    waiting = client.step(5, 1)

    assert await other.step(6, 1) == [2]
    assert not waiting.has_come
    client.source.paused = False
    door_bench.place("sequence/counter/int/5").table.model.engine.wake()
    assert await waiting == [2]
