"""Sequences, and everybody else who may work on them, at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.onnx_models import lstm_package
from support.sequence_clients import Reply, SequenceClient
from support.session_bench import LIMITS, SessionBench
from support.waiting import until
from tidegate.errors import InvalidRequest, ModelInUse, SessionNotFound
from tidegate.protocol.outputs import OutputSelection
from tidegate.session.open_request import OpenMode
from tidegate.session.sequences.request import SequenceAnswer
from tidegate.session.snapshots import Snapshots

FIVE = "sequence/counter/int/5"


async def outcomes(replies: list[Reply]) -> list[float | type[Exception]]:
    """The last value of each, or the class of its error."""
    found = [await reply.outcome() for reply in replies]
    return [float(o.outputs[0][0, -1, 0]) if isinstance(o, SequenceAnswer) else type(o) for o in found]


async def test_an_end_by_id_goes_between_steps(
    door_bench: SessionBench, client: SequenceClient, in_thread: None
) -> None:
    await client.step(5, 1, start=True)
    with door_bench.engine_stalls("counter/2"):
        replies = [client.step(5, 1) for _ in range(3)]
        await until(lambda: door_bench.runs(FIVE))
        ending = asyncio.create_task(door_bench.manager.end_session(FIVE))
        await until(lambda: door_bench.is_held(FIVE))
        replies += [client.step(5, 1), client.step(5, 1, start=True), client.step(5, 1)]

    found = await outcomes(replies)
    assert await ending in (2, 3, 4)
    assert found[0] == 2
    num_applied = found.index(SessionNotFound)
    assert found[:num_applied] == list(range(2, 2 + num_applied))
    assert found[num_applied:-2] == [SessionNotFound] * (4 - num_applied)
    assert found[-2:] == [1, 2]


async def test_random_ends_by_id_and_passivations_mix_nothing_up(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    rng = np.random.default_rng(11)
    working = [asyncio.create_task(_disturb(door_bench, rng))]
    for round_number in range(60):
        sequence_id = int(rng.integers(1, 9))
        values = rng.integers(1, 9, 4).tolist()
        replies = [client.step(sequence_id, v, start=i == 0) for i, v in enumerate(values)]
        replies.append(client.step(sequence_id, *values, end=bool(round_number % 3)))
        found = await outcomes(replies)
        sums = np.cumsum(values)
        expected = [*sums.tolist(), 2 * float(sums[-1])]
        num_right = next((i for i, v in enumerate(found) if isinstance(v, type)), len(found))
        assert found[:num_right] == expected[:num_right]
        # An end by id in between, and nothing else, refuses what comes behind it.
        assert set(found[num_right:]) <= {SessionNotFound}
    for task in working:
        task.cancel()
    await until(door_bench.manager.is_idle)


async def _disturb(bench: SessionBench, rng: np.random.Generator) -> None:
    while True:
        session_id = f"sequence/counter/int/{rng.integers(1, 9)}"
        if bench.manager.registry.find(session_id) is not None:
            bench.grow_idle(session_id)
        if rng.random() < 0.3:
            await bench.manager.tidy()
        elif rng.random() < 0.2:
            await asyncio.gather(bench.manager.end_session(session_id), return_exceptions=True)
        await asyncio.sleep(0)


async def test_a_sequence_with_requests_waiting_is_not_passivated(
    door_bench: SessionBench, client: SequenceClient, in_thread: None
) -> None:
    for sequence_id in (5, 6):
        await client.step(sequence_id, 1, start=True)
    await until(door_bench.manager.is_idle)
    await door_bench.checkpoint()
    with door_bench.engine_stalls("counter/2"):
        running = client.step(6, 1)
        await until(lambda: door_bench.runs("sequence/counter/int/6"))
        waiting = client.step(5, 1)
        door_bench.grow_idle(FIVE)
        tidying = asyncio.create_task(door_bench.manager.tidy())
        for _ in range(20):
            await door_bench.manager.keeper.barrier()
        assert FIVE in door_bench.in_memory()

    await tidying
    assert (await running, await waiting) == ([2], [2])


async def test_the_other_door_does_not_step_or_begin_sequences(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    await client.step(5, 1, start=True)
    stream, caller, snapshots = door_bench.client(), door_bench.caller(), Snapshots(door_bench.manager)
    for session_id in (FIVE, "sequence/", "sequence/new"):
        for mode in OpenMode:
            errors = (await stream.open(session_id, mode=mode)).errors
            assert isinstance(errors[0], InvalidRequest)
            with pytest.raises(InvalidRequest, match="expected none that begins with 'sequence/'"):
                await caller.step(session_id, 1, [1], mode=mode, outputs=OutputSelection.ALL)
        with pytest.raises(InvalidRequest):
            await snapshots.fork(FIVE, session_id)
        with pytest.raises(InvalidRequest):
            await snapshots.restore(await snapshots.export(FIVE), session_id)

    assert await client.step(5, 1) == [2]


async def test_sequences_may_be_looked_at_and_forked_from(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    long_id = "é" * 64
    long_session = f"sequence/counter/str/{long_id}"
    await client.step(long_id, 1, start=True)
    await client.step(long_id, 1)
    await until(door_bench.manager.is_idle)
    caller, snapshots = door_bench.caller(), Snapshots(door_bench.manager)

    await snapshots.fork(long_session, "copy")

    assert await caller.step("copy", 2, [1]) == ([3], 3)
    assert (await caller.calls.view(long_session)).next_step == 2
    assert {v.session_id for v in (await caller.calls.page("", "", 10))[0]} == {long_session, "copy"}
    assert await door_bench.manager.end_session(long_session) == 2
    assert await snapshots.export("copy")


async def test_a_version_with_sequences_in_memory_is_not_unloaded(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    model = (await client.step(5, 1, start=True).answer()).model
    with pytest.raises(ModelInUse):
        door_bench.manager.unload(model)
    await door_bench.passivate(FIVE)
    door_bench.manager.unload(model)

    assert await client.step(5, 1) == [2]
    assert (await client.step(5, 1).answer()).model is not model


async def test_a_hundred_sequences_never_see_each_others_state(tmp_path: Path) -> None:
    print("seed 5")  # noqa: T201  # pytest shows it when a test fails
    rng, num_sequences, num_requests = np.random.default_rng(5), 100, 1500
    lstm_package(tmp_path)
    limits = replace(LIMITS, max_pending_bytes=1 << 24)
    bench = SessionBench(
        tmp_path, limits=limits, max_sessions=num_sequences + 1, max_stored=num_sequences + 1
    )
    clients = [SequenceClient(bench.manager) for _ in range(4)]
    x = rng.standard_normal((num_sequences, 64, 3)).astype(np.float32)
    steps, replies = np.zeros(num_sequences, int), []
    for _ in range(num_requests):
        i, count = int(rng.integers(num_sequences)), int(rng.choice([1, 1, 1, 1, 3]))
        first, steps[i] = steps[i], steps[i] + count
        if steps[i] > 64:
            continue
        inputs = [x[i : i + 1, first : steps[i]]]
        sender = clients[int(rng.integers(4))]
        replies.append((i, sender.step(i + 1, model="lstm", start=first == 0, inputs=inputs)))
        if rng.random() < 0.1:
            await asyncio.sleep(0)
    together: list[list[np.ndarray]] = [[] for _ in range(num_sequences)]
    for i, reply in replies:
        together[i].append((await reply.answer()).outputs[0][0])

    for i, pieces in enumerate(together):
        if pieces:
            got = np.concatenate(pieces)
            alone = (
                await clients[0]
                .step("alone", model="lstm", start=True, end=True, inputs=[x[i : i + 1, : len(got)]])
                .answer()
            )
            assert got.tobytes() == alone.outputs[0][0].tobytes()
    await until(bench.manager.is_idle)
    bench.close()
