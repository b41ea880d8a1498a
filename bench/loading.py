"""`python -m bench.loading`: what a session that is stepped feels of a model that is loaded beside it.

The server has one core. The model comes to its repository while one session is stepped as fast as its
answers come; what is measured is from then until it is ready.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import grpc
import numpy as np
from grpc import aio

from bench.errors import BenchError
from bench.load import Load, LoadShape
from bench.machine import choose_cores, describe, on_core
from bench.models import DEFAULT, LstmShape, write_lstm
from bench.server import Server
from tidegate.v1.model_pb2 import MODEL_STATE_READY, GetModelRequest, ModelVersion
from tidegate.v1.model_pb2_grpc import ModelServiceStub

LOADED = LstmShape("lstm-1x512", layers=1, hidden=512, features=8)
ONE_SESSION = LoadShape(streams=1, in_flight=1, rows=1, sessions=1)
WARM_UP_S = 1.0
QUIET_S = 5.0
READY_TIMEOUT_S = 120.0
POLL_S = 0.05


async def measure(
    server: Server, prepared: Path, repository: Path, quiet_s: float, write: Callable[[str], None]
) -> None:
    """Write one line without a load and one beside it.

    Args:
        server: What is measured.
        prepared: Folder of the model to load.
        repository: The server's.
        quiet_s: Time to measure without a load, in seconds.
        write: Takes the lines.

    Raises:
        BenchError: The model was not ready in time.
    """
    load = await Load.on_server(server.address, DEFAULT, ONE_SESSION)
    async with load, load.running():
        await asyncio.sleep(WARM_UP_S)
        write(_line("quiet", quiet_s, (await load.window(quiet_s, server.cpu_s)).latencies_s.tolist()))
        load.tally.latencies_s.clear()
        start_s = time.perf_counter()
        _publish(prepared, repository)
        await _until_ready(server.address, prepared.name)
        write(_line("loading", time.perf_counter() - start_s, load.tally.latencies_s))


def _publish(prepared: Path, repository: Path) -> None:
    prepared.rename(repository / prepared.name)


async def _until_ready(address: str, name: str) -> None:
    request = GetModelRequest(version=ModelVersion(name=name))
    deadline_s = time.perf_counter() + READY_TIMEOUT_S
    async with aio.insecure_channel(address) as channel:
        models = ModelServiceStub(channel)
        while time.perf_counter() < deadline_s:
            try:
                if (await models.GetModel(request)).model.state == MODEL_STATE_READY:
                    return
            except aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
            await asyncio.sleep(POLL_S)
    raise BenchError(f"{name} was not ready after {READY_TIMEOUT_S:g} s")


def _line(name: str, seconds: float, latencies_s: list[float]) -> str:
    p50, p90, p99, most = np.percentile(latencies_s, [50, 90, 99, 100]) * 1e3
    return (
        f"{name:8} {seconds:5.1f} s   p50 {p50:6.2f}   p90 {p90:6.2f}   p99 {p99:6.2f}   max {most:6.2f} ms"
    )


def run(loaded: LstmShape, quiet_s: float, write: Callable[[str], None]) -> None:
    """Start a server on a core of its own and measure."""
    cores = choose_cores()
    with tempfile.TemporaryDirectory(prefix="tidegate-") as scratch:
        repository = Path(scratch, "models")
        write_lstm(repository, DEFAULT)
        prepared = write_lstm(Path(scratch, "prepared"), loaded).parent
        with Server(cores.server, repository, Path(scratch, "server")) as server, on_core(cores.load):
            asyncio.run(measure(server, prepared, repository, quiet_s, write))


@click.command
def main() -> None:
    """Print the latency of one session, without a load and beside one."""
    machine = describe(choose_cores())
    click.echo(f"{machine['cpu']} · {machine['date']}")
    run(LOADED, QUIET_S, click.echo)


if __name__ == "__main__":
    main()
