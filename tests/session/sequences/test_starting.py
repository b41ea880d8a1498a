"""Sequences that begin under an id that was, or is, in use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.sequence_clients import SequenceClient, indices
from support.session_bench import LIMITS, MAX_SESSIONS, MAX_STORED, SessionBench
from support.waiting import until
from tidegate.errors import ArenaFull, InvalidRequest, SessionLost, StoreFull

FIVE = "sequence/counter/int/5"


def restarts(bench: SessionBench) -> float | None:
    return bench.value("tidegate_sequence_restarts_total", model="counter")


async def test_a_start_on_a_live_id_begins_anew_and_the_operator_is_told(
    door_bench: SessionBench, client: SequenceClient, caplog: pytest.LogCaptureFixture
) -> None:
    await client.step(5, 1, 1, start=True)

    assert await client.step(5, 7, start=True) == [7]
    assert (await client.step(5, 1).answer()).first_step == 1

    assert restarts(door_bench) == 1
    (record,) = (r for r in caplog.records if "anew" in r.getMessage())
    assert (record.levelname, record.__dict__["next_step"]) == ("WARNING", 2)
    assert (record.__dict__["sequence"], record.__dict__["model"]) == (5, "counter")


@pytest.mark.parametrize("is_in_memory", [True, False])
async def test_a_start_that_the_model_cannot_run_leaves_the_old_course_as_it_was(
    door_bench: SessionBench, client: SequenceClient, is_in_memory: bool
) -> None:
    await client.step(5, model="table", start=True, inputs=indices(1)).answer()
    if not is_in_memory:
        await door_bench.passivate("sequence/table/int/5")

    with pytest.raises(InvalidRequest, match="cannot run these values"):
        await client.step(5, model="table", start=True, inputs=indices(*[1] * 30, 99))

    assert (await client.step(5, model="table", inputs=indices(1)).answer()).first_step == 1
    assert door_bench.value("tidegate_sequence_restarts_total", model="table") is None


async def test_a_start_behind_steps_lets_them_be_answered(client: SequenceClient) -> None:
    replies = [
        client.step(5, 1, start=True),
        client.step(5, 1),
        client.step(5, 7, start=True),
        client.step(5, 1),
    ]

    assert [await reply for reply in replies] == [[1], [2], [7], [8]]


async def test_a_start_waits_for_the_step_that_runs(
    door_bench: SessionBench, client: SequenceClient, in_thread: None
) -> None:
    await client.step(5, 1, start=True)
    with door_bench.engine_stalls("counter/2"):
        running = client.step(5, 1)
        await until(lambda: door_bench.runs(FIVE))
        begun = client.step(5, 7, start=True)
        for _ in range(20):
            await door_bench.manager.keeper.barrier()
        assert FIVE in door_bench.in_memory()

    assert (await running, await begun) == ([2], [7])


@pytest.mark.parametrize("request_id", ["", "new"])
async def test_a_start_on_a_passivated_id_begins_anew(
    door_bench: SessionBench, client: SequenceClient, request_id: str
) -> None:
    await client.step(5, 1, start=True)
    await door_bench.passivate(FIVE)

    assert await client.step(5, 7, start=True, request_id=request_id) == [7]
    assert restarts(door_bench) == 1
    assert await client.step(5, 1) == [8]


async def test_a_lost_sequence_is_refused_until_it_is_begun_anew(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    await client.step(5, 1, 1, 1, start=True)
    await door_bench.lose(FIVE)

    with pytest.raises(
        SessionLost, match=r"sequence 5 .* was lost after 3 steps: a test; begin it anew"
    ) as caught:
        await client.step(5, 1)
    assert caught.value.next_step == 3
    assert await client.step(5, 7, start=True) == [7]
    assert await client.step(5, 1) == [8]
    assert restarts(door_bench) == 1


async def test_an_expired_sequence_is_lost(door_bench: SessionBench, client: SequenceClient) -> None:
    await client.step(5, 1, start=True)
    await until(door_bench.manager.is_idle)
    door_bench.grow_idle(FIVE, by_s=2 * LIMITS.expire_after_s)
    await door_bench.manager.tidy()

    with pytest.raises(SessionLost):
        await client.step(5, 1)


async def test_new_sequences_find_room_where_old_ones_idle(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    num_sequences = 3 * MAX_SESSIONS
    for i in range(1, num_sequences + 1):
        await client.step(i, i, start=True)

    assert len(door_bench.in_memory()) <= MAX_SESSIONS
    assert [await client.step(i, 1) for i in range(1, num_sequences + 1)] == [
        [i + 1] for i in range(1, num_sequences + 1)
    ]


async def test_sequences_that_start_together_find_room(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    num_sequences = 3 * MAX_SESSIONS

    replies = [client.step(i, i, start=True) for i in range(1, num_sequences + 1)]
    replies += [client.step(i, 1) for i in range(1, num_sequences + 1)]

    outcomes = [await reply.outcome() for reply in replies]
    # All of them at work leave no room: whoever found none was told so, and began nothing.
    for i in range(num_sequences):
        full = isinstance(outcomes[i], ArenaFull)
        assert full or await client.step(i + 1, 0) == [i + 2]


async def test_a_start_that_finds_no_room_is_refused(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    stream = door_bench.client()
    await client.step(5, 1, start=True, version="1")
    await door_bench.passivate(FIVE)
    await stream.open(*"abcdef", version="1")

    for sequence_id in (5, 6):
        with pytest.raises(ArenaFull):
            await client.step(sequence_id, 1, start=True, version="1")
    await stream.close(*range(1, MAX_SESSIONS + 1), end=True)

    assert await client.step(5, 1) == [2]


async def test_a_store_that_is_full_takes_no_more_sequences(models: Path, tmp_path: Path) -> None:
    bench = SessionBench(models, store=f"sqlite:///{tmp_path / 's.db'}", limits=replace(LIMITS))
    client = SequenceClient(bench.manager)
    for i in range(1, MAX_STORED + 1):
        await client.step(i, 1, start=True)

    with pytest.raises(StoreFull):
        await client.step(999, 1, start=True)
    assert await client.step(1, 9, start=True) == [9]

    bench.close()
