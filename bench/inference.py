"""Load on the Open Inference door: one stream, some sequences, one request of each in flight.

As in `wire`, a request is serialised once, and only its values are overwritten in place.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Protocol

import numpy as np

from bench import echo
from bench.errors import BenchError
from bench.load import Load, Tally
from bench.models import LstmShape
from tidegate.oip import open_inference_pb2 as pb

METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"

_NOISE_LENGTH = 1 << 16
_NOISE_STRIDE = 97


class RequestTemplate:
    """One step of one sequence, sent again and again with other values.

    Attributes:
        sent_s: When it was sent last, by `time.perf_counter`.
    """

    def __init__(self, model: LstmShape, sequence: int) -> None:
        placeholder = b"\xc3" * 4 * model.features
        message = bytearray(_request(model, sequence, placeholder).SerializeToString())
        self._message = message
        self._inputs = np.frombuffer(message, "<f4", model.features, message.index(placeholder))
        self._noise = np.random.default_rng(sequence).standard_normal(
            _NOISE_LENGTH + model.features, np.float32
        )
        self._start = 0
        self.sent_s = 0.0

    def fill(self) -> bytes:
        """The message, with values that differ from the last time's."""
        self._inputs[:] = self._noise[self._start : self._start + len(self._inputs)]
        self._start = (self._start + _NOISE_STRIDE) % _NOISE_LENGTH
        return bytes(self._message)


class Answers(Protocol):
    """The server's side of the stream, as the load sees it."""

    async def begin(self, call: Any, model: LstmShape, sequences: range) -> None:
        """Start the sequences."""

    def sent(self, sequence: int) -> None:
        """A request is on its way."""

    def read(self, message: bytes) -> int:
        """Read an answer, and say of which sequence it is."""


class TidegateAnswers:
    """Real sequences; every answer is read and checked."""

    async def begin(self, call: Any, model: LstmShape, sequences: range) -> None:
        """Start the sequences with a first step."""
        for sequence in sequences:
            first = _request(model, sequence, bytes(4 * model.features))
            first.parameters["sequence_start"].bool_param = True
            await call.write(first.SerializeToString())
        for _ in sequences:
            self.read(await call.read())

    def sent(self, sequence: int) -> None:
        """The answer will say which sequence it is of."""

    def read(self, message: bytes) -> int:
        """Read an answer; raises BenchError if it is an error."""
        response = pb.ModelStreamInferResponse.FromString(message)
        if response.error_message or not response.infer_response.raw_output_contents:
            raise BenchError(f"expected an answer, got: {str(response)[:1000]}")
        return response.infer_response.parameters["sequence_id"].int64_param


class EchoAnswers:
    """The echo has no sequences and answers in order."""

    def __init__(self) -> None:
        self._in_flight: deque[int] = deque()

    async def begin(self, call: Any, model: LstmShape, sequences: range) -> None:
        """Nothing to start."""

    def sent(self, sequence: int) -> None:
        """Remember the order."""
        self._in_flight.append(sequence)

    def read(self, message: bytes) -> int:  # noqa: ARG002 - as the protocol has it
        """The oldest request has been answered."""
        return self._in_flight.popleft()


class SequenceStream:
    """A stream of requests; see `LoadStream`."""

    def __init__(
        self, call: Any, tally: Tally, answers: Answers, model: LstmShape, num_sequences: int
    ) -> None:
        self._call = call
        self._tally = tally
        self._answers = answers
        self._model = model
        self._sequences = range(1, num_sequences + 1)
        self._templates = {sequence: RequestTemplate(model, sequence) for sequence in self._sequences}
        self.stopping = False

    async def open(self, prefix: str) -> None:  # noqa: ARG002 - sequences are numbered, one load to a server
        """Start the sequences."""
        await self._answers.begin(self._call, self._model, self._sequences)

    async def run(self) -> None:
        """Keep one request of each sequence in flight; once `stopping`, only wait for what is on its way."""
        self.stopping = False
        for sequence in self._sequences:
            await self._send(sequence)
        in_flight = len(self._sequences)
        while in_flight:
            sequence = self._answers.read(await self._call.read())
            self._tally.latencies_s.append(time.perf_counter() - self._templates[sequence].sent_s)
            self._tally.frames += 1
            self._tally.row_steps += 1
            if self.stopping:
                in_flight -= 1
            else:
                await self._send(sequence)

    def cancel(self) -> None:
        """Leave the stream, whatever is in flight."""
        self._call.cancel()

    async def _send(self, sequence: int) -> None:
        template = self._templates[sequence]
        message = template.fill()
        self._answers.sent(sequence)
        template.sent_s = time.perf_counter()
        await self._call.write(message)


async def load_on_server(address: str, model: LstmShape, num_sequences: int) -> Load:
    """Connect to tidegate and start the sequences."""
    load = Load(address, METHOD, {})
    await load.start([lambda c, t: SequenceStream(c, t, TidegateAnswers(), model, num_sequences)], "")
    return load


async def load_on_echo(address: str, model: LstmShape, num_sequences: int) -> Load:
    """Connect to the echo, which sends what an answer of tidegate measures."""
    load = Load(address, echo.METHOD, {echo.REPLY_BYTES: str(answer_bytes(model))})
    await load.start([lambda c, t: SequenceStream(c, t, EchoAnswers(), model, num_sequences)], "")
    return load


def answer_bytes(model: LstmShape) -> int:
    """Length of the message that answers a step of a sequence."""
    response = pb.ModelInferResponse(
        model_name=model.name,
        model_version="1",
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(name="y", datatype="FP32", shape=[1, 1, model.outputs])
        ],
        raw_output_contents=[bytes(4 * model.outputs)],
    )
    response.parameters["sequence_id"].int64_param = 1
    response.parameters["step"].int64_param = 1000
    return pb.ModelStreamInferResponse(infer_response=response).ByteSize()


def _request(model: LstmShape, sequence: int, values: bytes) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(
        model_name=model.name,
        inputs=[
            pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 1, model.features])
        ],
        raw_input_contents=[values],
    )
    request.parameters["sequence_id"].int64_param = sequence
    return request
