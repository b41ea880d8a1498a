"""A step by a single call, and what is known of it when its answer is lost.

The step keeps its number however often it is sent, so it is applied once. A server that says that it
has been applied has no answer to give any more: only a stream can have it computed again.
"""

from __future__ import annotations

import grpc.aio

from tidegate.client.errors import AnswerLost, StreamLost
from tidegate.client.unary import UnaryCaller
from tidegate.errors import SessionBusy, SessionExists, TidegateError, WrongStep
from tidegate.v1 import session_pb2 as pb

StepMethod = grpc.aio.UnaryUnaryMultiCallable[pb.StepSessionRequest, pb.StepSessionResponse]


async def step_settled(
    unary: UnaryCaller,
    method: StepMethod,
    request: pb.StepSessionRequest,
    num_steps: int,
    timeout_s: float | None,
) -> pb.StepSessionResponse:
    """Make the call under the same number until it is answered, and find out what a lost one did.

    Raises:
        AnswerLost: The steps were applied, their answer was lost.
        StreamLost: Nobody knows whether the steps were applied; `unknown` names them.
        TidegateError: The server's error, which no lost call has part in.
    """
    losses: list[StreamLost] = []
    try:
        return await unary.repeat(method, request, timeout_s, losses)
    except (StreamLost, WrongStep, SessionExists, SessionBusy) as error:
        if not losses:
            raise
        raise _what_it_means(error, losses[-1], request, num_steps) from error


def _what_it_means(
    error: TidegateError, loss: StreamLost, request: pb.StepSessionRequest, num_steps: int
) -> TidegateError:
    """What an error means after calls of which nobody knows what they did."""
    steps = range(request.first_step, request.first_step + num_steps)
    named = f"steps {steps.start} to {steps.stop - 1}"
    if isinstance(error, WrongStep) and error.expected_step == steps.stop:
        text = f"{loss}; {named} were applied, their answer is lost"
        return AnswerLost(text, address=loss.address, grpc_code=loss.grpc_code, next_step=steps.stop)
    if isinstance(error, WrongStep):
        return error
    text = f"{error}; {named} of session {request.session_id!r} may or may not have been applied"
    unknown = {request.session_id: steps}
    return StreamLost(text, address=loss.address, grpc_code=loss.grpc_code, unknown=unknown)
