"""Requests of the Open Inference door, as its own stubs make them, and manifests to read them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tidegate.model.manifest import Dim, InputSpec, Manifest, OutputSpec
from tidegate.oip import open_inference_pb2 as pb
from tidegate.rpc.open_inference.layouts import NAMES
from tidegate.tensor import Array, DType

Value = bool | int | float | str


def manifest_of(*, missing: bool = False, **inputs: tuple[DType, tuple[Dim, ...]]) -> Manifest:
    """A model with these inputs, `[batch, time, ...]`, and two outputs."""
    axes: tuple[Dim, ...] = ("batch", "time")
    return Manifest(
        name="m",
        version="1",
        sha256="0" * 64,
        inputs=tuple(
            InputSpec(name=n, dtype=d, shape=(*axes, *s), accepts_missing=missing)
            for n, (d, s) in inputs.items()
        ),
        outputs=(
            OutputSpec(name="y", dtype=DType.FLOAT32, shape=(*axes, 2)),
            OutputSpec(name="n", dtype=DType.INT64, shape=axes),
        ),
    )


def datatype(values: Array) -> str:
    """What the protocol calls an array's element type."""
    return NAMES[DType(values.dtype.name)]


def infer_request(
    model: str,
    inputs: Mapping[str, Array],
    *,
    outputs: Sequence[str] = (),
    request_id: str = "",
    version: str = "",
    **parameters: Value,
) -> pb.ModelInferRequest:
    """A request with raw contents."""
    request = pb.ModelInferRequest(model_name=model, model_version=version, id=request_id)
    for name, values in inputs.items():
        request.inputs.add(name=name, datatype=datatype(values), shape=values.shape)
        request.raw_input_contents.append(values.tobytes())
    for name in outputs:
        request.outputs.add(name=name)
    for name, value in parameters.items():
        set_parameter(request.parameters[name], value)
    return request


def set_parameter(parameter: pb.InferParameter, value: Value) -> None:
    """Set the field of the value's type."""
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, str):
        parameter.string_param = value
    else:
        parameter.double_param = value


def outputs_of(response: pb.ModelInferResponse) -> dict[str, Array]:
    """The outputs of an answer, by name and in its order."""
    types = {name: d.numpy for d, name in NAMES.items()}
    return {
        o.name: np.frombuffer(raw, types[o.datatype]).reshape(tuple(o.shape))
        for o, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def parameters_of(response: pb.ModelInferResponse) -> dict[str, Value]:
    """The parameters of an answer."""
    return {
        name: getattr(parameter, parameter.WhichOneof("parameter_choice") or "string_param")
        for name, parameter in response.parameters.items()
    }
