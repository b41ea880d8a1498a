"""The interceptor on a real server, asked by real clients over loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import aio
from grpc_status import rpc_status

from tidegate.errors import WrongStep
from tidegate.rpc.interceptors import ServerInterceptor
from tidegate.telemetry.metrics import Metrics

Context = aio.ServicerContext[bytes, bytes]


async def echo(request: bytes, context: Context) -> bytes:
    return request


async def skip_a_step(request: bytes, context: Context) -> bytes:
    raise WrongStep("step: expected 7, got 9", expected_step=7)


async def crash(request: bytes, context: Context) -> bytes:
    raise RuntimeError("password=hunter2")


async def abort(request: bytes, context: Context) -> bytes:
    await context.abort(grpc.StatusCode.NOT_FOUND, "as the handler says")


async def wait_forever(request: bytes, context: Context) -> bytes:
    await asyncio.Event().wait()
    return b""


async def repeat(request: bytes, context: Context) -> AsyncIterator[bytes]:
    for _ in range(3):
        yield request


async def repeat_by_write(request: bytes, context: Context) -> None:
    for _ in range(3):
        await context.write(request)


async def echo_all(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
    async for request in requests:
        if request == b"wrong":
            raise WrongStep("step: expected 7, got 9", expected_step=7)
        yield request


async def echo_all_by_read(requests: AsyncIterator[bytes], context: Context) -> None:
    while (request := await context.read()) is not aio.EOF:
        if request == b"wrong":
            raise WrongStep("step: expected 7, got 9", expected_step=7)
        await context.write(request)


async def flood(request: bytes, context: Context) -> AsyncIterator[bytes]:
    while True:
        yield request


async def flood_by_write(request: bytes, context: Context) -> None:
    while True:
        await context.write(request)


async def join(requests: AsyncIterator[bytes], context: Context) -> bytes:
    return b"".join([request async for request in requests])


HANDLERS = {
    **{f.__name__: grpc.unary_unary_rpc_method_handler(f) for f in (echo, skip_a_step, crash, abort, wait_forever)},
    **{
        f.__name__: grpc.unary_stream_rpc_method_handler(f)
        for f in (repeat, repeat_by_write, flood, flood_by_write)
    },
    **{f.__name__: grpc.stream_stream_rpc_method_handler(f) for f in (echo_all, echo_all_by_read)},
    "join": grpc.stream_unary_rpc_method_handler(join),
}  # fmt: skip


class Rig:
    """A server with the interceptor, a channel to it, and its metrics."""

    def __init__(self, channel: aio.Channel, metrics: Metrics) -> None:
        self.channel = channel
        self.metrics = metrics

    def count(self, name: str, **labels: str) -> float:
        """A metric summed over the label sets that have these labels."""
        samples = [s for family in self.metrics.registry.collect() for s in family.samples if s.name == name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    async def call(self, method: str, request: bytes = b"x", **options: Any) -> bytes:
        return await self.channel.unary_unary(f"/test.Service/{method}")(request, **options)

    async def failure(self, method: str, **options: Any) -> aio.AioRpcError:
        with pytest.raises(aio.AioRpcError) as caught:
            await self.call(method, **options)
        return caught.value

    async def all_of(self, method: str) -> list[bytes]:
        return [response async for response in self.channel.unary_stream(f"/test.Service/{method}")(b"x")]

    async def until_handled(self, method: str, code: str) -> None:
        """Wait until the server has counted the end of a call."""
        while not self.count("grpc_server_handled_total", grpc_method=method, grpc_code=code):  # noqa: ASYNC110
            await asyncio.sleep(0.001)  # a client is not told when the server has counted


@asynccontextmanager
async def serving() -> AsyncIterator[Rig]:
    metrics = Metrics()
    server = aio.server(interceptors=[ServerInterceptor(metrics)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Service", HANDLERS)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Rig(channel, metrics)
    await server.stop(grace=None)


async def test_an_error_of_ours_becomes_a_status_with_details() -> None:
    async with serving() as rig:
        failure = await rig.failure("skip_a_step")

        status = rpc_status.from_call(Answered(failure))
        info = ErrorInfo()
        status.details[0].Unpack(info)
        assert failure.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert failure.details() == "step: expected 7, got 9"
        assert (info.reason, dict(info.metadata)) == ("WRONG_STEP", {"expected_step": "7"})
        assert rig.count("tidegate_errors_total", code="FAILED_PRECONDITION", reason="WRONG_STEP") == 1


async def test_an_unexpected_exception_becomes_internal_with_an_id(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as rig:
        failure = await rig.failure("crash")

        (record,) = [r for r in caplog.records if "incident_id" in r.__dict__]
        assert failure.code() is grpc.StatusCode.INTERNAL
        assert record.__dict__["incident_id"] in failure.details()
        assert "hunter2" not in str(failure)
        assert rig.count("tidegate_errors_total", code="INTERNAL") == 1


async def test_an_abort_of_the_handler_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as rig:
        failure = await rig.failure("abort")

        assert (failure.code(), failure.details()) == (grpc.StatusCode.NOT_FOUND, "as the handler says")
        await rig.until_handled("abort", "NOT_FOUND")
        assert rig.count("tidegate_errors_total") == 0
        assert caplog.records == []


@pytest.mark.parametrize("method", ["echo_all", "echo_all_by_read"])
async def test_an_error_ends_a_stream_after_the_answers_before_it(method: str) -> None:
    async with serving() as rig:
        call = rig.channel.stream_stream(f"/test.Service/{method}")()
        for request in (
            b"1",
            b"2",
            b"wrong",
        ):  # a client that is still writing at the end is told of that instead
            await call.write(request)
        answers = [await call.read(), await call.read()]
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()

        assert answers == [b"1", b"2"]
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_unary_call_is_counted_and_timed() -> None:
    async with serving() as rig:
        assert await rig.call("echo", b"x") == b"x"

        await rig.until_handled("echo", "OK")
        labels = {"grpc_type": "unary", "grpc_service": "test.Service", "grpc_method": "echo"}
        names = ("started_total", "msg_received_total", "msg_sent_total", "handling_seconds_count")
        assert [rig.count(f"grpc_server_{name}", **labels) for name in names] == [1, 1, 1, 1]


@pytest.mark.parametrize("method", ["repeat", "repeat_by_write"])
async def test_the_messages_of_a_server_stream_are_counted(method: str) -> None:
    async with serving() as rig:
        assert await rig.all_of(method) == [b"x"] * 3

        await rig.until_handled(method, "OK")
        assert rig.count("grpc_server_msg_received_total", grpc_method=method, grpc_type="server_stream") == 1
        assert rig.count("grpc_server_msg_sent_total", grpc_method=method, grpc_type="server_stream") == 3


@pytest.mark.parametrize("method", ["echo_all", "echo_all_by_read"])
async def test_the_messages_of_both_directions_are_counted(method: str) -> None:
    async with serving() as rig:
        call = rig.channel.stream_stream(f"/test.Service/{method}")(iter([b"1", b"2"]))
        assert [answer async for answer in call] == [b"1", b"2"]

        await rig.until_handled(method, "OK")
        assert rig.count("grpc_server_msg_received_total", grpc_method=method, grpc_type="bidi_stream") == 2
        assert rig.count("grpc_server_msg_sent_total", grpc_method=method, grpc_type="bidi_stream") == 2


async def test_the_messages_of_a_client_stream_are_counted() -> None:
    async with serving() as rig:
        call = rig.channel.stream_unary("/test.Service/join")(iter([b"1", b"2"]))
        assert await call == b"12"

        await rig.until_handled("join", "OK")
        assert rig.count("grpc_server_msg_received_total", grpc_method="join") == 2
        assert rig.count("grpc_server_msg_sent_total", grpc_method="join") == 1


@pytest.mark.parametrize("method", ["flood", "flood_by_write"])
async def test_a_call_that_the_client_cancels_is_no_error(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as rig:
        call = rig.channel.unary_stream(f"/test.Service/{method}")(b"x")
        await call.read()
        call.cancel()

        await rig.until_handled(method, "CANCELLED")
        assert rig.count("tidegate_errors_total") == 0
        assert caplog.records == []


async def test_a_call_whose_deadline_passes_is_counted_as_such() -> None:
    async with serving() as rig:
        await rig.call("echo")  # a connection takes a while, and what comes too late is not handled
        failure = await rig.failure("wait_forever", timeout=0.3)

        await rig.until_handled("wait_forever", "DEADLINE_EXCEEDED")
        assert failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_an_unknown_method_is_refused_and_makes_no_label() -> None:
    async with serving() as rig:
        failure = await rig.failure("made_up")

        assert failure.code() is grpc.StatusCode.UNIMPLEMENTED
        assert rig.count("grpc_server_started_total") == 0


class Answered:
    """A failed call as grpc-status wants it, which knows only the synchronous calls."""

    def __init__(self, error: aio.AioRpcError) -> None:
        self.code = error.code
        self.details = error.details
        self.trailing_metadata = error.trailing_metadata
