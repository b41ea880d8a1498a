"""Clients that read slowly or never, send without end, or fall silent: nobody else notices.

While each goes on, another client steps a session of its own, whose answers must be those of a session
alone; the server's memory stays within its limits; and when it is over, nothing is held any more and
the server finds its books in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from grpc import aio

from support.books import books_hold
from support.half_open import Proxy
from support.ids import new_id
from support.metrics import value
from support.neighbour import Neighbour
from support.onnx_models import lstm_package
from support.raw_stream import Floats, RawStream, Reply, connect, in_chunks
from support.sender import Sender
from support.server import ServerProcess
from support.waiting import eventually
from tidegate.rpc.flow import PAUSE_BYTES
from tidegate.v1 import session_pb2, stream_pb2
from tidegate.v1.error_pb2 import Error
from tidegate.v1.session_pb2_grpc import SessionServiceStub

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
MAX_PENDING_BYTES = 16 * MIB
MAX_FRAMES_IN_FLIGHT = 16
MAX_SESSIONS = 5_000
KEEPALIVE_S = 1.0
RETRY_S = 0.1

IDLE_S = 4.0
"""Books are checked every second; a session whose stream is lost can be resumed for four."""

MAX_STREAMS = 5
"""At a time, the neighbour's among them."""

GRPC_BYTES = 8 * MIB
"""What gRPC may hold of a stream beside: a message that comes in, the next ones as far as HTTP/2's window,
which grows with the speed of the line, and the copies that are made on the way."""

MAX_GROWTH_BYTES = 2 * (MAX_PENDING_BYTES + MAX_STREAMS * GRPC_BYTES)
"""112 MiB, where each client would have the server hold 200 or more. Twice, because malloc keeps what was
freed amid what is in use: one that gives everything back (MALLOC_MMAP_THRESHOLD_=65536) grows by 40 MiB
where the usual one does by 60 to 80."""

FLAGS = (
    f"--max-pending-bytes={MAX_PENDING_BYTES}",
    f"--max-frames-in-flight={MAX_FRAMES_IN_FLIGHT}",
    f"--max-sessions={MAX_SESSIONS}",
    f"--detached-idle-timeout-s={IDLE_S}",
    f"--keepalive-time-s={KEEPALIVE_S}",
    f"--keepalive-timeout-s={KEEPALIVE_S}",
    f"--load-retry-s={RETRY_S}",
)

WIDTH = 256
"""Floats in an answer of `answers-much`, whose input is one."""

FEATURES = 512
"""Floats in an input of `asks-much`, whose answer is 64."""

LAST = {"outputs": stream_pb2.OUTPUT_SELECTION_LAST}


@dataclass
class Street:
    """A server and what its good neighbour must see.

    Attributes:
        resting_bytes: Memory once every model has been used.
        x: The neighbour's inputs.
        expected: Answers to them of a session alone.
    """

    server: ServerProcess
    resting_bytes: int
    x: Floats
    expected: Floats

    @asynccontextmanager
    async def neighbour(self) -> AsyncIterator[Neighbour]:
        """A client that must come to no harm from what is done meanwhile."""
        async with Neighbour(self.server, "lstm", self.x) as neighbour:
            yield neighbour
        await books_hold(self.server)

        answers = neighbour.answers
        assert answers.tobytes() == self.expected[: len(answers)].tobytes()
        growth = neighbour.peak_bytes - self.resting_bytes
        assert growth < MAX_GROWTH_BYTES, f"the server grew by {growth / MIB:.0f} MiB"


def draw(num_steps: int, features: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).normal(0, 1, (num_steps, features)).astype(np.float32)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    repository = tmp_path_factory.mktemp("models")
    lstm_package(repository)
    lstm_package(repository, name="answers-much", features=1, hidden=WIDTH)
    lstm_package(repository, name="asks-much", features=FEATURES, hidden=64)
    x = draw(100_000, 3)
    with ServerProcess(repository, tmp_path_factory.mktemp("server"), *FLAGS) as server:
        expected = asyncio.run(warm_up(server, x))
        yield Street(server, server.rss_bytes(), x, expected)


