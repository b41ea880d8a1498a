"""`ModelStreamInfer`: one client's stream of requests, of any number of sequences and stateless ones.

Sequences are queued at once, without a task; a stateless request is a task of its own. A stream holds no
sequence: when it is lost, what was accepted runs all the same.

A client with many sequences sends the next step of each when it has the answer to the last one, so steps come one
by one, as the answers go. Run as they come, each would be a batch of its own. They are held until the answers
that are ready have been sent, and then share the next batch.
"""

from __future__ import annotations

from grpc import aio

from tidegate.engine.frame import Source
from tidegate.errors import TidegateError
from tidegate.oip import open_inference_pb2 as pb
from tidegate.rpc.flow import Flow
from tidegate.rpc.open_inference.answer_room import AnswerRoom
from tidegate.rpc.open_inference.call import InferCall
from tidegate.rpc.open_inference.inference import Inference
from tidegate.rpc.open_inference.responses import fill_refusal
from tidegate.rpc.status import as_public
from tidegate.session.manager import SessionManager
from tidegate.session.sequences.request import Outcome
from tidegate.telemetry.metrics import Metrics

MAX_HELD = 32
"""Requests of sequences that are held while answers are being sent."""

HELD_BYTES = 4096
"""Size past which a request is not held: what is held is not counted."""

Context = aio.ServicerContext[pb.ModelInferRequest, pb.ModelStreamInferResponse]


class InferConnection:
    """One stream, for as long as it lives."""

    def __init__(
        self, inference: Inference, manager: SessionManager, metrics: Metrics, context: Context
    ) -> None:
        """Join the streams.

        Raises:
            TooManyRequests: Too many streams are open.
            ServerStopping: The server drains.
        """
        self._inference = inference
        self._manager = manager
        self._metrics = metrics
        # It has no handles, so it is told nothing of sessions but that the server drains; its end tells that.
        self._stream = manager.add_stream(_ignore, _ignore, _ignore)
        self._room = AnswerRoom(self._stream.source)
        self._flow = Flow(
            context,
            pb.ModelInferRequest,
            self._handle,
            source=self._stream.source,
            wake=self._room.look_again,
            budget=manager.budget,
            max_in_flight=manager.limits.max_frames_in_flight,
            on_idle=self._submit_held,
        )
        self._held: list[InferCall] = []
        # What was accepted runs, whether or not its answers are read: nobody else could have its slots, or its id.
        self._accepted = Source()

    async def run(self) -> None:
        """Serve until the client is done or lost, or the server drains.

        Raises:
            ServerStopping: All that was sent is answered, and the server drains.
        """
        try:
            await self._flow.run()
        finally:
            self._submit_held()
            self._manager.remove_stream(self._stream)

    def drain(self) -> None:
        """Read nothing more; end when everything is answered."""
        self._flow.drain()

    def _handle(self, message: pb.ModelInferRequest) -> None:
        try:
            call = self._inference.read(message)
            if call.sequence is None:
                self._flow.begin(self._run_windows(call))
            else:
                self._take_step(call)
        except Exception as error:
            self._refuse(message, error)

    def _take_step(self, call: InferCall) -> None:
        """Hold a step back while answers are being sent: those that come meanwhile share its batch."""
        self._held.append(call)
        is_small = call.num_bytes <= HELD_BYTES and len(self._held) < MAX_HELD
        if not (is_small and self._flow.is_sending):
            self._submit_held()

    def _submit_held(self) -> None:
        held, self._held = self._held, []
        for call in held:
            try:
                self._inference.submit(call, self._accepted, self._reply)
            except Exception as error:
                self._refuse(call.message, error)

    async def _run_windows(self, call: InferCall) -> None:
        response = pb.ModelStreamInferResponse()
        try:
            num_bytes = await self._inference.run_windows(
                call, self._accepted, self._room.take, response.infer_response
            )
        except Exception as error:
            self._refuse(call.message, error)
        else:
            self._flow.send(response, num_bytes, completes=True)

    def _reply(self, call: InferCall, outcome: Outcome) -> None:
        if self._flow.closed:
            return
        if isinstance(outcome, TidegateError):
            self._refuse(call.message, outcome)
            return
        response = pb.ModelStreamInferResponse()
        try:
            num_bytes = call.fill(
                response.infer_response, outcome.model.manifest, outcome.outputs, outcome.first_step
            )
        except Exception as error:
            self._refuse(call.message, error)
        else:
            self._flow.send(response, num_bytes, completes=True)

    def _refuse(self, message: pb.ModelInferRequest, error: Exception) -> None:
        """Tell the client of a refused request; the stream stays open."""
        public = as_public(error)
        self._metrics.errors.labels(public.code, public.reason).inc()
        response = pb.ModelStreamInferResponse()
        fill_refusal(response, message, public)
        self._flow.send(response, response.ByteSize(), completes=True)


def _ignore(*_: object) -> None:
    """Take what is not for this door."""
