"""Where the requests of this door go: stateless ones to borrowed slots, the others to their sequences.

What a request holds is counted from the moment it is taken until its answer is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tidegate.engine.frame import Source
from tidegate.errors import TidegateError
from tidegate.oip import open_inference_pb2 as pb
from tidegate.rpc.open_inference.call import InferCall
from tidegate.rpc.open_inference.layouts import Layouts
from tidegate.session.manager import SessionManager
from tidegate.session.sequences.request import Outcome, SequenceRequest
from tidegate.session.windows import Windows

Reply = Callable[[InferCall, Outcome], None]


class Inference:
    """Takes requests, for the single calls and the streams of one server."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager
        self._windows = Windows(manager)
        self._layouts = Layouts()

    def read(self, message: pb.ModelInferRequest) -> InferCall:
        """Read a request as far as it needs no model.

        Raises:
            TidegateError: It cannot be served; nothing was changed.
        """
        return InferCall(message, self._layouts)

    async def infer(self, message: pb.ModelInferRequest) -> pb.ModelInferResponse:
        """Answer a single call; one that is cancelled leaves the steps of a sequence as they were accepted.

        Raises:
            TidegateError: It was refused.
        """
        call = self.read(message)
        response = pb.ModelInferResponse()
        if call.sequence is None:
            await self.run_windows(call, Source(), response)
            return response
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def settle(_: InferCall, outcome: Outcome) -> None:
            if not done.done():
                done.set_result(outcome)

        self.submit(call, Source(), settle)
        outcome = await done
        if isinstance(outcome, TidegateError):
            raise outcome
        call.fill(response, outcome.model.manifest, outcome.outputs, outcome.first_step)
        return response

    async def run_windows(self, call: InferCall, source: Source, response: pb.ModelInferResponse) -> int:
        """Answer a stateless request.

        Args:
            call: The request.
            source: Where it comes from.
            response: Is filled.

        Returns:
            Bytes of the outputs in it.

        Raises:
            TidegateError: It was refused.
        """
        message = call.message
        self._manager.budget.take(call.num_bytes)
        try:
            self._manager.check_running()
            model = await self._manager.pool.resolve(message.model_name, message.model_version)
            with model.in_use():
                outputs = await self._windows.run(
                    model,
                    call.read_inputs(model.manifest),
                    source=source,
                    time_limit_s=call.parameters.time_limit_s,
                )
        finally:
            self._manager.budget.give_back(call.num_bytes)
        return call.fill(response, model.manifest, outputs)

    def submit(self, call: InferCall, source: Source, reply: Reply) -> None:
        """Queue a request of a sequence.

        Args:
            call: The request.
            source: Where it comes from.
            reply: Takes what became of it, once.

        Raises:
            TooManyRequests: Too many bytes are waiting; nothing was queued.
        """
        assert call.sequence is not None
        budget, parameters, message = self._manager.budget, call.parameters, call.message
        budget.take(call.num_bytes)

        def settle(outcome: Outcome) -> None:
            budget.give_back(call.num_bytes)
            reply(call, outcome)

        self._manager.sequences.submit(
            SequenceRequest(
                key=call.sequence,
                version=message.model_version,
                request_id=message.id,
                starts=parameters.starts,
                ends=parameters.ends,
                step=parameters.step,
                time_limit_s=parameters.time_limit_s,
                arrived_s=call.arrived_s,
                read_inputs=call.read_inputs,
                source=source,
                reply=settle,
            )
        )