async def warm_up(server: ServerProcess, x: Floats) -> Floats:
    """Let every model's arena be touched; the answers to x of a session alone."""
    async with connect(server.address) as channel:
        await in_chunks(channel, "answers-much", new_id(), draw(64, 1))
        await in_chunks(channel, "asks-much", new_id(), draw(64, FEATURES))
        return await in_chunks(channel, "lstm", new_id(), x)


async def until_detached(channel: aio.Channel, session_id: str) -> None:
    request = session_pb2.GetSessionRequest(session_id=session_id)
    calls = SessionServiceStub(channel)

    async def is_detached() -> bool:
        session = (await calls.GetSession(request)).session
        return bool(session.condition == session_pb2.SESSION_CONDITION_DETACHED)

    await eventually(is_detached)


async def until_pending(server: ServerProcess, num_bytes: int) -> None:
    async def is_pending() -> bool:
        return value(server, "tidegate_pending_bytes") >= num_bytes

    await eventually(is_pending)


ROWS = 512
SLOW_FRAMES = 400
"""Of one step of each row, with 512 KiB of answers: 200 MiB in all."""


async def test_a_slow_reader_gets_all_its_answers_and_harms_nobody(street: Street) -> None:
    x = draw(SLOW_FRAMES, 1)
    async with connect(street.server.address) as channel:
        expected = await in_chunks(channel, "answers-much", new_id(), x)
        async with street.neighbour() as neighbour, RawStream(channel) as stream:
            handles = await stream.handles("answers-much", *[new_id() for _ in range(ROWS)])
            sender = Sender(stream, handles, x, 1)
            async with sender.sending() as frame_ids:
                await until_pending(street.server, PAUSE_BYTES // 2)
                answers = []
                for frame_id in frame_ids[:20]:
                    await neighbour.makes(20)
                    answers.append(await sender.reply(frame_id))
                answers += [await sender.reply(frame_id) for frame_id in frame_ids[20:]]

    for row in np.concatenate(answers, axis=1):
        assert row.tobytes() == expected.tobytes()


async def test_histories_whose_answers_nobody_reads_are_held_back(street: Street) -> None:
    """320,000 steps, whose answers are 312 MiB."""
    x = draw(40_000, 1)
    before = value(street.server, "tidegate_steps_total", model="answers-much")
    async with (
        street.neighbour() as neighbour,
        connect(street.server.address) as channel,
        RawStream(channel) as stream,
    ):
        handles = await stream.handles("answers-much", *[new_id() for _ in range(8)])
        async with Sender(stream, handles, x, len(x)).sending():
            await until_pending(street.server, 8 * x.nbytes)
            await neighbour.makes(2_000)
            applied = value(street.server, "tidegate_steps_total", model="answers-much") - before

    assert 0 < applied < 8 * len(x)


FLOOD_STEPS = 256
"""Of a frame of half a MiB: the model takes milliseconds for what is sent in a fraction of one."""


async def test_a_sender_that_is_faster_than_the_model_is_held_back(street: Street) -> None:
    """200 MiB of inputs, of which 8 MiB may wait."""
    x = np.tile(draw(FLOOD_STEPS, FEATURES), (400, 1))
    async with connect(street.server.address) as channel:
        async with street.neighbour(), RawStream(channel) as stream:
            handles = await stream.handles("asks-much", new_id())
            sender = Sender(stream, handles, x, FLOOD_STEPS, LAST)
            async with sender.sending() as frame_ids:
                await until_pending(street.server, 2 * MIB)
                answers = [await sender.reply(frame_id) for frame_id in frame_ids]
        async with RawStream(channel) as stream:
            handles = await stream.handles("asks-much", new_id())
            for number, answer in enumerate(answers):
                at = number * FLOOD_STEPS
                reply = await stream.step(handles, [at], x[None, at : at + FLOOD_STEPS], **LAST)
                assert reply.output().tobytes() == answer.tobytes()


SENDERS = 4
"""Of which each may have 8 MiB in flight: twice what may wait."""


async def test_senders_who_are_too_many_are_told_when_to_try_again(street: Street) -> None:
    x = np.tile(draw(FLOOD_STEPS, FEATURES), (100, 1))
    async with street.neighbour() as neighbour, AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(connect(street.server.address)) for _ in range(SENDERS)]
        streams = [await stack.enter_async_context(RawStream(channel)) for channel in channels]
        refusals = await asyncio.gather(*(send_until_applied(stream, x) for stream in streams))
        await neighbour.makes(1)

    refused = [error for errors in refusals for error in errors]
    assert {error.reason for error in refused} == {"TOO_MANY_REQUESTS"}
    assert {error.retry_after.ToTimedelta().total_seconds() for error in refused} == {RETRY_S}


