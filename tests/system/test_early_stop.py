"""SIGTERM before a server is ready: clients come as soon as the port is there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
from grpc import aio

from support.odd_models import counter_package
from support.onnx_models import lstm_package
from support.ports import free_port
from support.raw_stream import RawStream, connect
from support.server import ServerProcess

NUM_SLOW = 4
"""Models that take half a second each to load."""


def started(models: Path, *flags: str) -> subprocess.Popen[bytes]:
    """A server that is not waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", "tidegate.cli", "serve", "--models", str(models), *flags],
        stderr=subprocess.DEVNULL,
    )


async def stepped(address: str) -> None:
    """Step a session as soon as somebody listens."""
    while True:
        async with connect(address) as channel, RawStream(channel) as stream:
            try:
                handles = await stream.handles("counter", "early")
            except aio.AioRpcError:
                continue
            await stream.step(handles, [0], np.ones((1, 3, 2)))
            return


async def test_what_was_answered_before_a_server_was_ready_is_stored_when_it_stops(tmp_path: Path) -> None:
    models = tmp_path / "models"
    counter_package(models)
    for i in range(NUM_SLOW):
        lstm_package(models, name=f"slow{i}", hidden=256)
    port, store = free_port(), ("--store", f"sqlite:///{tmp_path}/sessions.db")
    flags = ("--grpc-port", str(port), "--http-port", "0", "--checkpoint-age-s", "600", *store)
    process = started(models, *flags)
    async with asyncio.timeout(60):
        await stepped(f"127.0.0.1:{port}")
    process.terminate()
    code = await asyncio.to_thread(process.wait, 60)

    with ServerProcess(models, tmp_path / "again", *store) as server:
        async with connect(server.address) as channel, RawStream(channel) as stream:
            opened = await stream.open("counter", "early", mode="RESUME")

    assert code == 0
    assert list(opened.next_steps) == [3]
