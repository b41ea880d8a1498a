"""Streams of requests: many sequences and stateless ones at a time, refusals, and how a stream ends."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from grpc import aio

from support.open_inference_messages import Value, infer_request, outputs_of, parameters_of
from support.session_bench import LIMITS, SessionBench
from support.waiting import until
from tidegate.oip import open_inference_pb2 as pb

if TYPE_CHECKING:
    from tidegate.oip.open_inference_pb2_grpc import GRPCInferenceServiceAsyncStub as Stub

Call = aio.StreamStreamCall[pb.ModelInferRequest, pb.ModelStreamInferResponse]


def step(sequence_id: int | str, x: float = 1.0, **rest: Value) -> pb.ModelInferRequest:
    """One step of a sequence of the counter, without the time axis."""
    values = np.full((1, 2), x, np.float32)
    return infer_request("counter", {"x": values}, sequence_id=sequence_id, **rest)  # type: ignore[arg-type]


async def answer(call: Call) -> pb.ModelInferResponse:
    """The next answer, which must be no refusal."""
    response = await call.read()
    assert isinstance(response, pb.ModelStreamInferResponse)
    assert not response.error_message
    return response.infer_response


def first(response: pb.ModelInferResponse) -> float:
    return float(outputs_of(response)["y"].flat[0])


async def test_each_sequence_keeps_its_order_among_others_and_stateless_requests(stub: Stub) -> None:
    call = stub.ModelStreamInfer()
    window = infer_request("counter", {"x": np.ones((1, 3, 2), np.float32)}, request_id="w")
    for number in range(5):
        for sequence in ("a", 1, "1"):
            request = step(sequence, request_id=f"{sequence!r}/{number}")
            if number == 0:
                request.parameters["sequence_start"].bool_param = True
            await call.write(request)
        await call.write(window)
    await call.done_writing()

    seen: dict[object, list[tuple[str, float]]] = defaultdict(list)
    async for response in call:
        found = response.infer_response
        seen[parameters_of(found).get("sequence_id")].append((found.id, first(found)))

    expected: dict[object, list[tuple[str, float]]] = {
        s: [(f"{s!r}/{n}", n + 1.0) for n in range(5)] for s in ("a", 1, "1")
    }
    assert seen == expected | {None: [("w", 1.0)] * 5}


async def test_an_answer_says_which_step_of_which_sequence_it_is(stub: Stub) -> None:
    call = stub.ModelStreamInfer()
    await call.write(step(5, sequence_start=True))
    await call.write(infer_request("counter", {"x": np.ones((1, 4, 2), np.float32)}, sequence_id=5))
    await call.write(step(5, outputs=["y"], step=5))

    answers = [await answer(call) for _ in range(3)]

    assert [parameters_of(a) for a in answers] == [{"sequence_id": 5, "step": n} for n in (0, 1, 5)]
    assert [outputs_of(a)["y"].shape for a in answers] == [(1, 2), (1, 4, 2), (1, 2)]
    assert [first(a) for a in answers] == [1, 2, 6]
    call.cancel()


async def test_a_refused_request_leaves_the_stream_and_its_sequence_as_they_were(
    bench: SessionBench, stub: Stub
) -> None:
    call = stub.ModelStreamInfer()
    await call.write(step(5, sequence_start=True))
    await answer(call)
    refused = [
        step(5, step=7, request_id="a"),
        step(6, request_id="b"),
        step(5, np.nan, request_id="c"),
        infer_request("counter", {"x": np.ones((2, 2), np.float32)}, sequence_id=5, request_id="d"),
        infer_request("nobody", {}, request_id="e"),
    ]

    seen = []
    for request in refused:
        await call.write(request)
        response = await call.read()
        assert isinstance(response, pb.ModelStreamInferResponse)
        facts = parameters_of(response.infer_response)
        seen.append((response.infer_response.id, facts.pop("error_code"), facts))
        assert response.error_message.startswith(f"{seen[-1][1]}: ")

    assert seen == [
        ("a", "FAILED_PRECONDITION", {"error_reason": "WRONG_STEP", "expected_step": 1}),
        ("b", "NOT_FOUND", {"error_reason": "SESSION_NOT_FOUND"}),
        ("c", "INVALID_ARGUMENT", {"error_reason": "INVALID_REQUEST"}),
        ("d", "INVALID_ARGUMENT", {"error_reason": "INVALID_REQUEST"}),
        ("e", "NOT_FOUND", {"error_reason": "MODEL_NOT_FOUND"}),
    ]
    await call.write(step(5))
    assert first(await answer(call)) == 2
    assert bench.value("tidegate_errors_total", code="INVALID_ARGUMENT", reason="INVALID_REQUEST") == 2
    call.cancel()


async def test_steps_that_come_while_answers_are_sent_share_a_batch(bench: SessionBench, stub: Stub) -> None:
    call = stub.ModelStreamInfer()
    sequences = [f"s{i}" for i in range(6)]
    for sequence in sequences:
        await call.write(step(sequence, sequence_start=True))
    for _ in range(600):
        done = await answer(call)
        await call.write(step(str(parameters_of(done)["sequence_id"])))
    for _ in sequences:
        await answer(call)

    totals = (await bench.pool.resolve("counter")).engine.meter.totals
    assert totals.answered.count == 606
    assert sum(t.count for t in totals.batches.values()) < 606 / 1.25
    call.cancel()


async def test_steps_that_were_accepted_run_without_their_stream(bench: SessionBench, stub: Stub) -> None:
    call = stub.ModelStreamInfer()
    await call.write(step(5, sequence_start=True))
    await answer(call)
    for _ in range(10):
        await call.write(step(5))
    await answer(call)

    call.cancel()

    await until(lambda: bench.value("tidegate_streams") == 0 and bench.manager.is_idle())
    response = await stub.ModelInfer(step(5))
    number = parameters_of(response)["step"]
    assert isinstance(number, int)
    assert number >= 2
    assert first(response) == number + 1


async def test_two_streams_on_one_sequence_are_served_in_the_order_of_arrival(stub: Stub) -> None:
    one, other = stub.ModelStreamInfer(), stub.ModelStreamInfer()
    seen = []
    await one.write(step(5, sequence_start=True))
    seen.append(first(await answer(one)))

    for call in (other, one, other):
        await call.write(step(5))
        seen.append(first(await answer(call)))

    assert seen == [1, 2, 3, 4]
    one.cancel()
    other.cancel()


async def test_more_streams_than_the_server_takes_are_refused(bench: SessionBench, stub: Stub) -> None:
    calls = [stub.ModelStreamInfer() for _ in range(LIMITS.max_streams)]
    for call in calls:
        await call.write(step(5, sequence_start=True))
        await answer(call)

    with pytest.raises(aio.AioRpcError) as caught:
        await stub.ModelStreamInfer().read()

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert bench.value("tidegate_streams") == LIMITS.max_streams
    for call in calls:
        call.cancel()


async def test_a_marked_request_has_a_marked_answer(stub: Stub) -> None:
    call = stub.ModelStreamInfer()
    await call.write(step(5, sequence_start=True, triton_enable_empty_final_response=True))

    assert parameters_of(await answer(call))["triton_final_response"] is True
    call.cancel()


async def test_a_single_call_that_is_given_up_leaves_its_steps_applied(
    bench: SessionBench, stub: Stub, in_thread: None
) -> None:
    await stub.ModelInfer(step(5, sequence_start=True))
    with bench.engine_stalls():
        given_up = stub.ModelInfer(step(5))
        await until(lambda: not bench.manager.is_idle())
        given_up.cancel()
        await asyncio.wait([asyncio.ensure_future(given_up.code())])

    assert first(await stub.ModelInfer(step(5))) == 3
