"""Many sessions on one stream, through a real server."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from support.server import ServerProcess
from support.waiting import eventually
from tidegate.client import AsyncClient, FleetError
from tidegate.errors import Displaced, InvalidRequest, SessionExists, SessionNotFound
from tidegate.tensor import Array


def values(num_rows: int, num_steps: int) -> Array:
    return np.random.default_rng(3).normal(0, 1, (num_rows, num_steps, 3)).astype(np.float32)


def ids(count: int) -> list[str]:
    prefix = uuid4().hex
    return [f"{prefix}-{i}" for i in range(count)]


async def test_a_fleet_answers_what_each_session_would_alone(small_server: ServerProcess) -> None:
    x = values(5, 8)

    async with AsyncClient(small_server.address) as client, client.fleet("lstm", ids(5)) as fleet:
        by_step = np.stack([await fleet.step(x[:, t]) for t in range(4)], axis=1)
        y = np.concatenate([by_step, await fleet.steps(x[:, 4:])], axis=1)

        assert fleet.next_steps.tolist() == [8] * 5
        for row in range(5):
            async with client.session("lstm") as alone:
                np.testing.assert_array_equal(y[row], await alone.steps(x[row]))


async def test_a_fleet_larger_than_a_frame_is_cut(small_models: Path, tmp_path: Path) -> None:
    x = values(50, 7)
    flags = ("--max-frame-rows", "8", "--max-frame-steps", "3", "--max-open-sessions", "16")

    with ServerProcess(small_models, tmp_path, *flags) as server:
        async with (
            AsyncClient(server.address) as client,
            client.session("lstm") as alone,
            client.fleet("lstm", ids(50)) as fleet,
        ):
            y = await fleet.steps(x)

            np.testing.assert_array_equal(y[49], await alone.steps(x[49]))


async def test_a_refused_row_leaves_the_others_alone(small_server: ServerProcess) -> None:
    x, names = values(4, 2), ids(4)
    bad = x[:, 0].copy()
    bad[2, 1] = np.nan

    async with AsyncClient(small_server.address) as client, client.fleet("lstm", names) as fleet:
        with pytest.raises(FleetError) as caught:
            await fleet.step(bad)
        answers = caught.value.answers

        assert list(caught.value.errors) == [names[2]]
        assert isinstance(caught.value.errors[names[2]], InvalidRequest)
        assert isinstance(answers, np.ndarray)
        assert np.isnan(answers[2]).all()
        assert fleet.next_steps.tolist() == [1, 1, 0, 1]
        async with client.session("lstm") as alone:
            np.testing.assert_array_equal(answers[3], await alone.step(x[3, 0]))
        assert np.isfinite(await fleet.step(x[:, 1])).all()


async def test_a_session_that_was_taken_over_leaves_the_others_alone(small_server: ServerProcess) -> None:
    x, names = values(3, 1), ids(3)

    async with (
        AsyncClient(small_server.address) as client,
        AsyncClient(small_server.address) as other,
        client.fleet("lstm", names) as fleet,
        other.session("lstm", names[1], mode="resume"),
    ):
        with pytest.raises(FleetError) as caught:
            await fleet.step(x[:, 0])

        assert isinstance(caught.value.errors[names[1]], Displaced)
        assert len(caught.value.errors) == 1


async def test_a_fleet_opens_whole_or_not_at_all(small_server: ServerProcess) -> None:
    names = ids(3)

    async with AsyncClient(small_server.address) as client, AsyncClient(small_server.address) as other:
        async with other.session("lstm", names[1]):
            pass
        with pytest.raises(FleetError) as caught:
            async with client.fleet("lstm", names, mode="create"):
                pass

        assert list(caught.value.errors) == [names[1]]
        assert isinstance(caught.value.errors[names[1]], SessionExists)
        assert caught.value.answers is None

        async def is_detached() -> bool:
            return (await client.sessions.get(names[0])).condition == "detached"

        await eventually(is_detached)  # once the server has heard that the stream is gone


async def test_ids_are_checked_before_anything_is_sent(small_server: ServerProcess) -> None:
    async with AsyncClient(small_server.address) as client:
        for names in ([], ["a", "a"]):
            with pytest.raises(InvalidRequest, match="no two alike"):
                async with client.fleet("lstm", names):
                    pass


async def test_a_wrong_number_of_rows_is_told(small_server: ServerProcess) -> None:
    async with AsyncClient(small_server.address) as client, client.fleet("lstm", ids(4)) as fleet:
        with pytest.raises(InvalidRequest, match=r"expected \[4, 3\], got \[5, 3\]"):
            await fleet.step(np.zeros((5, 3)))


async def test_an_ended_fleet_is_gone(small_server: ServerProcess) -> None:
    names = ids(3)

    async with AsyncClient(small_server.address) as client:
        async with client.fleet("lstm", names) as fleet:
            await fleet.end()

        for name in names:
            with pytest.raises(SessionNotFound):
                await client.sessions.get(name)


@pytest.mark.slow
async def test_ten_thousand_sessions_are_one_fleet(small_server: ServerProcess) -> None:
    x = values(10_000, 3)

    async with AsyncClient(small_server.address) as client:
        async with client.fleet("lstm", ids(10_000)) as fleet:
            y = np.stack([await fleet.step(x[:, t]) for t in range(3)], axis=1)
            await fleet.end()
        async with client.session("lstm") as alone:
            np.testing.assert_array_equal(y[9_999], await alone.steps(x[9_999]))
