"""What a server says about a model, as values: names, types and shapes of what goes in and comes out.

Made from the messages of `ModelService` and from nothing else; immutable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from google.protobuf.json_format import MessageToDict

from tidegate.client.time_rules import read_time_rules
from tidegate.errors import InternalError
from tidegate.model.time_rules import TimeRules
from tidegate.protocol.tracking import TensorForm
from tidegate.tensor import DType
from tidegate.v1 import model_pb2 as pb

ModelState = Literal["unspecified", "available", "loading", "ready", "failed"]
BatchExactness = Literal["unspecified", "exact", "serial", "off"]
ForecastMode = Literal["unspecified", "none", "direct", "feedback"]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output, for one step of one session.

    Attributes:
        name: Its name in the manifest.
        dtype: Element type.
        step_shape: Shape without batch and time axes.
        features: Names of the elements of the last axis, or of what is predicted; may be empty.
        units: Their units; may be empty.
        horizon_steps: Outputs: how many steps ahead each element looks; empty: the same step.
        quantile_levels: Outputs: quantile levels of the last axis; empty: a point forecast.
        accepts_missing: Inputs: NaN means "missing" instead of being refused.
    """

    name: str
    dtype: DType
    step_shape: tuple[int, ...]
    features: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    horizon_steps: tuple[int, ...] = ()
    quantile_levels: tuple[float, ...] = ()
    accepts_missing: bool = False

    @property
    def form(self) -> TensorForm:
        """Type and shape alone."""
        return TensorForm(self.dtype, self.step_shape)


@dataclass(frozen=True)
class ModelInfo:
    """One version of a model.

    Attributes:
        name: Name of the model.
        version: Its version.
        sha256: Hash of its bytes, hex.
        state: Whether the server can step it now.
        failure: Why it could not be loaded; else empty.
        description: One line for people.
        inputs: What every step takes, in the order of the wire.
        outputs: What every step gives, in the order of the wire.
        state_bytes: Bytes of state that one session keeps.
        batch_exactness: Whether answers are bit-identical alone and batched (promise P1).
        batch_exactness_detail: Which check of the probe did not hold; else empty.
        time: How a series becomes steps: cadence, time column, missing values, gaps, calendar. `StepMaker`
            does what they say.
        forecast_mode: Whether coming steps can be forecast, and whether from the last answer ("direct") or
            by feeding answers back, which may need future inputs ("feedback").
        device: "cpu" or "cuda"; empty when not loaded.
        loaded_at: When it was loaded; None when it is not.
        provenance: Recipe, data hash, library versions, seed, metrics on held-out data.
    """

    name: str
    version: str
    sha256: str
    state: ModelState
    failure: str
    description: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    state_bytes: int
    batch_exactness: BatchExactness
    batch_exactness_detail: str
    time: TimeRules
    forecast_mode: ForecastMode
    device: str
    loaded_at: datetime | None
    provenance: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The version as texts name it: `co2-weekly/1`."""
        return f"{self.name}/{self.version}"


def model_info(model: pb.Model) -> ModelInfo:
    """What a `Model` message says.

    Raises:
        InternalError: A data type or a rule about time that this release does not know.
    """
    return ModelInfo(
        name=model.version.name,
        version=model.version.version,
        sha256=model.version.sha256,
        state=_STATES.get(model.state, "unspecified"),
        failure=model.failure,
        description=model.description,
        inputs=tuple(_tensor_spec(t) for t in model.inputs),
        outputs=tuple(_tensor_spec(t) for t in model.outputs),
        state_bytes=model.state_bytes,
        batch_exactness=_EXACTNESS.get(model.batch_exactness, "unspecified"),
        batch_exactness_detail=model.batch_exactness_detail,
        time=read_time_rules(model),
        forecast_mode=_FORECASTS.get(model.forecast_mode, "unspecified"),
        device=model.device,
        loaded_at=model.loaded_at.ToDatetime(tzinfo=UTC) if model.HasField("loaded_at") else None,
        provenance=MessageToDict(model.provenance),
    )


def data_type(dtype: DType) -> pb.DataType.ValueType:
    """The wire's number of an element type."""
    return pb.DataType.Value(_PREFIX + dtype.name)


def dtype_of(number: pb.DataType.ValueType) -> DType:
    """The element type behind the wire's number.

    Raises:
        InternalError: A number that this release does not know.
    """
    try:
        return DType[pb.DataType.Name(number).removeprefix(_PREFIX)]
    except (KeyError, ValueError) as error:
        raise InternalError(f"data_type: expected one this release knows, got {number}") from error


def _tensor_spec(spec: pb.TensorSpec) -> TensorSpec:
    return TensorSpec(
        name=spec.name,
        dtype=dtype_of(spec.data_type),
        step_shape=tuple(spec.step_shape),
        features=tuple(spec.features),
        units=tuple(spec.units),
        horizon_steps=tuple(spec.horizon_steps),
        quantile_levels=tuple(spec.quantile_levels),
        accepts_missing=spec.accepts_missing,
    )


_PREFIX = "DATA_TYPE_"

_STATES: Mapping[int, ModelState] = {
    pb.MODEL_STATE_AVAILABLE: "available",
    pb.MODEL_STATE_LOADING: "loading",
    pb.MODEL_STATE_READY: "ready",
    pb.MODEL_STATE_FAILED: "failed",
}

_EXACTNESS: Mapping[int, BatchExactness] = {
    pb.BATCH_EXACTNESS_EXACT: "exact",
    pb.BATCH_EXACTNESS_SERIAL: "serial",
    pb.BATCH_EXACTNESS_OFF: "off",
}

_FORECASTS: Mapping[int, ForecastMode] = {
    pb.FORECAST_MODE_NONE: "none",
    pb.FORECAST_MODE_DIRECT: "direct",
    pb.FORECAST_MODE_FEEDBACK: "feedback",
}
