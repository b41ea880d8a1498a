"""Forecasts from live states, on a session manager with real models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from support.forecast_models import direct_package, feedback_package
from support.odd_models import counter_package
from support.session_bench import LIMITS, SessionBench, StreamClient
from tidegate.engine.errands import Errands
from tidegate.errors import (
    InvalidRequest,
    MessageTooLarge,
    ModelMismatch,
    ServerStopping,
    SessionNotFound,
    SessionNotStarted,
    TooManyRequests,
    Unsupported,
)
from tidegate.session.forecasting import Forecast, Forecaster
from tidegate.tensor import Array

HISTORY = np.random.default_rng(3).normal(0, 1, (9, 2)).astype(np.float32)
SEASON = np.linspace(-1, 1, 12, dtype=np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("models")
    feedback_package(repository)
    feedback_package(repository, name="uncarried", carried=False)
    direct_package(repository)
    counter_package(repository)
    return repository


class Sessions:
    """A stream, and forecasts of its sessions."""

    def __init__(self, bench: SessionBench) -> None:
        self.bench = bench
        self.client: StreamClient = bench.client()
        self.forecaster = Forecaster(bench.manager)
        self.handles: dict[str, int] = {}
        self.next_steps: dict[str, int] = {}

    async def open(self, session_id: str, model: str) -> None:
        opened = await self.client.open(session_id, model=model)
        self.handles[session_id], self.next_steps[session_id] = opened.handles[0], 0

    async def feed(self, session_id: str, x: Array) -> Array:
        """Step a session, rows of x are steps; its answers."""
        first = self.next_steps[session_id]
        self.next_steps[session_id] += len(x)
        sent = self.client.send([self.handles[session_id]], [first], x[None])
        await sent.done.wait()
        assert not sent.errors
        return sent.row(0)

    async def forecast(self, session_id: str, num_steps: int, **future: Array) -> Forecast:
        model = await self.bench.manager.model_of(session_id)
        return await self.forecaster.forecast(session_id, model, num_steps, future)

    def state_bytes(self, session_id: str) -> bytes:
        table, slot = self.bench.place(session_id)
        slots = np.array([slot], np.int32)
        return b"".join(s.tobytes() for s in table.model.runner.arena.read(slots))


@pytest.fixture
async def sessions(bench: SessionBench) -> AsyncIterator[Sessions]:
    return Sessions(bench)


def season_ahead(num_steps: int) -> Array:
    """What is known of x: the season, and not the value."""
    return np.stack([np.full(num_steps, np.nan, np.float32), SEASON[:num_steps]], 1)


async def test_a_forecast_equals_a_twin_that_is_fed_with_the_predictions_by_hand(sessions: Sessions) -> None:
    for name in ("a", "twin"):
        await sessions.open(name, "feedback")
    await sessions.feed("a", HISTORY)
    answer = (await sessions.feed("twin", HISTORY))[-1]

    made = await sessions.forecast("a", 12, x=season_ahead(12))

    fed, answers = [], []
    for season in SEASON:
        fed.append([answer[0, 1], season])  # the median of the only horizon
        [answer] = await sessions.feed("twin", np.array(fed[-1:], np.float32))
        answers.append(answer)
    (_, outputs), (_, inputs) = made.outputs[0], made.inputs[0]
    assert (made.next_step, made.horizon_steps) == (9, list(range(1, 13)))
    assert outputs.tobytes() == np.array(answers).tobytes()
    assert inputs.tobytes() == np.array(fed, np.float32).tobytes()


async def test_the_session_is_untouched(sessions: Sessions) -> None:
    for name in ("a", "twin"):
        await sessions.open(name, "feedback")
        await sessions.feed(name, HISTORY)
    before = sessions.state_bytes("a")

    await sessions.forecast("a", 12, x=season_ahead(12))

    assert sessions.state_bytes("a") == before
    assert sessions.bench.place("a").next_step == 9
    more = [await sessions.feed(name, HISTORY) for name in ("a", "twin")]
    assert more[0].tobytes() == more[1].tobytes()


async def test_given_values_win_over_predicted_ones(sessions: Sessions) -> None:
    for name in ("a", "twin"):
        await sessions.open(name, "feedback")
        await sessions.feed(name, HISTORY)
    given = season_ahead(3)
    given[:2, 0] = (5, -5)

    made = await sessions.forecast("a", 3, x=given)

    by_hand = await sessions.feed("twin", given[:2])
    assert made.outputs[0][1][:2].tobytes() == by_hand.tobytes()
    assert made.inputs[0][1][:, 0].tolist() == [5, -5, by_hand[-1, 0, 1]]


async def test_what_is_needed_and_missing_is_asked_for(sessions: Sessions) -> None:
    await sessions.open("a", "feedback")
    await sessions.open("u", "uncarried")
    for name in ("a", "u"):
        await sessions.feed(name, HISTORY)

    with pytest.raises(InvalidRequest, match=r"expected also 'x' feature 'season' \[4\]$"):
        await sessions.forecast("a", 4)
    with pytest.raises(InvalidRequest, match=r"expected also 'x' feature 'value' \[1\]$"):
        await sessions.forecast("u", 4, x=season_ahead(4))


async def test_a_first_value_from_the_request_starts_a_model_that_carries_no_answer(
    sessions: Sessions,
) -> None:
    for name in ("a", "twin"):
        await sessions.open(name, "uncarried")
        await sessions.feed(name, HISTORY)
    future = season_ahead(3)
    future[0, 0] = 0.25

    made = await sessions.forecast("a", 3, x=future)

    for step in range(3):
        [answer] = await sessions.feed("twin", made.inputs[0][1][step : step + 1])
        assert answer.tobytes() == made.outputs[0][1][step].tobytes()
        if step < 2:
            assert made.inputs[0][1][step + 1, 0] == answer[0, 1]


async def test_a_session_without_a_step_has_no_answer_to_start_from(sessions: Sessions) -> None:
    await sessions.open("f", "feedback")
    await sessions.open("d", "direct")

    with pytest.raises(InvalidRequest, match=r"expected also 'x' feature 'value' \[1\]$"):
        await sessions.forecast("f", 2, x=season_ahead(2))
    with pytest.raises(SessionNotStarted, match="'d' has had no step"):
        await sessions.forecast("d", 2)


@pytest.mark.parametrize(("num_steps", "horizons"), [(1, [1]), (3, [1, 2]), (4, [1, 2, 4])])
async def test_a_direct_forecast_is_the_last_answer_cut_to_the_horizon(
    sessions: Sessions, num_steps: int, horizons: list[int]
) -> None:
    await sessions.open("d", "direct")
    answer = (await sessions.feed("d", np.array([[1], [2]], np.float32)))[-1]

    made = await sessions.forecast("d", num_steps)

    [(_, values)] = made.outputs
    assert (made.next_step, made.horizon_steps, made.inputs) == (2, horizons, [])
    assert values.tolist() == answer[: len(horizons)].tolist()


@pytest.mark.parametrize("num_steps", [0, 5])
async def test_past_the_horizon_a_direct_forecast_is_refused(sessions: Sessions, num_steps: int) -> None:
    await sessions.open("d", "direct")

    with pytest.raises(InvalidRequest, match=f"direct/1 looks 1 to 4 steps ahead, got {num_steps}"):
        await sessions.forecast("d", num_steps)


async def test_a_direct_model_takes_no_future_inputs(sessions: Sessions) -> None:
    await sessions.open("d", "direct")

    with pytest.raises(InvalidRequest, match="expected none, direct/1 looks ahead by itself; got 'x'"):
        await sessions.forecast("d", 2, x=np.ones((2, 1), np.float32))


async def test_a_model_that_does_not_say_how_it_forecasts_is_not_forecast(sessions: Sessions) -> None:
    await sessions.open("c", "counter")

    with pytest.raises(Unsupported, match=r"counter/1 .* its manifest has no \[forecast\]"):
        await sessions.forecast("c", 2)


async def test_steps_that_wait_are_not_in_the_forecast(sessions: Sessions, in_thread: None) -> None:
    await sessions.open("d", "direct")
    first = sessions.client.send([sessions.handles["d"]], [0], np.ones((1, 1, 1), np.float32))
    rest = sessions.client.send([sessions.handles["d"]], [1], np.ones((1, 8, 1), np.float32))

    made = await sessions.forecast("d", 1)
    applied = made.next_step
    await first.done.wait()
    await rest.done.wait()

    assert 1 <= applied < 9
    assert made.outputs[0][1].tolist() == [applied]


async def test_a_long_forecast_lets_single_steps_through(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sessions.open("a", "feedback")
    await sessions.open("b", "feedback")
    await sessions.feed("a", HISTORY)
    pieces: list[int] = []
    work = Errands.work
    monkeypatch.setattr(Errands, "work", lambda self, call: (pieces.append(1), work(self, call))[1])

    forecast = asyncio.create_task(sessions.forecast("a", 64, x=np.resize(season_ahead(12), (64, 2))))
    single_steps_during = 0
    while not forecast.done():
        await sessions.feed("b", HISTORY[:1])
        single_steps_during += not forecast.done()

    assert len(pieces) == 64 // 4
    assert single_steps_during >= len(pieces) // 2


async def test_a_forecast_has_no_more_steps_than_a_frame(sessions: Sessions) -> None:
    await sessions.open("a", "feedback")

    with pytest.raises(MessageTooLarge, match=f"num_steps: expected at most {LIMITS.max_frame_steps}"):
        await sessions.forecast("a", LIMITS.max_frame_steps + 1)
    with pytest.raises(InvalidRequest, match="num_steps: expected at least 1"):
        await sessions.forecast("a", 0)


async def test_a_forecast_counts_as_bytes_that_wait(sessions: Sessions) -> None:
    await sessions.open("a", "feedback")
    await sessions.feed("a", HISTORY)
    sessions.bench.manager.budget.take(LIMITS.max_pending_bytes - 100)

    with pytest.raises(TooManyRequests):
        await sessions.forecast("a", 12, x=season_ahead(12))

    sessions.bench.manager.budget.give_back(LIMITS.max_pending_bytes - 100)


async def test_a_detached_session_is_forecast_and_an_ended_one_is_not(sessions: Sessions) -> None:
    await sessions.open("d", "direct")
    await sessions.feed("d", np.ones((2, 1), np.float32))
    sessions.client.leave()

    made = await sessions.forecast("d", 1)
    await sessions.bench.manager.end_session("d")

    assert made.outputs[0][1].tolist() == [2]
    with pytest.raises(SessionNotFound):
        await sessions.forecast("d", 1)


async def test_an_id_that_was_given_to_another_model_meanwhile_is_refused(sessions: Sessions) -> None:
    await sessions.open("d", "direct")
    model = await sessions.bench.manager.model_of("d")
    await sessions.bench.manager.end_session("d")
    await sessions.open("d", "counter")

    with pytest.raises(ModelMismatch, match="is now one of counter/1"):
        await sessions.forecaster.forecast("d", model, 1, {})


async def test_a_draining_server_makes_no_forecast(sessions: Sessions) -> None:
    await sessions.open("d", "direct")
    sessions.bench.manager.drain()

    with pytest.raises(ServerStopping):
        await sessions.forecast("d", 1)
