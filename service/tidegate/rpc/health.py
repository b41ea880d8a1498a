"""Health and reflection: what probes, load balancers and grpcurl ask before anything else.

`grpc.health.v1` knows the server as a whole (""), each of our services, and each loaded model as
`tidegate.model/<name>`, and the store as `tidegate.store`: the server goes on without it, so it has a name
of its own. Nothing is SERVING before `set_ready`, and nothing is after `set_stopping`.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from grpc import StatusCode, aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tidegate.oip import open_inference_pb2
from tidegate.v1 import model_pb2, session_pb2

SERVICES: tuple[str, ...] = (
    session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name,
    model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
)
"""Full names of the services of both doors."""

MODEL_PREFIX = "tidegate.model/"
STORE = "tidegate.store"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN: int = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Request(Protocol):
    """`grpc.health.v1.HealthCheckRequest`, whose package has no types."""

    service: str


Context = aio.ServicerContext[Request, object]


class Health:
    """The health service of one server. Only its event loop calls this."""

    def __init__(self) -> None:
        self._servicer = _Servicer()

    async def add_to(self, server: aio.Server) -> None:
        """Offer the service on a server, with nothing SERVING yet."""
        for service in ("", STORE, *SERVICES):
            await self._servicer.set(service, _NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def set_ready(self, *, store_works: bool) -> None:
        """The server takes work from now on."""
        await self.set_store(works=store_works)
        for service in ("", *SERVICES):
            await self._servicer.set(service, _SERVING)

    async def set_stopping(self) -> None:
        """Nothing is SERVING any more, for good; watchers are told."""
        await self._servicer.stop()

    async def set_model(self, name: str, ok: bool) -> None:
        """A version of the model can, or can no longer, be stepped."""
        await self._servicer.set(MODEL_PREFIX + name, _SERVING if ok else _NOT_SERVING)

    async def set_store(self, *, works: bool) -> None:
        """The store takes, or no longer takes, what it is given."""
        await self._servicer.set(STORE, _SERVING if works else _NOT_SERVING)


class _Servicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the package has no types
    """The public health service, whose watches end when the server stops.

    Those of grpc_health go on until their client hangs up, so that a stop waits for it; and they write with a lock
    held, so that a client that does not read holds up every change.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Condition()
        self._stopping = False

    async def set(self, service: str, status: int) -> None:
        """Change the status of a service and tell those that watch it; nothing changes after `stop`."""
        if not self._stopping:
            self._statuses[service] = status
            await self._tell()

    async def stop(self) -> None:
        """Nothing is SERVING from now on; watchers are told, and their watches end."""
        self._stopping = True
        self._statuses = dict.fromkeys(self._statuses, _NOT_SERVING)
        await self._tell()

    async def Check(self, request: Request, context: Context) -> object:
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(StatusCode.NOT_FOUND, "no service has this name")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Request, context: Context) -> None:
        told: int | None = None
        while (status := await self._news(request.service, told)) is not None:
            await context.write(health_pb2.HealthCheckResponse(status=status))
            told = status

    async def _news(self, service: str, told: int | None) -> int | None:
        """Wait until the status is not what was told; None once the server stops and has said so."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._stopping or self._status(service) != told)
        status = self._status(service)
        return None if status == told else status

    def _status(self, service: str) -> int:
        return self._statuses.get(service, _UNKNOWN)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def enable_reflection(server: aio.Server) -> None:
    """Let tools such as grpcurl list our services and their messages."""
    names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
