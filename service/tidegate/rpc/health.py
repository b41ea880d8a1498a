"""Health and reflection: what probes, load balancers and grpcurl ask before anything else.

`grpc.health.v1` knows the server as a whole (""), each of our services, and each loaded model as
`tidegate.model/<name>`, and the store as `tidegate.store`: the server goes on without it, so it has a name
of its own. Nothing is SERVING before `set_ready`, and nothing is after `set_stopping`.
"""

from __future__ import annotations

from grpc import aio
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


class Health:
    """The health service of one server. Only its event loop calls this."""

    def __init__(self) -> None:
        self._servicer = health.aio.HealthServicer()

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
        await self._servicer.enter_graceful_shutdown()

    async def set_model(self, name: str, ok: bool) -> None:
        """A version of the model can, or can no longer, be stepped."""
        await self._servicer.set(MODEL_PREFIX + name, _SERVING if ok else _NOT_SERVING)

    async def set_store(self, *, works: bool) -> None:
        """The store takes, or no longer takes, what it is given."""
        await self._servicer.set(STORE, _SERVING if works else _NOT_SERVING)


def enable_reflection(server: aio.Server) -> None:
    """Let tools such as grpcurl list our services and their messages."""
    names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