async def send_until_applied(stream: RawStream, x: Floats) -> list[Error]:
    """Send x, and again what was refused, after the time that the server asked for; the refusals."""
    handles = await stream.handles("asks-much", new_id())
    sender = Sender(stream, handles, x, FLOOD_STEPS, LAST)
    refusals: list[Error] = []
    applied = 0
    while applied < len(x):
        async with sender.sending(applied) as frame_ids:
            outcomes = [await sender.outcome(frame_id) for frame_id in frame_ids]
        refusals += [outcome for outcome in outcomes if isinstance(outcome, Error)]
        # Frames behind a refused one skip steps, so they are refused too.
        applied += FLOOD_STEPS * sum(isinstance(o, Reply) and not o.errors for o in outcomes)
        await asyncio.sleep(RETRY_S)
    return refusals


async def test_a_client_that_opens_sessions_for_ever_is_refused(street: Street) -> None:
    opened = []
    async with street.neighbour() as neighbour, connect(street.server.address) as channel:
        async with RawStream(channel) as stream:
            for _ in range(4 * MAX_SESSIONS // 1_000):
                ids = [new_id() for _ in range(1_000)]
                opened.append(await stream.open("answers-much", *ids))
                await neighbour.makes(10)
        async with RawStream(channel) as stream:

            async def is_let_in() -> bool:
                return not (await stream.open("answers-much", new_id())).errors

            await eventually(is_let_in)  # once those of the lost stream are evicted

    refused = [refusal.error for message in opened for refusal in message.errors]
    assert len(refused) == 3 * MAX_SESSIONS
    assert {error.reason for error in refused} == {"ARENA_FULL"}
    assert {error.retry_after.ToTimedelta().total_seconds() for error in refused} == {RETRY_S}


async def test_a_connection_that_falls_silent_amid_its_answers_is_given_up(street: Street) -> None:
    x = draw(SLOW_FRAMES, 1)
    ids = [new_id() for _ in range(ROWS)]
    async with connect(street.server.address) as channel:
        expected = await in_chunks(channel, "answers-much", new_id(), x)
        async with street.neighbour() as neighbour, silent_client(street.server, ids, x):
            await until_detached(channel, ids[0])
            await neighbour.makes(100)
            async with RawStream(channel) as stream:
                resumed = await stream.open("", *ids, mode="RESUME")
                steps = np.array(resumed.next_steps)
                reply = await stream.step(resumed.handles, steps.tolist(), x[steps][:, None])

    assert 0 < steps.min() <= steps.max() < SLOW_FRAMES
    assert not reply.errors
    assert reply.output()[:, 0].tobytes() == expected[steps].tobytes()


@asynccontextmanager
async def silent_client(server: ServerProcess, ids: list[str], x: Floats) -> AsyncIterator[None]:
    """A client whose network is gone, with much sent and much on its way back."""
    async with (
        Proxy(server.grpc_port) as proxy,
        connect(proxy.address) as channel,
        RawStream(channel) as stream,
    ):
        sender = Sender(stream, await stream.handles("answers-much", *ids), x, 1)
        async with sender.sending() as frame_ids:
            await sender.reply(frame_ids[0])
            await until_pending(server, PAUSE_BYTES // 2)
            proxy.freeze()
            yield
