"""Whatever company a session has, and however its steps are cut, its answers are its own (promise P1)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.session_bench import SessionBench
from support.session_clients import series
from tidegate.protocol.outputs import OutputSelection

work = st.lists(
    st.tuples(
        st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
        st.integers(1, 6),
        st.sampled_from(OutputSelection),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=work, seed=st.integers(0, 1000))
def test_every_session_gets_what_it_would_get_alone(
    models: Path, frames: list[tuple[list[int], int, OutputSelection, bool]], seed: int
) -> None:
    asyncio.run(_random_work(models, frames, seed))


async def _random_work(
    models: Path, frames: list[tuple[list[int], int, OutputSelection, bool]], seed: int
) -> None:
    """Frames of random sessions, lengths and company; against one session stepped by numpy."""
    bench, rng = SessionBench(models), np.random.default_rng(seed)
    client = bench.client()
    handles = (await client.open("a", "b", "c", "d")).handles
    totals, counts, expected = np.zeros(4, np.float32), [0] * 4, []
    for sessions, num_steps, outputs, yields in frames:
        x = rng.integers(-9, 9, (len(sessions), num_steps)).astype(np.float32)
        sent = client.send(
            [handles[s] for s in sessions], [counts[s] for s in sessions], series(*x), outputs=outputs
        )
        for row, session in enumerate(sessions):
            answers = totals[session] + np.cumsum(x[row], dtype=np.float32)
            totals[session], counts[session] = answers[-1], counts[session] + num_steps
            wanted = {OutputSelection.ALL: answers, OutputSelection.LAST: answers[-1:]}.get(outputs)
            expected.append((sent, row, wanted))
        if yields:
            await asyncio.sleep(0)

    for sent, row, wanted in expected:
        await sent.done.wait()
        assert sent.errors == {}
        if wanted is not None:
            np.testing.assert_array_equal(sent.row(row)[:, 0], wanted)
    closed = await client.close(*handles)
    assert closed == (counts, {})
    bench.close()
