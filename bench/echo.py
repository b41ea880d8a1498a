"""A gRPC server that does nothing: reads messages and writes as many, of the size that the caller names.

The floor under every message: grpc.aio with handlers that take and give bytes, on the event loop that
tidegate uses.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop
from grpc import aio

from bench.processes import Worker, answer

METHOD = "/bench.Echo/Stream"
REPLY_BYTES = "reply-bytes"
"""Metadata key: the size of each answer."""


class EchoServer(Worker):
    """The echo in a process of its own.

    Attributes:
        address: Where it listens.
    """

    def __init__(self, core: int, *, log: Path) -> None:
        super().__init__(core, "bench.echo", [], log=log)
        self.address = f"127.0.0.1:{self.ask()['port']}"


async def _stream(_: object, context: aio.ServicerContext[Any, bytes]) -> None:
    metadata = dict(context.invocation_metadata() or ())
    reply = bytes(int(metadata[REPLY_BYTES]))
    while await context.read() is not aio.EOF:
        await context.write(reply)


async def _serve() -> None:
    server = aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)])
    service, method = METHOD.removeprefix("/").split("/")
    handler: Any = grpc.stream_stream_rpc_method_handler(_stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdin.readline()
    answer({"port": port})
    await server.wait_for_termination()


def main() -> None:
    """Answer one request with the port, then serve until killed."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())


if __name__ == "__main__":
    main()
