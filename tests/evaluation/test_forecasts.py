"""What is scored is what a server would have answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from support.forecast_models import VALUE_BACK, feedback_package
from support.server import ServerProcess
from support.timed_models import timed_package
from tidegate.client import Client
from tidegate.evaluation.forecasts import Block, stream, stream_rolled
from tidegate.evaluation.predicted import predicted
from tidegate.evaluation.series import Series, read_series
from tidegate.evaluation.split import Split
from tidegate.evaluation.streaming import load_runner, streamed_session
from tidegate.model.calendar_inputs import calendar_inputs
from tidegate.model.package import ModelPackage, read_package
from tidegate.runner.runner import Runner
from tidegate.tensor import Array

SPLIT = Split(60, 100)


async def collected(blocks: AsyncGenerator[Block, None]) -> tuple[Array, Array]:
    """Origins and forecasts of all blocks."""
    found = [block async for block in blocks]
    return np.concatenate([b.origins for b in found]), np.concatenate([b.forecasts for b in found])


async def streamed(runner: Runner, series: Series, frame_steps: int) -> tuple[Array, Array]:
    look = predicted(runner.manifest)
    async with streamed_session(runner) as session:
        return await collected(stream(session, series, SPLIT, look, frame_steps=frame_steps))


async def rolled(runner: Runner, series: Series, num_horizons: int) -> tuple[Array, Array]:
    look = predicted(runner.manifest)
    async with streamed_session(runner) as session:
        return await collected(stream_rolled(session, runner, series, SPLIT, look, num_horizons=num_horizons))


async def test_long_frames_give_the_bits_of_single_steps(demo_runner: Runner, demo_series: Series) -> None:
    origins, chunked = await streamed(demo_runner, demo_series, 512)
    _, stepped = await streamed(demo_runner, demo_series, 1)
    _, odd = await streamed(demo_runner, demo_series, 7)

    assert origins.tolist() == list(range(59, 100))
    assert chunked.shape == (41, 1, 26, 3)
    assert chunked.tobytes() == stepped.tobytes() == odd.tobytes()


async def test_a_second_evaluation_begins_anew(demo_runner: Runner, demo_series: Series) -> None:
    _, first = await streamed(demo_runner, demo_series, 512)
    _, second = await streamed(demo_runner, demo_series, 512)

    assert first.tobytes() == second.tobytes()


def test_forecasts_are_those_that_a_server_sends(
    demo_runner: Runner, demo_series: Series, demo_server: ServerProcess
) -> None:
    _, forecasts = asyncio.run(streamed(demo_runner, demo_series, 512))

    with Client(demo_server.address) as client, client.session("co2-weekly") as session:
        answers = session.run(demo_series.inputs[0][: SPLIT.stop])
    assert forecasts[:, 0].tobytes() == answers["forecast"][SPLIT.origins.start :].tobytes()


def feedback_series(package: ModelPackage, folder: Path, rng: np.random.Generator) -> Series:
    rows = rng.normal(size=(120, 3)).round(3)
    header = "value,season,plan\n"
    path = folder / "series.csv"
    path.write_text(header + "".join(f"{a},{b},{c}\n" for a, b, c in rows.tolist()))
    return read_series(path, package.manifest, ("value",))


MAKERS: dict[str, Callable[[Path], Path]] = {
    "carried": lambda folder: feedback_package(folder, name="carried"),
    "bare": lambda folder: feedback_package(folder, name="bare", carried=False),
    "planned": lambda folder: feedback_package(folder, name="planned", plan=True),
    "low": lambda folder: feedback_package(
        folder,
        name="low",
        forecast={"mode": "feedback", "pairs": ({**VALUE_BACK["pairs"][0], "quantile_level": 0.1},)},
    ),
}


@pytest.fixture(scope="module")
def feedback_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("feedback")
    for make in MAKERS.values():
        make(folder / "models")
    with ServerProcess(folder / "models", folder / "server") as server:
        yield server


@pytest.mark.parametrize("name", MAKERS)
def test_rolled_forecasts_are_those_of_a_live_session(
    name: str, feedback_server: ServerProcess, tmp_path: Path, rng: np.random.Generator
) -> None:
    package = read_package(MAKERS[name](tmp_path / "models"))
    series = feedback_series(package, tmp_path, rng)
    look = predicted(package.manifest)

    origins, forecasts = asyncio.run(rolled(load_runner(package), series, 6))

    with Client(feedback_server.address) as client:
        for i in (0, 17, 35):
            served = _served(client, package, series, int(origins[i]), 6)
            assert forecasts[i, 0].tobytes() == look.laid_out(served)[:, 0, 0].tobytes()


def _served(client: Client, package: ModelPackage, series: Series, row: int, num_horizons: int) -> Array:
    """The answer at a row, and those of `tidegate forecast` behind it, with what is known ahead."""
    names = [spec.name for spec in package.manifest.inputs]
    with client.session(package.manifest.name) as session:
        fed = {name: x[: row + 1] for name, x in zip(names, series.inputs, strict=True)}
        answer = session.run(fed)["y"][-1:]
        ahead = slice(row + 1, row + num_horizons)
        known = {name: x[ahead].copy() for name, x in zip(names, series.inputs, strict=True)}
        known["x"][:, 0] = np.nan
        if not package.manifest.outputs[0].carried_as:
            known["x"][0, 0] = answer[0, 0, 1]
        made = client.sessions.forecast(session.session_id, num_horizons - 1, known)
        return np.concatenate([answer, made.outputs["y"]])


async def test_the_calendar_of_rolled_steps_is_that_of_their_times(tmp_path: Path, hourly_file: Path) -> None:
    package = read_package(timed_package(tmp_path))
    series = read_series(hourly_file, package.manifest, ("load",))
    runner = load_runner(package)
    look, split = predicted(package.manifest), Split(26, 30)

    async with streamed_session(runner) as session:
        _, forecasts = await collected(stream_rolled(session, runner, series, split, look, num_horizons=3))

    # The same by hand, at the first origin, with the calendar written anew.
    x = series.inputs[0][:26]
    runner.arena.reset(np.array([1], np.int32))
    (answers,) = runner.step(np.array([1], np.int32), [x[None]])
    expected = [answers[0, -1, 0]]
    calendar = calendar_inputs(package.manifest.inputs, package.manifest.time, series.times[26:28])["x"]
    for step in calendar:
        step[0] = expected[-1]
        (answers,) = runner.step(np.array([1], np.int32), [step[None, None]])
        expected.append(answers[0, 0, 0])
    assert forecasts[0, 0, :, 0].tolist() == expected


async def test_rows_that_may_not_share_a_run_are_rolled_alone(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    package = read_package(feedback_package(tmp_path / "models"))
    series = feedback_series(package, tmp_path, rng)
    runner = load_runner(package)
    _, together = await rolled(runner, series, 4)

    runner.rows_together = False
    _, alone = await rolled(runner, series, 4)

    assert together.tobytes() == alone.tobytes()
