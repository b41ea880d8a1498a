"""`ModelService`: which model versions there are, and loading and unloading them."""

from __future__ import annotations

from typing import Any

from google.protobuf.struct_pb2 import Struct
from grpc import aio

from tidegate.engine.pool import LoadState, ModelPool, ModelStatus
from tidegate.errors import ControlDisabled, InvalidRequest
from tidegate.model.manifest import InputSpec, OutputSpec, StatePair
from tidegate.rpc import convert
from tidegate.rpc.tensors import DATA_TYPES
from tidegate.rpc.time_rules import write_time_rules
from tidegate.runner.runner import BatchExactness
from tidegate.session.manager import SessionManager
from tidegate.session.open_request import check_model
from tidegate.v1 import model_pb2 as pb
from tidegate.v1 import model_pb2_grpc

UnaryContext = aio.ServicerContext[Any, Any]

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
MAX_POSITION_DIGITS = 9

_STATES = {
    LoadState.AVAILABLE: pb.MODEL_STATE_AVAILABLE,
    LoadState.LOADING: pb.MODEL_STATE_LOADING,
    LoadState.READY: pb.MODEL_STATE_READY,
    LoadState.FAILED: pb.MODEL_STATE_FAILED,
}
_EXACTNESS = {
    BatchExactness.EXACT: pb.BATCH_EXACTNESS_EXACT,
    BatchExactness.SERIAL: pb.BATCH_EXACTNESS_SERIAL,
    BatchExactness.OFF: pb.BATCH_EXACTNESS_OFF,
}
_FORECASTS = {
    None: pb.FORECAST_MODE_NONE,
    "direct": pb.FORECAST_MODE_DIRECT,
    "feedback": pb.FORECAST_MODE_FEEDBACK,
}


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """The service on top of one model pool."""

    def __init__(self, pool: ModelPool, manager: SessionManager, *, model_control: bool) -> None:
        self._pool = pool
        self._manager = manager
        self._model_control = model_control

    async def ListModels(self, request: pb.ListModelsRequest, context: UnaryContext) -> pb.ListModelsResponse:
        """A page of versions; the page token is the position of the next one."""
        statuses = [s for s in self._pool.statuses() if request.name in ("", s.entry.name)]
        size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        start = _position(request.page_token)
        end = start + size
        return pb.ListModelsResponse(
            models=[_model(s) for s in statuses[start:end]],
            next_page_token=str(end) if end < len(statuses) else "",
        )

    async def GetModel(self, request: pb.GetModelRequest, context: UnaryContext) -> pb.GetModelResponse:
        """One version."""
        check_model(request.version.name, request.version.version)
        return pb.GetModelResponse(
            model=_model(self._pool.find(request.version.name, request.version.version))
        )

    async def LoadModel(self, request: pb.LoadModelRequest, context: UnaryContext) -> pb.LoadModelResponse:
        """Load a version from the repository; it stays loaded until it is unloaded by name."""
        check_control(allowed=self._model_control)
        self._manager.check_running()
        check_model(request.version.name, request.version.version)
        model = await self._pool.load(request.version.name, request.version.version)
        self._pool.keep(model)
        return pb.LoadModelResponse(model=_model(self._pool.find(*model.entry)))

    async def UnloadModel(
        self, request: pb.UnloadModelRequest, context: UnaryContext
    ) -> pb.UnloadModelResponse:
        """Unload a version that no session needs; one that is not loaded stays so."""
        check_control(allowed=self._model_control)
        check_model(request.version.name, request.version.version)
        status = self._pool.find(request.version.name, request.version.version)
        if status.model is not None:
            self._manager.unload(status.model)
            self._pool.withdraw(status.entry)
        return pb.UnloadModelResponse()


def check_control(*, allowed: bool) -> None:
    """Raise ControlDisabled where clients may not load and unload models."""
    if not allowed:
        raise ControlDisabled("model_control: the operator lets no client load or unload models")


def _position(page_token: str) -> int:
    if not page_token:
        return 0
    if not page_token.isdecimal() or len(page_token) > MAX_POSITION_DIGITS:
        raise InvalidRequest(f"page_token: expected one of an earlier answer, got {page_token[:100]!r}")
    return int(page_token)


def _model(status: ModelStatus) -> pb.Model:
    if status.model is None:
        name, version = status.entry
        return pb.Model(
            version=pb.ModelVersion(name=name, version=version),
            state=_STATES[status.state],
            failure=status.failure,
        )
    runner, manifest = status.model.runner, status.model.manifest
    provenance = Struct()
    provenance.update(manifest.model_dump(mode="json")["provenance"])
    forecast = manifest.forecast
    model = pb.Model(
        version=convert.model_version(status.model.manifest),
        state=pb.MODEL_STATE_READY,
        description=manifest.description,
        inputs=[_input(i) for i in manifest.inputs],
        outputs=[_output(o) for o in manifest.outputs],
        states=[_state(s) for s in manifest.states],
        batch_exactness=_EXACTNESS[runner.batch_exactness],
        batch_exactness_detail=runner.exactness.detail,
        state_bytes=runner.arena.slot_bytes,
        device=runner.device,
        loaded_at=convert.timestamp(status.model.loaded_at_s),
        provenance=provenance,
        forecast_mode=_FORECASTS[None if forecast is None else forecast.mode],
    )
    write_time_rules(model, manifest.time)
    return model


def _input(spec: InputSpec) -> pb.TensorSpec:
    return pb.TensorSpec(
        name=spec.name,
        data_type=DATA_TYPES[spec.dtype],
        step_shape=spec.step_shape,
        features=spec.features,
        units=spec.units,
        accepts_missing=spec.accepts_missing,
    )


def _output(spec: OutputSpec) -> pb.TensorSpec:
    return pb.TensorSpec(
        name=spec.name,
        data_type=DATA_TYPES[spec.dtype],
        step_shape=spec.step_shape,
        features=spec.features,
        units=spec.units,
        horizon_steps=spec.horizon_steps,
        quantile_levels=spec.quantile_levels,
    )


def _state(pair: StatePair) -> pb.StateSpec:
    return pb.StateSpec(
        input_name=pair.input_name,
        output_name=pair.output_name,
        data_type=DATA_TYPES[pair.dtype],
        shape=pair.step_shape,
    )
