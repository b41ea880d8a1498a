"""Every group of figures, run once in small: what is shown is that it runs, not how fast."""

from __future__ import annotations

from math import isfinite
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.figures import GROUPS, Group
from bench.full import SESSIONS, STREAMS, Point, draw
from bench.load import Load, LoadShape
from bench.machine import choose_cores
from bench.models import DEFAULT
from bench.setting import Durations, Figure, Setting
from tidegate.client import AsyncClient

TINY = Durations(
    slice_s=0.3,
    raw_s=0.1,
    warmup_s=0.1,
    rounds=1,
    soak_from_s=0.3,
    soak_to_s=0.6,
    sessions=5000,
    resume_after_s=1.0,
)


@pytest.fixture
def figures() -> list[Figure]:
    return []


@pytest.fixture
def setting(tmp_path: Path, figures: list[Figure]) -> Setting:
    return Setting(choose_cores(), TINY, tmp_path, figures.append)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
async def test_a_group_reports_its_figures(group: Group, setting: Setting, figures: list[Figure]) -> None:
    await group(setting)

    assert sorted(f.name for f in figures) == sorted(GROUPS[group])
    assert all(isfinite(f.value) for f in figures)
    assert set(setting.raw) == set(GROUPS[group])


@pytest.mark.slow
async def test_a_load_counts_what_the_server_has_run(setting: Setting) -> None:
    shape = LoadShape(streams=2, in_flight=2, rows=8, sessions=100, steps=3)

    with setting.server(DEFAULT) as server:
        async with await Load.on_server(server.address, DEFAULT, shape) as load:
            found = await load.measure(0.2, 0.1, server.cpu_s)
        metrics = server.metrics()

    assert metrics["tidegate_steps_total"] == load.tally.row_steps
    assert metrics["tidegate_frames_total"] == load.tally.frames
    assert load.tally.row_steps == load.tally.frames * 8 * 3
    assert len(found.latencies_s) == found.frames > 0
    assert found.server_cpu_s > 0


@pytest.mark.slow
async def test_a_load_with_acks_makes_sessions_durable(setting: Setting) -> None:
    shape = LoadShape(streams=1, in_flight=1, rows=8, sessions=8, acks=True)

    with setting.server(DEFAULT, "--checkpoint-age-s", "0.05") as server:
        async with await Load.on_server(server.address, DEFAULT, shape) as load:
            await load.measure(0.3, 0.1, server.cpu_s)
        async with (
            AsyncClient(server.address) as client,
            client.fleet(DEFAULT.name, [f"s-0-{i}" for i in range(8)], mode="resume") as fleet,
        ):
            assert (fleet.durable_steps > 0).all()
            assert server.states_stored() >= 8


@pytest.mark.slow
async def test_what_a_server_has_stored_goes_with_it(setting: Setting) -> None:
    with setting.server(DEFAULT):
        kept = list(setting.folder.rglob("tidegate.db"))

    assert len(kept) == 1
    assert not list(setting.folder.rglob("tidegate.db"))


@pytest.mark.slow
async def test_a_load_that_is_refused_fails(setting: Setting) -> None:
    shape = LoadShape(streams=1, in_flight=1, rows=1, sessions=10)

    with (
        setting.server(DEFAULT, "--max-sessions", "9") as server,
        pytest.raises(BenchError, match="ARENA_FULL"),
    ):
        await Load.on_server(server.address, DEFAULT, shape)


def test_the_sweep_is_drawn(tmp_path: Path) -> None:
    points = [Point(s, r, n, 1e5 * s, 5.0, 100.0, 200.0) for s in STREAMS for r in (1, 64) for n in SESSIONS]

    draw(points, tmp_path / "sweep.png", "some CPU")

    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
