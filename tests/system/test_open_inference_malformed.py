"""Whatever comes in at the Open Inference door: a canonical error that is no INTERNAL, and nobody else is harmed.

What is broken, and how, stands in `support.broken_requests`. Beside every test runs a sequence that goes on with
the answers that it would have got alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from support import broken_requests as broken
from support.ids import new_id
from support.metrics import becomes, value
from support.odd_models import custom_package
from support.onnx_models import lstm_package
from support.open_inference import Answer, answer_in, request
from support.raw_stream import Floats
from support.server import ServerProcess
from tidegate.model.manifest import InputSpec, OutputSpec, StatePair
from tidegate.oip import open_inference_pb2 as pb
from tidegate.oip import open_inference_pb2_grpc
from tidegate.tensor import DType

SERVICE = "/inference.GRPCInferenceService"
TIMEOUT_S = 60.0

CANONICAL = {
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED",
}
"""What a broken request may be told; INTERNAL, UNKNOWN and UNAVAILABLE would be our own faults."""

MAX_MESSAGE_BYTES = 65_536

quick = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


def mixed_package(repository: Path) -> None:
    """s' = s + x + k, with x float32 [2] and k int64, and no time axis."""
    nodes = [
        helper.make_node("Cast", ["k"], ["kf"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["kf", "one"], ["k2"]),
        helper.make_node("Add", ["x", "k2"], ["xk"]),
        helper.make_node("Add", ["s", "xk"], ["s_out"]),
        helper.make_node("Identity", ["s_out"], ["y"]),
    ]
    custom_package(
        repository,
        "mixed",
        nodes,
        inputs=[
            InputSpec(name="x", dtype=DType.FLOAT32, shape=("batch", 2)),
            InputSpec(name="k", dtype=DType.INT64, shape=("batch",)),
        ],
        outputs=[OutputSpec(name="y", dtype=DType.FLOAT32, shape=("batch", 2))],
        states=[StatePair(input_name="s", output_name="s_out", dtype=DType.FLOAT32, shape=("batch", 2))],
        weights={"one": np.array([1], np.int64)},
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("models")
    lstm_package(repository)
    mixed_package(repository)
    limits = (f"--max-message-bytes={MAX_MESSAGE_BYTES}", "--max-sessions=64")
    with ServerProcess(repository, tmp_path_factory.mktemp("server"), *limits) as server:
        yield server


class Door:
    """Sends broken requests, and sees to the neighbour after each."""

    def __init__(self, channel: grpc.Channel, x: Floats) -> None:
        self._stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._raw_infer = channel.unary_unary(
            f"{SERVICE}/ModelInfer", response_deserializer=pb.ModelInferResponse.FromString
        )
        self._raw_stream = channel.stream_stream(
            f"{SERVICE}/ModelStreamInfer", response_deserializer=pb.ModelStreamInferResponse.FromString
        )
        self._neighbour = new_id("neighbour")
        self._x = x
        self._answers: list[Floats] = []

    def infer(self, message: pb.ModelInferRequest | bytes) -> str:
        """One unary call; the name of its code, "" for an answer."""
        raw = message if isinstance(message, bytes) else message.SerializeToString()
        try:
            self._raw_infer(raw, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return _code(error)
        return ""

    def stream(self, messages: Sequence[pb.ModelInferRequest | bytes]) -> tuple[list[str], str]:
        """One stream; the code of each answer, "" for none, and how the stream itself ended."""
        raw = [m if isinstance(m, bytes) else m.SerializeToString() for m in messages]
        codes: list[str] = []
        try:
            for response in self._raw_stream(iter(raw), timeout=TIMEOUT_S):
                code, _, text = response.error_message.partition(": ")
                assert bool(code) == bool(text), "an error says its code and what is wrong"
                codes.append(code)
        except grpc.RpcError as error:
            return codes, _code(error)
        return codes, ""

    def answer(self, message: pb.ModelInferRequest) -> Answer:
        """The answer to a request that is good."""
        return answer_in(self._stub.ModelInfer(message, timeout=TIMEOUT_S))

    def neighbour_steps(self) -> None:
        """The neighbour's next step."""
        step = len(self._answers)
        message = request(
            self._x[step : step + 1],
            sequence=self._neighbour,
            start=step == 0,
            step=step if step % 2 else None,
        )
        answer = self.answer(message)
        assert answer.first_step == step
        self._answers.append(answer.y[0])

    def check_neighbour(self) -> None:
        """Its answers are those of a window of the same steps, bit for bit."""
        self.neighbour_steps()
        count = len(self._answers)
        window = self.answer(request(self._x[:count]))
        assert np.stack(self._answers).tobytes() == window.y.tobytes()


def _code(error: grpc.RpcError) -> str:
    assert isinstance(error, grpc.Call)
    name: str = error.code().name
    assert error.details(), f"{name} says nothing"
    return name


@pytest.fixture
def door(server: ServerProcess) -> Iterator[Door]:
    x = np.random.default_rng(1).normal(0, 1, (1000, 3)).astype(np.float32)
    with grpc.insecure_channel(server.address) as channel:
        door = Door(channel, x)
        yield door
        door.check_neighbour()
    assert server.process.poll() is None, server.log()
    assert value(server, "tidegate_errors_total", code="INTERNAL") == 0, server.log()


@pytest.mark.parametrize("field", broken.FIELDS)
@quick
@given(data=st.data())
def test_a_field_that_is_wrong_gets_a_canonical_error(door: Door, field: str, data: st.DataObject) -> None:
    message = data.draw(broken.requests([field]))

    assert door.infer(message) in CANONICAL | {""}
    codes, end = door.stream([message, broken.good("lstm", sequence=False)])

    assert (len(codes), end) == (2, "")
    assert set(codes) <= CANONICAL | {""}
    assert "" in codes, "the good request behind it is answered"
    door.neighbour_steps()


@quick
@given(messages=st.lists(broken.requests(list(broken.FIELDS), most=4), min_size=1, max_size=8))
def test_many_wrong_requests_on_a_stream_leave_it_open(
    door: Door, messages: list[pb.ModelInferRequest]
) -> None:
    codes, end = door.stream([*messages, broken.good("mixed", sequence=True)])

    assert (len(codes), end) == (len(messages) + 1, "")
    assert set(codes) <= CANONICAL | {""}
    door.neighbour_steps()


@settings(quick, max_examples=150)
@given(raw=broken.byte_strings())
def test_bytes_that_are_no_message_get_a_canonical_error(door: Door, raw: bytes) -> None:
    assert door.infer(raw) in CANONICAL | {""}
    codes, end = door.stream([raw, broken.good("lstm", sequence=False)])

    assert {*codes, end} <= CANONICAL | {""}
    door.neighbour_steps()


TENSOR_FIELDS = [name for name in broken.FIELDS if name.startswith(("inputs", "outputs", "raw"))]


@settings(quick, max_examples=60)
@given(message=broken.requests(TENSOR_FIELDS, most=3))
def test_a_request_that_is_refused_leaves_its_sequence_as_it_was(
    door: Door, message: pb.ModelInferRequest
) -> None:
    message.model_name = "lstm"
    victim = new_id("victim")
    x = np.random.default_rng(2).normal(0, 1, (3, 3)).astype(np.float32)
    before = door.answer(request(x[:1], sequence=victim, start=True))
    message.parameters.clear()
    message.parameters["sequence_id"].string_param = victim
    assume(door.infer(message))

    after = door.answer(request(x[1:], sequence=victim, end=True))

    assert after.first_step == 1
    window = door.answer(request(x))
    assert np.concatenate([before.y, after.y]).tobytes() == window.y.tobytes()


def test_a_message_over_the_limit_is_refused(door: Door) -> None:
    message = broken.good("lstm", sequence=True)
    message.raw_input_contents[0] = bytes(MAX_MESSAGE_BYTES)

    assert door.infer(message) == "RESOURCE_EXHAUSTED"
    assert door.stream([message]) == ([], "RESOURCE_EXHAUSTED")
    door.neighbour_steps()


LARGE_BYTES = 48_000
NUM_LARGE = 1200
ALLOWED_GROWTH_BYTES = NUM_LARGE * LARGE_BYTES // 4
"""A quarter of what is sent: less than a leak of one message in three would leave."""


def large_and_wrong() -> list[pb.ModelInferRequest]:
    """Requests of LARGE_BYTES each, none of which can be served."""
    size = LARGE_BYTES // 4
    lies = broken.good("lstm", sequence=True)
    lies.raw_input_contents[0] = bytes(LARGE_BYTES)
    claims = broken.good("lstm", sequence=True)
    claims.inputs[0].shape[:] = [1, 2**62, 3]
    claims.raw_input_contents[0] = bytes(LARGE_BYTES)
    typed = broken.good("lstm", sequence=True)
    del typed.raw_input_contents[:]
    typed.inputs[0].contents.fp32_contents.extend([1.0] * size)
    infinite = broken.good("lstm", sequence=True)
    infinite.inputs[0].shape[:] = [1, size // 3, 3]
    infinite.raw_input_contents[0] = np.full(size, np.inf, "<f4").tobytes()
    named = broken.good("lstm", sequence=True)
    named.inputs[0].name = "x" * LARGE_BYTES
    called = broken.good("lstm", sequence=True)
    called.id = "r" * LARGE_BYTES
    windows = broken.good("lstm", sequence=True)
    windows.inputs[0].shape[:] = [size // 3, 1, 3]
    windows.raw_input_contents[0] = bytes(LARGE_BYTES)
    keyed = broken.good("lstm", sequence=False)
    keyed.parameters["sequence_id"].string_param = "s" * LARGE_BYTES
    return [lies, claims, typed, infinite, named, called, windows, keyed]


@pytest.mark.slow
async def test_memory_stays_flat_whatever_is_refused(server: ServerProcess, door: Door) -> None:
    messages = large_and_wrong()
    known = value(server, "tidegate_sessions")

    def refuse(count: int) -> None:
        for i in range(0, count, 2 * len(messages)):
            for message in messages:
                assert door.infer(message) in CANONICAL
            codes, end = door.stream(messages)
            assert (len(codes), end) == (len(messages), "")
            assert set(codes) <= CANONICAL, (i, codes)

    refuse(NUM_LARGE // 2)
    before_bytes = server.rss_bytes()
    refuse(NUM_LARGE)

    assert server.rss_bytes() - before_bytes < ALLOWED_GROWTH_BYTES
    assert value(server, "tidegate_sessions") == known, "a refused start begins nothing"
    await becomes(server, 0, "tidegate_pending_bytes")
