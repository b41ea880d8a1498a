"""How long a server takes from its start to SERVING."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.errors import BenchError
from bench.processes import ROOT, PinnedProcess
from bench.server import sqlite
from bench.setting import Setting

DEMO_MODELS = ROOT / "models"
POLL_S = 0.002
TIMEOUT_S = 60.0


async def measure_start(setting: Setting) -> None:
    """Seconds from the start of the process to the first SERVING, with the demo model."""
    store = setting.folder / "start.db"
    setting.found(
        "start.seconds",
        [
            await asyncio.to_thread(start_once, setting, DEMO_MODELS, store)
            for _ in range(setting.durations.rounds)
        ],
    )


def start_once(setting: Setting, models: Path, store: Path) -> float:
    """Seconds from the start of a process to the first SERVING, with a store that may be there already.

    Raises:
        BenchError: It ended, or did not listen in time.
    """
    port = free_port()
    places = ["--models", str(models), "--store", sqlite(store)]
    flags = [*places, "--grpc-port", str(port), "--http-port", "0"]
    start_s = time.perf_counter()
    log = setting.folder / "start.log"
    with PinnedProcess(setting.cores.server, "tidegate.cli", ["serve", *flags], log=log) as server:
        # A channel that finds nobody waits before it tries again: connect only once somebody listens.
        while not _listens(port):
            server.check_running()
            if time.perf_counter() - start_s > TIMEOUT_S:
                raise BenchError(f"nobody listens after {TIMEOUT_S:g} s")
            time.sleep(POLL_S)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for answer in health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S
            ):
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return time.perf_counter() - start_s
    raise BenchError("the health service ended before the server was SERVING")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
