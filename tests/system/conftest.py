"""What the tests of the running server share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from grpc import aio

from support.raw_stream import connect
from support.server import ServerProcess


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[aio.Channel]:
    """A connection to the module's server."""
    async with connect(server.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def server(small_server: ServerProcess) -> ServerProcess:
    """The server with the small packages; a module that needs other settings has its own."""
    return small_server
