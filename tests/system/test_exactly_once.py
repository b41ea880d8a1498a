"""Promise P2: every step changes its session once, and its answer comes once, whatever is done to the server.

Each test feeds the same rows twice, once in peace, and compares the answers byte by byte: a step that
is lost, repeated or out of order changes the answers behind it. A thousand steps later the LSTM has
forgotten it, so the numbers of steps are compared too.
`TIDEGATE_TEST_SEED` repeats a run; the data folder is that of support/machine_metrics.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from support.machine_feeds import Feeds, Machines, few_rows, fifty_thousand_rows, nab_rows
from support.machine_metrics import machine_package
from support.pace import Pace
from support.restarting import RestartingServer
from tidegate.client import AsyncClient

NUM_CRASHES = 20
MOMENT_S = 0.02
"""A crash comes so long, on average, after the row that calls for it."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("machines")
    machine_package(repository)
    return repository


async def in_peace(models: Path, folder: Path, machines: Machines) -> dict[str, bytes]:
    """The answers of a server that nothing is done to."""
    async with RestartingServer(models, folder) as server:
        return await Feeds(machines, folder, Pace(machines.num_counted)).run(server.address)


async def with_crashes(
    models: Path, folder: Path, machines: Machines, num_crashes: int, rng: np.random.Generator
) -> dict[str, bytes]:
    """The answers of a server that is killed so often, spread over all rows, and started again."""
    pace = Pace(machines.num_counted, limit=1 / (num_crashes + 1))
    feeds = Feeds(machines, folder, pace, seed=int(rng.integers(1 << 32)))
    async with RestartingServer(models, folder) as server, asyncio.TaskGroup() as group:
        running = group.create_task(feeds.run(server.address))
        for number in range(num_crashes):
            await pace.reached((number + rng.random()) / (num_crashes + 1))
            await asyncio.sleep(rng.exponential(MOMENT_S))
            pace.release((number + 2) / (num_crashes + 1))
            await server.crash()
        answers = await running
        await all_stand_at_their_ends(server.address, machines)
    return answers


async def all_stand_at_their_ends(address: str, machines: Machines) -> None:
    """No session has a step too many or too few."""
    async with AsyncClient(address) as client:
        steps = {s.session_id: s.next_step for s in await client.sessions.list()}
    for kind, x in (("fleet", machines.fleet), ("alone", machines.alone), ("file", machines.files)):
        for number in range(len(x)):
            assert steps[f"{kind}-{number}"] == x.shape[1]


def different(got: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """Sessions that were answered otherwise."""
    assert got.keys() == expected.keys()
    return [name for name, answers in expected.items() if got[name] != answers]


async def test_a_few_crashes_change_no_answer(models: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    machines = few_rows(seed=1)
    expected = await in_peace(models, tmp_path / "peace", machines)

    got = await with_crashes(models, tmp_path / "crashes", machines, 2, rng)

    assert different(got, expected) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("source", ["generated", "nab"])
async def test_twenty_crashes_change_no_answer_of_fifty_thousand(
    models: Path, tmp_path: Path, rng: np.random.Generator, source: str
) -> None:
    machines = fifty_thousand_rows(seed=1) if source == "generated" else nab_rows()
    if machines is None:
        pytest.skip("no NAB data here")
    expected = await in_peace(models, tmp_path / "peace", machines)

    got = await with_crashes(models, tmp_path / "crashes", machines, NUM_CRASHES, rng)

    assert different(got, expected) == []
