"""Where the requests of this door go: stateless ones to borrowed slots, the others to their sequences.

What a request holds is counted from the moment it is taken until its answer is made, and room for its answer from
the moment its inputs are read: a few steps sent may be many times as much to answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from tidegate.engine.frame import Source
from tidegate.errors import TidegateError
from tidegate.model.manifest import Manifest
from tidegate.oip import open_inference_pb2 as pb
from tidegate.rpc.open_inference.call import InferCall
from tidegate.rpc.open_inference.layouts import Layouts
from tidegate.session.manager import SessionManager
from tidegate.session.sequences.request import Outcome, SequenceRequest
from tidegate.session.windows import Windows
from tidegate.tensor import Array

Reply = Callable[[InferCall, Outcome], None]

Begin = Callable[[int], AbstractAsyncContextManager[None]]
"""Is entered for as long as an answer of so many bytes is being made; it may wait first."""


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
            await self.run_windows(call, Source(), lambda _: nullcontext(), response)
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

    async def run_windows(
        self, call: InferCall, source: Source, begin: Begin, response: pb.ModelInferResponse
    ) -> int:
        """Answer a stateless request.

        Args:
            call: The request.
            source: Where it comes from.
            begin: Lets it run.
            response: Is filled.

        Returns:
            Bytes of the outputs in it.

        Raises:
            TidegateError: It was refused.
        """
        message, held = call.message, _Held(self._manager, call)
        try:
            self._manager.check_running()
            model = await self._manager.pool.resolve(message.model_name, message.model_version)
            with model.in_use():
                inputs = call.read_inputs(model.manifest)
                async with begin(call.answer_bytes):
                    held.take_answer()
                    outputs = await self._windows.run(
                        model, inputs, source=source, time_limit_s=call.time_left_s()
                    )
            return call.fill(response, model.manifest, outputs)
        finally:
            held.give_back()

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
        parameters, message, held = call.parameters, call.message, _Held(self._manager, call)

        def read_inputs(manifest: Manifest) -> list[Array]:
            inputs = call.read_inputs(manifest)
            held.take_answer()
            return inputs

        def settle(outcome: Outcome) -> None:
            held.give_back()
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
                read_inputs=read_inputs,
                source=source,
                reply=settle,
            )
        )


class _Held:
    """What a request holds of the budget."""

    __slots__ = ("_budget", "_call", "_max_bytes", "_num_bytes")

    def __init__(self, manager: SessionManager, call: InferCall) -> None:
        """Take what its message holds.

        Raises:
            TooManyRequests: That is not left.
        """
        self._budget = manager.budget
        self._budget.take(call.num_bytes)
        self._num_bytes = call.num_bytes
        self._max_bytes = call.num_bytes + manager.limits.max_message_bytes
        self._call = call

    def take_answer(self) -> None:
        """Take room for its answer too, if it has none; one that fits into no message is refused elsewhere.

        Raises:
            TooManyRequests: That is not left.
        """
        wanted = min(self._call.num_bytes + self._call.answer_bytes, self._max_bytes)
        if wanted > self._num_bytes:
            self._budget.take(wanted - self._num_bytes)
            self._num_bytes = wanted

    def give_back(self) -> None:
        """The answer is made, or will not be."""
        self._budget.give_back(self._num_bytes)
