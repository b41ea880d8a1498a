"""Inference requests with something wrong: a field at a time, several at once, or bytes that are no message.

`FIELDS` has one entry per field of ModelInferRequest; each takes hypothesis' `draw` and a good request, and breaks
that field of it. What comes of it may by chance be a good request again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from support.open_inference import parameters
from tidegate.oip import open_inference_pb2 as pb

Draw = Callable[[st.SearchStrategy[Any]], Any]
Break = Callable[[Draw, pb.ModelInferRequest], None]

SEQUENCE = "broken"
"""The sequence that all requests of sequences here are of, unless that is what is broken."""

dims = st.sampled_from(
    [0, 1, 2, 3, 7, -1, -2, -(2**63), 2**31 - 1, 2**31, 2**32, 2**33 + 1, 2**62, 2**63 - 1]
)
shapes = st.lists(dims, max_size=5) | st.sampled_from(
    [[1] * 40, [2] * 70, [2**31, 2**31, 3], [2**32, 2**32, 3]]
)
texts = st.text(max_size=12) | st.sampled_from(
    ["lstm", "x", "../lstm", "lstm/1", "\0", "a" * 1000, "é" * 65, "0", "9" * 30, "-1", "latest", "nan"]
)
numbers = st.sampled_from([0, 1, -1, 5, 2**31, 2**62, 2**63 - 1, -(2**63)])
values = st.one_of(
    st.just(pb.InferParameter()),
    st.booleans().map(lambda v: pb.InferParameter(bool_param=v)),
    numbers.map(lambda v: pb.InferParameter(int64_param=v)),
    texts.map(lambda v: pb.InferParameter(string_param=v)),
    st.sampled_from([0.0, -1.5, 1e300, float("nan"), float("inf")]).map(
        lambda v: pb.InferParameter(double_param=v)
    ),
    st.sampled_from([0, 1, 2**63, 2**64 - 1]).map(lambda v: pb.InferParameter(uint64_param=v)),
)
names = st.sampled_from(
    [
        "sequence_id", "sequence_start", "sequence_end", "step", "timeout", "priority", "classification",
        "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size", "binary_data", "binary_data_size",
        "triton_enable_empty_final_response", "", "unknown",
    ]
)  # fmt: skip
datatypes = texts | st.sampled_from(
    [
        "BOOL",
        "INT8",
        "INT16",
        "INT32",
        "INT64",
        "UINT8",
        "UINT64",
        "FP16",
        "BF16",
        "FP64",
        "BYTES",
        "fp32",
        "float32",
    ]
)
CONTENTS: dict[str, st.SearchStrategy[Any]] = {
    "bool_contents": st.booleans(),
    "int_contents": st.integers(-(2**31), 2**31 - 1),
    "int64_contents": st.integers(-(2**63), 2**63 - 1),
    "uint_contents": st.integers(0, 2**32 - 1),
    "uint64_contents": st.integers(0, 2**64 - 1),
    "fp32_contents": st.sampled_from([0.0, 1.0, float("nan"), float("inf")]),
    "fp64_contents": st.sampled_from([0.0, 1.0, float("nan"), 1e300]),
    "bytes_contents": st.binary(max_size=5),
}


def good(model: str, *, sequence: bool) -> pb.ModelInferRequest:
    """A request of `lstm` or of `mixed`, whose inputs are a float32 and an int64; one step."""
    inputs = {"x": ("FP32", [1, 1, 3], np.ones(3, "<f4"))}
    if model == "mixed":
        inputs = {"x": ("FP32", [1, 1, 2], np.ones(2, "<f4")), "k": ("INT64", [1, 1], np.ones(1, "<i8"))}
    message = pb.ModelInferRequest(model_name=model)
    for name, (datatype, shape, array) in inputs.items():
        message.inputs.add(name=name, datatype=datatype, shape=shape)
        message.raw_input_contents.append(array.tobytes())
    if sequence:
        for name, value in parameters(sequence_id=SEQUENCE, sequence_start=True).items():
            message.parameters[name].CopyFrom(value)
    return message


def _model_name(draw: Draw, message: pb.ModelInferRequest) -> None:
    message.model_name = draw(texts)


def _model_version(draw: Draw, message: pb.ModelInferRequest) -> None:
    message.model_version = draw(texts)


def _request_id(draw: Draw, message: pb.ModelInferRequest) -> None:
    message.id = draw(texts | st.sampled_from(["r" * 257, "é" * 129]))


def _parameters(draw: Draw, message: pb.ModelInferRequest) -> None:
    for name, value in draw(st.dictionaries(names, values, min_size=1, max_size=4)).items():
        message.parameters[name].CopyFrom(value)


def _one(draw: Draw, message: pb.ModelInferRequest) -> pb.ModelInferRequest.InferInputTensor:
    """One of the inputs; another one where there is none any more."""
    if not message.inputs:
        message.inputs.add(name="x", datatype="FP32", shape=[1, 1, 3])
    return message.inputs[draw(st.integers(0, len(message.inputs) - 1))]


def _input_name(draw: Draw, message: pb.ModelInferRequest) -> None:
    _one(draw, message).name = draw(texts)


def _input_datatype(draw: Draw, message: pb.ModelInferRequest) -> None:
    _one(draw, message).datatype = draw(datatypes)


def _input_shape(draw: Draw, message: pb.ModelInferRequest) -> None:
    tensor = _one(draw, message)
    del tensor.shape[:]
    tensor.shape.extend(draw(shapes))


def _input_parameters(draw: Draw, message: pb.ModelInferRequest) -> None:
    _one(draw, message).parameters[draw(names)].CopyFrom(draw(values))


def _input_contents(draw: Draw, message: pb.ModelInferRequest) -> None:
    if draw(st.booleans()):
        del message.raw_input_contents[:]
    field = draw(st.sampled_from(list(CONTENTS)))
    size = draw(st.sampled_from([0, 1, 2, 3, 4, 9]))
    elements = draw(st.lists(CONTENTS[field], min_size=size, max_size=size))
    getattr(_one(draw, message).contents, field).extend(elements)


def _inputs(draw: Draw, message: pb.ModelInferRequest) -> None:
    if message.inputs and draw(st.booleans()):
        del message.inputs[draw(st.integers(0, len(message.inputs) - 1))]
    else:
        message.inputs.add().CopyFrom(_one(draw, message))
    if draw(st.booleans()):
        message.raw_input_contents.append(bytes(draw(st.integers(0, 24))))


def _outputs(draw: Draw, message: pb.ModelInferRequest) -> None:
    for name in draw(st.lists(texts | st.sampled_from(["y"]), min_size=1, max_size=3)):
        output = message.outputs.add(name=name)
        if draw(st.booleans()):
            output.parameters[draw(names)].CopyFrom(draw(values))


def _raw_contents(draw: Draw, message: pb.ModelInferRequest) -> None:
    kept = list(message.raw_input_contents)
    raw = [
        draw(st.sampled_from([entry[:-1], entry + b"\0", entry * 3, b"", b"\xff" * len(entry)]))
        for entry in kept
    ]
    del message.raw_input_contents[:]
    message.raw_input_contents.extend(raw[: draw(st.integers(0, len(raw)))] if draw(st.booleans()) else raw)
    if draw(st.booleans()):
        message.raw_input_contents.append(draw(st.binary(max_size=30)))


FIELDS: dict[str, Break] = {
    "model_name": _model_name,
    "model_version": _model_version,
    "id": _request_id,
    "parameters": _parameters,
    "inputs.name": _input_name,
    "inputs.datatype": _input_datatype,
    "inputs.shape": _input_shape,
    "inputs.parameters": _input_parameters,
    "inputs.contents": _input_contents,
    "inputs": _inputs,
    "outputs": _outputs,
    "raw_input_contents": _raw_contents,
}


@st.composite
def requests(draw: Draw, fields: list[str], *, most: int = 1) -> pb.ModelInferRequest:
    """Requests in which one of these fields is broken, or as many as `most`."""
    message = good(draw(st.sampled_from(["lstm", "mixed"])), sequence=draw(st.booleans()))
    for name in draw(st.lists(st.sampled_from(fields), min_size=1, max_size=most)):
        FIELDS[name](draw, message)
    return message


@st.composite
def byte_strings(draw: Draw) -> bytes:
    """Anything as a message: chance, or a request that was cut, changed or doubled."""
    if draw(st.booleans()):
        return bytes(draw(st.binary(max_size=200)))
    raw = bytearray(draw(requests(list(FIELDS), most=2)).SerializeToString())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        kind = draw(st.sampled_from(["cut", "change", "insert"]))
        if kind == "cut":
            del raw[at : at + draw(st.integers(1, 20))]
        elif kind == "change" and at < len(raw):
            raw[at] ^= draw(st.integers(1, 255))
        else:
            raw[at:at] = draw(st.binary(min_size=1, max_size=12))
    return bytes(raw)
