"""The gRPC server: its services on one port, its limits, its start and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from grpc import aio

from tidegate.config import ServerSettings
from tidegate.engine.pool import ModelPool
from tidegate.errors import ConfigError
from tidegate.oip import open_inference_pb2_grpc
from tidegate.repository.repository import Entry
from tidegate.rpc.health import Health, enable_reflection
from tidegate.rpc.interceptors import ServerInterceptor
from tidegate.rpc.listening import check_address
from tidegate.rpc.models import ModelServicer
from tidegate.rpc.open_inference.inference import Inference
from tidegate.rpc.open_inference.servicer import OpenInferenceServicer
from tidegate.rpc.sessions import SessionServicer
from tidegate.session.manager import SessionManager
from tidegate.telemetry.metrics import Metrics
from tidegate.v1 import model_pb2_grpc, session_pb2_grpc


class GrpcServer:
    """A gRPC server that listens.

    Attributes:
        port: The port that it listens on.
        health: What `grpc.health.v1` answers.
    """

    def __init__(
        self,
        server: aio.Server,
        servicers: Sequence[SessionServicer | OpenInferenceServicer],
        health: Health,
        port: int,
    ) -> None:
        self._server = server
        self._servicers = servicers
        self._tasks: set[asyncio.Task[None]] = set()
        self.health = health
        self.port = port

    def show_model(self, entry: Entry, ready: bool) -> None:
        """Let the health service tell of a version that came or went."""
        self._begin(self.health.set_model(entry.name, ready))

    def show_store(self, works: bool) -> None:
        """Let the health service tell whether the store takes what it is given."""
        self._begin(self.health.set_store(works=works))

    async def stop(self, grace_s: float) -> None:
        """Answer what was sent, refuse what is new, and close.

        Args:
            grace_s: Longest time for what is still in flight; then connections are cut.
        """
        await self.health.set_stopping()
        for servicer in self._servicers:
            servicer.drain()
        await self._server.stop(grace_s)

    def _begin(self, telling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(telling)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def start_grpc(
    settings: ServerSettings,
    pool: ModelPool,
    manager: SessionManager,
    metrics: Metrics,
    is_ready: Callable[[], bool],
) -> GrpcServer:
    """Listen, with nothing SERVING yet.

    Args:
        settings: The operator's.
        pool: The models.
        manager: The sessions.
        metrics: Counts the calls.
        is_ready: Asked by clients of the Open Inference door.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    server = aio.server(
        interceptors=[ServerInterceptor(metrics)],
        options=_options(settings),
        maximum_concurrent_rpcs=settings.max_concurrent_calls,
    )
    sessions = SessionServicer(manager, metrics)
    session_pb2_grpc.add_SessionServiceServicer_to_server(sessions, server)
    models = ModelServicer(pool, manager, model_control=settings.model_control)
    model_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
    foreign = OpenInferenceServicer(manager, Inference(manager), settings, metrics, is_ready)
    open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(foreign, server)
    health = Health()
    await health.add_to(server)
    enable_reflection(server)
    host, number = settings.grpc_host, settings.grpc_port
    check_address("grpc", host, number)
    address = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(f"--grpc-port: cannot listen on {address}: {error}") from error
    await server.start()
    return GrpcServer(server, (sessions, foreign), health, port)


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        # Two servers sharing a port would each hold a part of the sessions.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.keepalive_time_ms", int(settings.keepalive_time_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(settings.keepalive_timeout_s * 1000)),
        # The time that a ping may take has a default of its own, 60 s, beside that of keepalive.
        ("grpc.http2.ping_timeout_ms", int(settings.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # Clients may find a dead server by pings as often as we look for dead clients.
        ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ]
