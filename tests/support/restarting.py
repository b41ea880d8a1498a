"""A server that is killed and started again, on the same port and store."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Self

from support.ports import free_port
from support.server import ServerProcess

CHECKPOINT_AGE_S = 0.2


class RestartingServer:
    """Use it as `async with RestartingServer(...)`.

    Attributes:
        process: The server as it is now.
        address: Stays the same.
        store: The store's file.
    """

    def __init__(self, models: Path, folder: Path, *flags: str) -> None:
        """Choose a port; nothing is started yet.

        Args:
            models: Model repository.
            folder: For the store and, per start, a folder with the log.
            flags: Further flags of `tidegate serve`.
        """
        self.store = folder / "sessions.db"
        self._models = models
        self._folder = folder
        self._port = free_port()
        self._flags = (
            *("--grpc-port", str(self._port), "--store", f"sqlite:///{self.store.absolute()}"),
            *("--checkpoint-age-s", str(CHECKPOINT_AGE_S), *flags),
        )
        self._starts = itertools.count()
        self.address = f"127.0.0.1:{self._port}"
        self.process: ServerProcess

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.process.__exit__)

    async def start(self, *flags: str) -> None:
        """Start the server and wait until it is ready; the loop goes on meanwhile.

        Args:
            flags: For this start; they win over the others.
        """
        folder = self._folder / f"start-{next(self._starts)}"
        self.process = await asyncio.to_thread(ServerProcess, self._models, folder, *self._flags, *flags)

    async def crash(self) -> None:
        """`kill -9`, and start it again."""
        self.process.kill()
        await self.start()
