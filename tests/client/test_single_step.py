"""A step by a single call whose answer is lost, against a foreign peer."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from support.peer_parts import VERSION
from support.sum_peer import SumPeer
from tidegate.client import AnswerLost, AsyncClient, RecoveryOptions, StepAnswer, StreamLost
from tidegate.errors import SessionExists, TidegateError, TooManyRequests, WrongStep
from tidegate.rpc.status import to_status
from tidegate.v1 import model_pb2
from tidegate.v1 import session_pb2 as pb


class OneSession(SumPeer):
    """Steps one session by single calls; a script says how each call ends.

    Attributes:
        script: Per call: "ok", "lost" (applied, no answer), "unheard" (neither), or an error.
        requests: What came.
    """

    def __init__(self, *script: str | TidegateError) -> None:
        super().__init__()
        self.script = list(script)
        self.requests: list[pb.StepSessionRequest] = []
        self.next_step = 0

    async def step_session(self, request: pb.StepSessionRequest, context: Any) -> pb.StepSessionResponse:
        self.requests.append(request)
        ending = self.script.pop(0)
        if isinstance(ending, TidegateError):
            await self._refuse(context, ending)
        if ending == "unheard":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "cut by the peer")
        if request.first_step != self.next_step:
            await self._refuse(context, WrongStep("wrong", expected_step=self.next_step))
        x = np.frombuffer(request.inputs[0].raw, "<f4")
        self.next_step += len(x)
        if ending == "lost":
            await context.abort(grpc.StatusCode.INTERNAL, "cut by the peer")
        y = pb.Tensor(name="y", data_type=model_pb2.DATA_TYPE_FLOAT32, shape=x.shape, raw=(-x).tobytes())
        return pb.StepSessionResponse(next_step=self.next_step, outputs=[y], model=VERSION)

    async def _refuse(self, context: Any, error: TidegateError) -> None:
        status = to_status(error)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        await context.abort(grpc.StatusCode[error.code], status.message)


async def step(peer: OneSession, num_steps: int = 2, **options: Any) -> StepAnswer:
    recovery = RecoveryOptions(first_delay_s=0.005, open_timeout_s=options.pop("open_timeout_s", 20))
    async with peer, AsyncClient(peer.address, recovery=recovery) as client:
        return await client.step_session(
            "s", np.arange(num_steps), first_step=0, model="sum", mode="create-or-resume", **options
        )


async def test_a_step_that_nobody_heard_of_is_sent_again_under_its_number() -> None:
    peer = OneSession("unheard", "unheard", "ok")

    answer = await step(peer)

    assert (answer.next_step, answer.outputs["y"].tolist()) == (2, [0, -1])
    assert [request.first_step for request in peer.requests] == [0, 0, 0]


async def test_a_step_that_was_applied_and_not_answered_says_so() -> None:
    with pytest.raises(AnswerLost, match="steps 0 to 1 were applied, their answer is lost") as caught:
        await step(OneSession("unheard", "lost", "ok"))

    assert (caught.value.next_step, caught.value.grpc_code) == (2, "INTERNAL")


async def test_a_step_that_is_unknown_in_the_end_is_told_as_that() -> None:
    with pytest.raises(StreamLost, match="may or may not have been applied") as caught:
        await step(OneSession(*["unheard"] * 100), open_timeout_s=0.4)

    assert caught.value.unknown == {"s": range(2)}
    assert not isinstance(caught.value, AnswerLost)


async def test_a_session_that_another_went_on_with_is_no_answer_of_ours() -> None:
    peer = OneSession("unheard", WrongStep("wrong", expected_step=7))

    with pytest.raises(WrongStep) as caught:
        await step(peer)

    assert caught.value.expected_step == 7


async def test_a_session_that_was_perhaps_created_by_a_lost_call_is_unknown() -> None:
    with pytest.raises(StreamLost) as caught:
        await step(OneSession("unheard", SessionExists("it exists")))

    assert caught.value.unknown == {"s": range(2)}


async def test_a_wrong_number_without_a_lost_call_is_only_that() -> None:
    with pytest.raises(WrongStep):
        await step(OneSession(WrongStep("wrong", expected_step=2)))


async def test_a_step_waits_for_room() -> None:
    answer = await step(OneSession(TooManyRequests("full", retry_after_s=0.02), "ok"))

    assert answer.next_step == 2


async def test_a_step_without_room_in_time_says_so() -> None:
    async with asyncio.timeout(10):
        with pytest.raises(TooManyRequests):
            await step(OneSession(TooManyRequests("full", retry_after_s=30)), timeout_s=1)
