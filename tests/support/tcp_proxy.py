"""A TCP proxy that does to a connection what networks do: cut it, go silent, refuse."""

from __future__ import annotations

import asyncio
from contextlib import suppress

CHUNK_BYTES = 64 * 1024


class _Flow:
    """Whether bytes pass, each way."""

    def __init__(self) -> None:
        self.forth = asyncio.Event()
        self.back = asyncio.Event()
        self.forth.set()
        self.back.set()


class TcpProxy:
    """Forwards connections to a port; use it as `async with TcpProxy(port) as proxy`.

    Attributes:
        address: Where clients connect; stays the same when the target changes.
        target_port: Where the next connections go.
        num_accepted: Connections so far, refused ones not counted.
        num_bytes_back: Bytes that went from the target to clients.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.address = ""
        self.num_accepted = 0
        self.num_bytes_back = 0
        self._flow = _Flow()
        self._refuses = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> TcpProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection, both ways, with whatever was on its way."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def freeze(self, *, forth: bool = True, back: bool = True) -> None:
        """Forward nothing more, and close nothing: both sides see a peer that is silent.

        Args:
            forth: Nothing goes to the target.
            back: Nothing comes from it.
        """
        if forth:
            self._flow.forth.clear()
        if back:
            self._flow.back.clear()

    def thaw(self) -> None:
        """Forward again, what was held back too."""
        self._flow.forth.set()
        self._flow.back.set()

    def strand(self) -> None:
        """Freeze the connections that there are, for good; new ones are forwarded."""
        self.freeze()
        self._flow = _Flow()

    def refuse(self) -> None:
        """Cut every connection, and every new one at once."""
        self._refuses = True
        self.cut()

    def accept(self) -> None:
        """Take connections again."""
        self._refuses = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._refuses:
                raise ConnectionRefusedError
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        self.num_accepted += 1
        self._writers |= {writer, far_writer}
        flow = self._flow
        for source, sink, flows in ((reader, far_writer, flow.forth), (far_reader, writer, flow.back)):
            task = asyncio.create_task(self._forward(source, sink, flows, is_back=sink is writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        flows: asyncio.Event,
        *,
        is_back: bool,
    ) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK_BYTES):
                await flows.wait()
                sink.write(data)
                await sink.drain()
                self.num_bytes_back += len(data) * is_back
        sink.close()
        self._writers.discard(sink)
