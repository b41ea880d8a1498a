"""What every RPC goes through: errors become statuses, and calls and messages are counted.

One interceptor serves all services of the port, health and reflection included. A handler raises an
error of `tidegate.errors` and needs no `try`; any other exception becomes INTERNAL with an id.

Messages are counted in both styles of streaming handlers, the asynchronous generator and the
coroutine that calls `context.read()` and `context.write()`, at one increment per message. Handlers
are asynchronous; a synchronous one would run in a thread, and none of ours may.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from inspect import isasyncgenfunction
from time import perf_counter
from typing import Any, NoReturn, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError
from grpc import aio
from grpc_status import rpc_status

from tidegate.errors import InvalidRequest, TidegateError
from tidegate.rpc.status import as_public, to_status
from tidegate.telemetry.deferred import CounterChild
from tidegate.telemetry.metrics import Metrics

# The messages of a call are of whatever type its method has. Only the stubs know these as generic.
Context: TypeAlias = "aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behavior: TypeAlias = Callable[[Any, Context], Any]


class ServerInterceptor(aio.ServerInterceptor):
    """Maps errors to statuses and counts the `grpc_server_*` family."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._methods: dict[str, _Method] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the handler of a call; a method that does not exist is left to grpc to refuse."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        name = handler_call_details.method
        method = self._methods.get(name)
        if method is None:
            method = self._methods[name] = _Method(self._metrics, name, handler)
        return method.wrap(handler)


class _Method:
    """The counters of one method, resolved once, and the wrapping of its handler."""

    def __init__(self, metrics: Metrics, name: str, handler: Handler) -> None:
        service, _, method = name.removeprefix("/").rpartition("/")
        self._metrics = metrics
        self._labels = (_rpc_type(handler), service, method)
        self._started = metrics.rpc_started.labels(*self._labels)
        self._seconds = metrics.rpc_seconds.labels(*self._labels)
        self._received = metrics.rpc_received.labels(*self._labels)
        self._sent = metrics.rpc_sent.labels(*self._labels)

    def wrap(self, handler: Handler) -> Handler:
        """The handler with its errors mapped and its calls and messages counted."""
        makers = {
            (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary),
            (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream),
            (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary),
            (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream),
        }
        make, behavior = makers[bool(handler.request_streaming), bool(handler.response_streaming)]
        assert behavior is not None
        wrap = self._generator if isasyncgenfunction(behavior) else self._coroutine
        maker = cast(Callable[..., Handler], make)
        wrapped = wrap(cast("Behavior", behavior))
        return maker(wrapped, _judging(handler.request_deserializer), handler.response_serializer)

    def _generator(self, behavior: Behavior) -> Behavior:
        async def run(request: object, context: Context) -> AsyncIterator[object]:
            async with self._call(context), aclosing(behavior(self._counted(request), context)) as responses:
                async for response in responses:
                    self._sent.inc()
                    yield response

        return run

    def _coroutine(self, behavior: Behavior) -> Behavior:
        async def run(request: object, context: Context) -> object:
            async with self._call(context):
                counting = cast("Context", _CountingContext(context, self._received, self._sent))
                response: object = await behavior(self._counted(request), counting)
                if response is not None:
                    self._sent.inc()
                return response

        return run

    def _counted(self, request: object) -> object:
        """Count a single request now, those of a stream as they are read."""
        if self._labels[0] in ("unary", "server_stream"):
            self._received.inc()
            return _readable(request)
        return _counting(cast(AsyncIterator[object], request), self._received)

    @asynccontextmanager
    async def _call(self, context: Context) -> AsyncIterator[None]:
        self._started.inc()
        start_s = perf_counter()
        # The stubs want a class of their own where any callable will do.
        context.add_done_callback(lambda _: self._ended(context, perf_counter() - start_s))  # type: ignore[arg-type]
        try:
            yield
        except aio.AbortError:
            raise
        except Exception as error:
            await self._refuse(context, as_public(error))

    async def _refuse(self, context: Context, error: TidegateError) -> NoReturn:
        self._metrics.errors.labels(error.code, error.reason).inc()
        status = rpc_status.to_status(to_status(error))
        try:
            await context.abort(status.code, status.details, status.trailing_metadata)
        except aio.InternalError:  # the call ended meanwhile: nobody hears the status
            raise asyncio.CancelledError from None

    def _ended(self, context: Context, seconds: float) -> None:
        self._seconds.observe(seconds)
        self._metrics.rpc_handled.labels(*self._labels, _final_code(context)).inc()


class _CountingContext:
    """A call's context that counts the messages read and written through it."""

    def __init__(self, context: Context, received: CounterChild, sent: CounterChild) -> None:
        self._context = context
        self._received = received
        self._sent = sent

    def __getattr__(self, name: str) -> object:
        return getattr(self._context, name)

    async def read(self) -> object:
        """Read the next request, or `aio.EOF`."""
        message: object = await self._context.read()
        if message is not aio.EOF:
            self._received.inc()
        return _readable(message)

    def write(self, message: object) -> Awaitable[None]:
        """Write a response."""
        self._sent.inc()
        return self._context.write(message)


async def _counting(requests: AsyncIterator[object], received: CounterChild) -> AsyncIterator[object]:
    async for request in requests:
        received.inc()
        yield _readable(request)


def _judging(parse: Callable[[bytes], object] | None) -> Callable[[bytes], object] | None:
    """A deserializer that returns its error: raised here, it would pass by the mapping of errors."""
    if parse is None:
        return None

    def judge(data: bytes) -> object:
        try:
            return parse(data)
        except DecodeError as error:
            return InvalidRequest(f"message: expected protobuf: {error}")

    return judge


def _readable(request: object) -> object:
    """The request, if it is one.

    Raises:
        InvalidRequest: Its bytes are no message of the method's type.
    """
    if isinstance(request, InvalidRequest):
        raise request
    return request


def _rpc_type(handler: Handler) -> str:
    """The `grpc_type` label, spelled as in other languages' grpc metrics."""
    if handler.request_streaming:
        return "bidi_stream" if handler.response_streaming else "client_stream"
    return "server_stream" if handler.response_streaming else "unary"


def _final_code(context: Context) -> str:
    """Name of the canonical code that a call ended with."""
    if not context.done():  # no status was sent: the client went away, or its deadline passed
        return "DEADLINE_EXCEEDED" if context.time_remaining() == 0 else "CANCELLED"
    code = context.code()
    return "OK" if code is None else code.name
