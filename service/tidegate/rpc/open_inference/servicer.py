"""`inference.GRPCInferenceService`: what foreign clients ask, on the same sessions and engines as our own door.

Each method converts, delegates, converts; the interceptor turns errors into statuses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from grpc import aio

from tidegate import __version__
from tidegate.config import ServerSettings
from tidegate.engine.pool import LoadedModel
from tidegate.errors import ModelNotFound
from tidegate.oip import open_inference_pb2 as pb
from tidegate.oip import open_inference_pb2_grpc
from tidegate.rpc.models import check_control
from tidegate.rpc.open_inference import metadata, repository
from tidegate.rpc.open_inference.connection import Context, InferConnection
from tidegate.rpc.open_inference.inference import Inference
from tidegate.rpc.open_inference.statistics import statistics
from tidegate.session.manager import SessionManager
from tidegate.session.open_request import check_model
from tidegate.telemetry.metrics import Metrics

UnaryContext = aio.ServicerContext[Any, Any]

EXTENSIONS = (
    "sequence",
    "sequence(string_id)",
    "model_configuration",
    "statistics",
    "parameters",
)
"""Spelled as Triton spells them."""

MODEL_CONTROL = "model_repository"
"""The extension that clients may load and unload by."""


class OpenInferenceServicer(open_inference_pb2_grpc.GRPCInferenceServiceServicer):
    """The service on top of one session manager."""

    def __init__(
        self,
        manager: SessionManager,
        inference: Inference,
        settings: ServerSettings,
        metrics: Metrics,
        is_ready: Callable[[], bool],
    ) -> None:
        self._manager = manager
        self._inference = inference
        self._settings = settings
        self._metrics = metrics
        self._is_ready = is_ready
        self._connections: set[InferConnection] = set()

    async def ServerLive(self, request: pb.ServerLiveRequest, context: UnaryContext) -> pb.ServerLiveResponse:
        """The server answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: UnaryContext
    ) -> pb.ServerReadyResponse:
        """Whether the server takes work."""
        return pb.ServerReadyResponse(ready=self._is_ready())

    async def ModelReady(self, request: pb.ModelReadyRequest, context: UnaryContext) -> pb.ModelReadyResponse:
        """Whether a model, or a version of it, is loaded."""
        return pb.ModelReadyResponse(ready=bool(self._loaded(request.name, request.version)))

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: UnaryContext
    ) -> pb.ServerMetadataResponse:
        """What the server is, and offers."""
        control = (MODEL_CONTROL,) if self._settings.model_control else ()
        return pb.ServerMetadataResponse(
            name="tidegate", version=__version__, extensions=(*EXTENSIONS, *control)
        )

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: UnaryContext
    ) -> pb.ModelMetadataResponse:
        """What a model takes and gives."""
        model = await self._resolve(request.name, request.version)
        versions = sorted((m.manifest.version for m in self._loaded(request.name)), key=int)
        return metadata.metadata(model, versions)

    async def ModelConfig(
        self, request: pb.ModelConfigRequest, context: UnaryContext
    ) -> pb.ModelConfigResponse:
        """How a model is served."""
        model = await self._resolve(request.name, request.version)
        return pb.ModelConfigResponse(config=metadata.configuration(model, self._settings))

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: UnaryContext
    ) -> pb.ModelStatisticsResponse:
        """What loaded versions have done; those of one model, or all."""
        models = self._loaded(request.name, request.version)
        if request.name and not models:
            raise ModelNotFound(f"no version {request.version!r} of model {request.name!r} is loaded")
        return pb.ModelStatisticsResponse(model_stats=[statistics(m) for m in models])

    async def ModelInfer(self, request: pb.ModelInferRequest, context: UnaryContext) -> pb.ModelInferResponse:
        """Run stateless windows, or the next steps of a sequence."""
        return await self._inference.infer(request)

    async def ModelStreamInfer(  # type: ignore[override]  # a coroutine that reads and writes beats a generator
        self, request_iterator: AsyncIterator[pb.ModelInferRequest], context: Context
    ) -> None:
        """Serve one stream."""
        connection = InferConnection(self._inference, self._manager, self._metrics, context)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: UnaryContext
    ) -> pb.RepositoryIndexResponse:
        """What the repository has."""
        repository.check_repository(request.repository_name)
        return repository.index(self._manager.pool, only_ready=request.ready)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: UnaryContext
    ) -> pb.RepositoryModelLoadResponse:
        """Load the newest version of a model."""
        check_control(allowed=self._settings.model_control)
        repository.check_repository(request.repository_name)
        repository.check_load_parameters(request.parameters)
        await repository.load(self._manager, request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: UnaryContext
    ) -> pb.RepositoryModelUnloadResponse:
        """Unload all versions of a model that no session in memory needs."""
        check_control(allowed=self._settings.model_control)
        repository.check_repository(request.repository_name)
        repository.unload(self._manager, request.model_name)
        return pb.RepositoryModelUnloadResponse()

    def drain(self) -> None:
        """End every stream once what it sent is answered."""
        for connection in self._connections:
            connection.drain()

    async def _resolve(self, name: str, version: str) -> LoadedModel:
        check_model(name, version)
        return await self._manager.pool.resolve(name, version)

    def _loaded(self, name: str, version: str = "") -> list[LoadedModel]:
        """Loaded versions; "" stands for any."""
        return [
            m
            for m in self._manager.pool.models()
            if name in ("", m.manifest.name) and version in ("", m.manifest.version)
        ]
