"""Looking into a session from its live state, which stays as it is."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.session_bench import LIMITS, SessionBench
from support.waiting import until
from tidegate.errors import InvalidRequest, MessageTooLarge, ServerStopping, SessionNotFound, Unsupported
from tidegate.model.package import read_package
from tidegate.runner.tracing import Tracer
from tidegate.session.inspecting import Inspection, Inspector
from tidegate.tensor import Array

X = np.random.default_rng(6).normal(0, 1, (1, 20, 3)).astype(np.float32)


class Viewer:
    """Inspects as the servicer does."""

    def __init__(self, bench: SessionBench) -> None:
        self.bench = bench
        self.inspector = Inspector(bench.manager)

    async def look(self, session_id: str, x: Array) -> Inspection:
        return await self.inspector.inspect(session_id, await self.bench.manager.model_of(session_id), [x])


@pytest.fixture
def viewer(bench: SessionBench) -> Viewer:
    return Viewer(bench)


def expected(models: Path, x: Array) -> Array:
    """h_t of the LSTM, version 2, over a series from its initial state on."""
    package = read_package(models / "lstm" / "2")
    (layer,) = Tracer(package).trace([x], [s[None] for s in package.initial_states])
    return layer.traces["h_t"]


async def test_an_attached_session_is_seen_from_where_it_is_and_stays_there(
    bench: SessionBench, viewer: Viewer, models: Path
) -> None:
    client = bench.client()
    handles = (await client.open("a", model="lstm")).handles
    await client.send(handles, [0], X[:, :8]).done.wait()
    table, slot = bench.place("a")
    before = [s.tobytes() for s in table.model.runner.arena.read(np.array([slot], np.int32))]

    seen = await viewer.look("a", X[:, 8:16])

    after = [s.tobytes() for s in table.model.runner.arena.read(np.array([slot], np.int32))]
    assert (seen.first_step, int(table.next_step[slot]), int(table.accepted[slot])) == (8, 8, 8)
    assert after == before
    np.testing.assert_allclose(seen.layers[0].traces["h_t"], expected(models, X[:, :16])[8:], atol=1e-6)


async def test_a_state_is_copied_between_batches_while_a_history_runs(
    bench: SessionBench, viewer: Viewer, models: Path, in_thread: None
) -> None:
    client = bench.client()
    handles = (await client.open("a", model="lstm")).handles
    await viewer.look("a", X[:, :1])  # from here on nothing has to be loaded
    sent = client.send(handles, [0], X)  # in slices of 4 steps, the first of which runs when the task begins

    seen = await asyncio.create_task(viewer.look("a", X[:, :1]))

    first = seen.first_step
    assert first == 4, "the slice that ran was waited for, and no other"
    whole = np.concatenate([X[:, :first], X[:, :1]], axis=1)
    np.testing.assert_allclose(seen.layers[0].traces["h_t"][0], expected(models, whole)[-1], atol=1e-6)
    await sent.done.wait()
    assert not sent.errors


async def test_a_session_that_is_looked_at_ends_afterwards(
    bench: SessionBench, viewer: Viewer, in_thread: None
) -> None:
    client = bench.client()
    handles = (await client.open("a", model="lstm")).handles
    model = await viewer.bench.manager.model_of("a")
    await viewer.look("a", X[:, :1])
    with bench.engine_stalls("lstm/2"):
        client.send(handles, [0], X[:, :4])
        await until(lambda: bench.runs("a"))
        looking = asyncio.create_task(viewer.inspector.inspect("a", model, [X[:, :1]]))
        await until(lambda: bench.is_held("a"))
        ending = asyncio.create_task(bench.manager.end_session("a"))

    assert (await looking).first_step == 4
    assert await ending == 4


async def test_a_session_of_another_version_than_was_looked_for_is_not_shown(
    bench: SessionBench, viewer: Viewer
) -> None:
    client = bench.client()
    await client.open("a", model="lstm", version="1")
    model = await viewer.bench.manager.model_of("a")
    await bench.manager.end_session("a")
    await client.open("a", model="lstm", version="2")

    with pytest.raises(SessionNotFound, match="session 'a' was ended meanwhile"):
        await viewer.inspector.inspect("a", model, [X[:, :1]])


async def test_looks_at_once_all_see_the_same(bench: SessionBench, viewer: Viewer) -> None:
    await bench.client().open("a", model="lstm")

    seen = await asyncio.gather(*(viewer.look("a", X[:, :2]) for _ in range(4)))

    assert len({s.layers[0].traces["c_t"].tobytes() for s in seen}) == 1


async def test_a_model_without_recurrent_layers_is_refused_every_time(
    bench: SessionBench, viewer: Viewer
) -> None:
    await bench.client().open("a")

    for _ in range(2):
        with pytest.raises(
            Unsupported, match="counter/1 cannot be inspected: the graph has no recurrent layer"
        ):
            await viewer.look("a", np.ones((1, 1, 2), np.float32))


@pytest.mark.parametrize(
    ("num_steps", "text"),
    [
        (LIMITS.max_frame_steps + 1, f"inputs: expected at most {LIMITS.max_frame_steps} steps, got 65"),
        (64, "inputs: expected steps whose traces have at most 20000 bytes, 64 steps of lstm/2 have 24576"),
    ],
)
async def test_what_does_not_fit_into_one_message_is_refused(
    bench: SessionBench, viewer: Viewer, num_steps: int, text: str
) -> None:
    await bench.client().open("a", model="lstm")
    bench.manager.limits = replace(LIMITS, max_message_bytes=20_000)

    with pytest.raises(MessageTooLarge) as caught:
        await viewer.look("a", np.ones((1, num_steps, 3), np.float32))

    assert str(caught.value) == text


async def test_a_value_that_is_not_finite_is_named(bench: SessionBench, viewer: Viewer) -> None:
    await bench.client().open("a", model="lstm")
    x = X[:, :5].copy()
    x[0, 3, 1] = np.inf

    with pytest.raises(
        InvalidRequest, match=r"inputs: 'x'\[1\] of step 3 of the row: expected a finite value"
    ):
        await viewer.look("a", x)


async def test_an_unknown_session_or_a_stopping_server_shows_nothing(
    bench: SessionBench, viewer: Viewer
) -> None:
    with pytest.raises(SessionNotFound):
        await viewer.look("nope", X)
    bench.manager.drain()
    with pytest.raises(ServerStopping):
        await viewer.look("nope", X)
