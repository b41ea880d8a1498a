"""A plain client of the Open Inference door: requests of one float32 input, their answers, and streams of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from grpc import aio

from support.raw_stream import Floats
from tidegate.oip import open_inference_pb2 as pb
from tidegate.oip import open_inference_pb2_grpc

TIMEOUT_S = 60.0


@dataclass
class Refused(Exception):
    """The server refused a request.

    Attributes:
        code: The canonical code's name.
        text: For people.
        facts: What a stream tells in parameters: `expected_step`, `next_step`, ...
    """

    code: str
    text: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """The answer to a request of a sequence, or to one window; first_step is -1 for the latter.

    Attributes:
        first_step: Number of the first step answered.
        y: The first output, [T, ...].
    """

    first_step: int
    y: Floats


def parameters(**values: bool | int | str | None) -> dict[str, pb.InferParameter]:
    """Parameters of a request; None and False are left out."""
    made = {}
    for name, value in values.items():
        if isinstance(value, bool):
            kind = "bool_param"
        else:
            kind = "int64_param" if isinstance(value, int) else "string_param"
        if value is not None and value is not False:
            made[name] = pb.InferParameter(**{kind: value})
    return made


def request(
    x: Floats,
    *,
    model: str = "lstm",
    request_id: str = "",
    sequence: int | str | None = None,
    start: bool = False,
    end: bool = False,
    step: int | None = None,
) -> pb.ModelInferRequest:
    """A request of one sequence, or of one window; x: [T, features]."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, *x.shape])
    said = parameters(sequence_id=sequence, sequence_start=start, sequence_end=end, step=step)
    return pb.ModelInferRequest(
        model_name=model,
        id=request_id,
        inputs=[tensor],
        raw_input_contents=[np.ascontiguousarray(x, "<f4").tobytes()],
        parameters=said,
    )


def answer_in(response: pb.ModelInferResponse) -> Answer:
    """What a response says."""
    values = np.frombuffer(response.raw_output_contents[0], "<f4").reshape(response.outputs[0].shape)
    step = response.parameters["step"].int64_param if "step" in response.parameters else -1
    return Answer(step, values[0])


async def infer(channel: aio.Channel, message: pb.ModelInferRequest) -> Answer:
    """One unary call.

    Raises:
        Refused: It was.
    """
    try:
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        return answer_in(await stub.ModelInfer(message, timeout=TIMEOUT_S))
    except aio.AioRpcError as error:
        raise Refused(error.code().name, error.details() or "", {}) from None


class InferStream:
    """One ModelStreamInfer call, as `async with`; answers find their requests by id.

    Requests of one id, or of none, are answered in their order: they must be of one sequence.
    """

    def __init__(self, channel: aio.Channel) -> None:
        self._stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._one_write = asyncio.Lock()
        self._why = "it was ended"
        self._waiting: dict[str, list[asyncio.Future[Answer]]] = {}

    async def __aenter__(self) -> InferStream:
        self._call = self._stub.ModelStreamInfer()
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._reader.done():
            await self._call.done_writing()
            await asyncio.wait([self._reader], timeout=TIMEOUT_S)
        self._call.cancel()
        await asyncio.wait([self._reader])

    async def send(self, message: pb.ModelInferRequest) -> asyncio.Future[Answer]:
        """Send a request; the future is its answer, Refused, or ConnectionError when the stream is lost first."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if self._reader.done():
            answer.set_exception(self._loss())
            return answer
        # Whoever gave up on it has been told enough by the answer that made him.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with self._one_write:
                self._waiting.setdefault(message.id, []).append(answer)
                await self._call.write(message)
        except (aio.AioRpcError, asyncio.InvalidStateError):
            if not answer.done():
                answer.set_exception(self._loss())
        return answer

    async def ask(self, message: pb.ModelInferRequest) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            Refused: It was.
            ConnectionError: The stream was lost first.
        """
        return await asyncio.wait_for(await self.send(message), TIMEOUT_S)

    async def _read(self) -> None:
        try:
            while (response := await self._call.read()) is not aio.EOF:
                self._take(response)
        except aio.AioRpcError as error:
            self._why = f"{error.code().name}: {error.details()}"
        except asyncio.CancelledError:
            pass
        finally:
            self._lose()

    def _take(self, response: pb.ModelStreamInferResponse) -> None:
        found = response.infer_response
        waiting = self._waiting[found.id]
        answer = waiting.pop(0)
        if not waiting:
            del self._waiting[found.id]
        if answer.done():  # the one who asked has gone
            return
        if not response.error_message:
            answer.set_result(answer_in(found))
            return
        facts = {
            name: getattr(parameter, parameter.WhichOneof("parameter_choice"))
            for name, parameter in found.parameters.items()
        }
        code, _, text = response.error_message.partition(": ")
        answer.set_exception(Refused(code, text, facts))

    def _lose(self) -> None:
        for answers in self._waiting.values():
            for answer in answers:
                if not answer.done():
                    answer.set_exception(self._loss())
        self._waiting.clear()

    def _loss(self) -> ConnectionError:
        return ConnectionError(f"the stream is lost: {self._why}")
