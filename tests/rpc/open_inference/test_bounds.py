"""What requests may hold while they are at work: room for their answers, and slots."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from grpc import aio

from support.odd_models import counter_package
from support.open_inference_messages import Value, infer_request, outputs_of
from support.open_inference_server import serving
from support.session_bench import LIMITS, MAX_SESSIONS, SessionBench
from support.waiting import until
from tidegate.oip import open_inference_pb2 as pb
from tidegate.rpc.flow import PAUSE_BYTES

if TYPE_CHECKING:
    from tidegate.oip.open_inference_pb2_grpc import GRPCInferenceServiceAsyncStub as Stub
Call = aio.StreamStreamCall[pb.ModelInferRequest, pb.ModelStreamInferResponse]

WINDOWS, WIDTH, STEPS = MAX_SESSIONS // 2, 1024, 32
ANSWER_BYTES = WINDOWS * WIDTH * STEPS * 4
LONG_STEPS = 2 * PAUSE_BYTES // (LIMITS.max_frames_in_flight * WIDTH * 4)


@pytest.mark.parametrize(
    "parameters", [{}, {"sequence_id": 5, "sequence_start": True}], ids=["window", "sequence"]
)
async def test_an_answer_counts_as_pending_before_it_is_made(
    bench: SessionBench, stub: Stub, in_thread: None, parameters: dict[str, Value]
) -> None:
    # 480 bytes of inputs, and 2560 of outputs: two such requests pass the limit by what they answer alone.
    request = infer_request("lstm", {"x": np.ones((1, 40, 3), np.float32)}, **parameters)  # type: ignore[arg-type]
    await stub.ModelInfer(request)
    with bench.engine_stalls("lstm/2"):
        first = asyncio.ensure_future(stub.ModelInfer(request))
        await until(lambda: _pending_bytes(bench) > 2560)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.ModelInfer(infer_request("lstm", {"x": np.ones((1, 40, 3), np.float32)}))

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "max_pending_bytes" in (caught.value.details() or "")
    assert outputs_of(await first)["y"].shape == (1, 40, 16)
    assert _pending_bytes(bench) == 0


async def test_who_reads_no_answers_keeps_nobody_from_the_slots(tmp_path: Path) -> None:
    counter_package(tmp_path, width=WIDTH)
    limits = replace(LIMITS, max_message_bytes=2 * ANSWER_BYTES, max_pending_bytes=64 * ANSWER_BYTES)
    bench = SessionBench(tmp_path, limits=limits)
    # Each takes all slots that may be borrowed.
    windows = infer_request("counter", {"x": np.ones((WINDOWS, STEPS, WIDTH), np.float32)})
    step = infer_request("counter", {"x": np.ones((1, WIDTH), np.float32)})
    async with serving(bench) as stub:
        unread = stub.ModelStreamInfer()
        writing = asyncio.create_task(_write_all(unread, [windows] * 40))
        await until(lambda: _pending_bytes(bench) > (LIMITS.max_frames_in_flight - 1) * ANSWER_BYTES)

        # What gRPC takes ahead of its client is soon full.
        answers = [await asyncio.wait_for(stub.ModelInfer(step), 10) for _ in range(100)]

        assert {outputs_of(answer)["y"][0, 0] for answer in answers} == {1}
        writing.cancel()
        unread.cancel()
        await until(lambda: _pending_bytes(bench) == 0)
    bench.close()


async def test_who_reads_no_answers_keeps_nobody_from_an_id(tmp_path: Path) -> None:
    counter_package(tmp_path, width=WIDTH)
    limits = replace(
        LIMITS,
        max_frame_steps=LONG_STEPS,
        max_message_bytes=8 * ANSWER_BYTES,
        max_pending_bytes=64 * ANSWER_BYTES,
    )
    numbers = range(1, LIMITS.max_frames_in_flight + 1)
    bench = SessionBench(tmp_path, limits=limits, max_sessions=len(numbers))
    # Their answers are twice what a stream may leave unsent, and each is made in many pieces.
    long = {"x": np.ones((1, LONG_STEPS, WIDTH), np.float32)}
    step = {"x": np.ones((1, WIDTH), np.float32)}
    async with serving(bench) as stub:
        unread = stub.ModelStreamInfer()
        requests = [infer_request("counter", long, sequence_id=n, sequence_start=True) for n in numbers]
        writing = asyncio.create_task(_write_all(unread, [*requests, *requests]))
        await until(lambda: _pending_bytes(bench) > PAUSE_BYTES)

        for number in numbers:
            begun = infer_request("counter", step, sequence_id=number, sequence_start=True)
            answer = await asyncio.wait_for(stub.ModelInfer(begun), 10)
            assert outputs_of(answer)["y"][0, 0] == 1

        writing.cancel()
        unread.cancel()
        await until(lambda: _pending_bytes(bench) == 0)
    bench.close()


async def _write_all(call: Call, requests: Sequence[pb.ModelInferRequest]) -> None:
    for request in requests:
        await call.write(request)


def _pending_bytes(bench: SessionBench) -> float:
    return bench.value("tidegate_pending_bytes") or 0
