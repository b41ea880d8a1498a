"""What the tests of the running server share."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator

import numpy as np
import pytest
from grpc import aio

from support.raw_stream import connect
from support.server import ServerProcess

SEED_VARIABLE = "TIDEGATE_TEST_SEED"


@pytest.fixture
def rng() -> np.random.Generator:
    """What a test leaves to chance; its seed is shown when the test fails, and the variable repeats it."""
    seed = int(os.environ.get(SEED_VARIABLE) or secrets.randbits(32))
    print(f"{SEED_VARIABLE}={seed}")  # noqa: T201
    return np.random.default_rng(seed)


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[aio.Channel]:
    """A connection to the module's server."""
    async with connect(server.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def server(small_server: ServerProcess) -> ServerProcess:
    """The server with the small packages; a module that needs other settings has its own."""
    return small_server
