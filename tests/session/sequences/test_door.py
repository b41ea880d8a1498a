"""What a sequence does, whether its answers wait for the store or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support.sequence_clients import SequenceClient
from support.session_bench import LIMITS, SessionBench
from support.session_clients import series
from support.waiting import until
from tidegate.errors import (
    MessageTooLarge,
    ModelMismatch,
    ModelNotFound,
    ServerStopping,
    SessionNotFound,
    WrongStep,
)
from tidegate.protocol.lifecycle import Condition


async def test_a_sequence_begins_goes_on_and_ends(door_bench: SessionBench, client: SequenceClient) -> None:
    assert await client.step(5, 1, start=True) == [1]
    assert await client.step(5, 2) == [3]
    assert await client.step(5, 4, end=True) == [7]
    await until(door_bench.manager.is_idle)

    with pytest.raises(
        SessionNotFound, match=r"no sequence 5 of model 'counter': begin it with sequence_start"
    ):
        await client.step(5, 1)
    assert await door_bench.condition("sequence/counter/int/5") is Condition.UNKNOWN


async def test_a_step_without_a_start_is_refused(client: SequenceClient) -> None:
    with pytest.raises(SessionNotFound):
        await client.step("never begun", 1)


async def test_one_request_may_be_a_whole_sequence(door_bench: SessionBench, client: SequenceClient) -> None:
    assert await client.step(5, 1, 2, 4, start=True, end=True) == [1, 3, 7]
    assert await client.step(5, 1, start=True, end=True) == [1]
    await until(door_bench.manager.is_idle)

    assert door_bench.in_memory() == set()
    assert door_bench.value("tidegate_sequence_starts_total", model="counter") == 2
    assert door_bench.value("tidegate_sequence_ends_total", model="counter") == 2
    assert door_bench.value("tidegate_sequence_restarts_total", model="counter") is None


async def test_kinds_of_ids_and_models_make_different_sequences(client: SequenceClient) -> None:
    await client.step(5, 1, start=True)
    await client.step("5", 10, start=True)
    await client.step(5, start=True, model="lstm", inputs=[np.zeros((1, 1, 3), np.float32)])

    assert await client.step(5, 1) == [2]
    assert await client.step("5", 1) == [11]
    answer = await client.step(5, model="lstm", inputs=[np.zeros((1, 1, 3), np.float32)]).answer()
    assert (answer.first_step, answer.outputs[0].shape) == (1, (1, 1, 16))


async def test_answers_say_which_steps_they_are(client: SequenceClient) -> None:
    first = await client.step(5, 1, 1, 1, start=True).answer()
    second = await client.step(5, 1).answer()

    assert (first.first_step, second.first_step) == (0, 3)
    assert first.outputs[0].shape == (1, 3, 2)


async def test_a_request_may_say_which_step_it_is(client: SequenceClient) -> None:
    await client.step(5, 1, start=True, step=0)
    for wrong in (0, 2):
        with pytest.raises(WrongStep, match=f"step: expected 1, got {wrong}") as caught:
            await client.step(5, 1, step=wrong)
        assert caught.value.expected_step == 1
    assert await client.step(5, 1, step=1) == [2]


async def test_a_start_is_step_0(door_bench: SessionBench, client: SequenceClient) -> None:
    with pytest.raises(WrongStep, match="step: expected 0, got 3"):
        await client.step(5, 1, start=True, step=3)

    assert door_bench.in_memory() == set()


async def test_a_sequence_keeps_to_the_version_that_it_began_with(client: SequenceClient) -> None:
    await client.step(6, 1, start=True)
    await client.step(5, 1, start=True, version="1")

    assert (await client.step(5, 1).answer()).model.manifest.version == "1"
    assert (await client.step(6, 1).answer()).model.manifest.version == "2"
    with pytest.raises(
        ModelMismatch, match="model_version: sequence 5 of model 'counter' is pinned to '1', got '2'"
    ):
        await client.step(5, 1, version="2")


async def test_a_start_may_go_to_another_version(client: SequenceClient) -> None:
    await client.step(5, 1, start=True, version="1")

    assert await client.step(5, 1, start=True, version="2") == [1]

    assert (await client.step(5, 1).answer()).model.manifest.version == "2"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"inputs": [series([1.0] * (LIMITS.max_frame_steps + 1))]}, MessageTooLarge),
        ({"model": "none-such"}, ModelNotFound),
        ({"version": "7"}, ModelNotFound),
    ],
)
async def test_a_start_that_is_refused_begins_nothing(
    door_bench: SessionBench, client: SequenceClient, fields: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await client.step(5, 1, start=True, **fields)

    assert door_bench.in_memory() == set()
    with pytest.raises(SessionNotFound):
        await client.step(5, 1)


async def test_inputs_that_are_refused_change_nothing(client: SequenceClient) -> None:
    await client.step(5, 1, start=True)
    with pytest.raises(MessageTooLarge):
        await client.step(5, inputs=[series([1.0] * (LIMITS.max_frame_steps + 1))])

    assert await client.step(5, 1) == [2]


async def test_a_server_that_stops_takes_no_request(door_bench: SessionBench, client: SequenceClient) -> None:
    before = client.step(5, 1, start=True)
    door_bench.manager.drain()

    with pytest.raises(ServerStopping):
        await client.step(5, 1)
    assert await before == [1]


async def test_it_is_busy_until_all_is_answered_and_ended(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    reply = client.step(5, 1, start=True, end=True)
    was_idle = door_bench.manager.is_idle()
    await reply
    await until(door_bench.manager.is_idle)

    assert not was_idle
    assert door_bench.in_memory() == set()
