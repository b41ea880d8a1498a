"""The parameters of a request: what they may be, and what they mean.

Parameters that would change what is asked, and that this server cannot serve, are refused by name; others that
it does not know are ignored, as the protocol has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.errors import InvalidRequest, Unsupported
from tidegate.oip import open_inference_pb2 as pb

MAX_INT64 = 2**63 - 1

KINDS = {
    "bool_param": "a bool",
    "int64_param": "an int64",
    "string_param": "a string",
    "double_param": "a double",
    "uint64_param": "a uint64",
    None: "none of them",
}
"""The fields of a parameter as error texts name them."""

Parameters = Mapping[str, pb.InferParameter]


@dataclass(slots=True)
class RequestParameters:
    """What the parameters of a request say.

    Attributes:
        sequence_id: The sequence; None for a stateless request.
        starts: It begins the sequence.
        ends: It ends the sequence.
        step: Number of the first of its steps; None where it does not say.
        time_limit_s: From arrival to the start of its first step; None for no limit.
        wants_final: Its answer is to be marked as the last one to it.
    """

    sequence_id: int | str | None = None
    starts: bool = False
    ends: bool = False
    step: int | None = None
    time_limit_s: float | None = None
    wants_final: bool = False


def read_parameters(parameters: Parameters) -> RequestParameters:
    """Read the parameters of a request.

    Raises:
        InvalidRequest: One has a value that it cannot have, or says something of a sequence that is not named.
        Unsupported: It needs shared memory.
    """
    read = RequestParameters()
    for name, parameter in parameters.items():
        if name == "sequence_id":
            read.sequence_id = _sequence_id(parameter)
        elif name == "sequence_start":
            read.starts = _bool(name, parameter)
        elif name == "sequence_end":
            read.ends = _bool(name, parameter)
        elif name == "step":
            read.step = _integer(name, parameter)
        elif name == "timeout":
            read.time_limit_s = _time_limit_s(parameter)
        elif name == "triton_enable_empty_final_response":
            read.wants_final = _bool(name, parameter)
        else:
            refuse_unserved("parameters", name)
    if read.sequence_id is None and (read.starts or read.ends or read.step is not None):
        raise InvalidRequest(
            "parameters: expected a sequence_id beside sequence_start, sequence_end or step, got none"
        )
    return read


def refuse_unserved(where: str, name: str) -> None:
    """Refuse a parameter whose meaning must not be ignored.

    Raises:
        Unsupported: It asks for shared memory or classification.
    """
    if name.startswith("shared_memory_"):
        raise Unsupported(f"{where}: {name}: expected tensors in the message, got shared memory")
    if name == "classification":
        raise Unsupported(f"{where}: {name}: expected outputs as the model gives them, got classification")


def _sequence_id(parameter: pb.InferParameter) -> int | str | None:
    """The id of a sequence; None for 0 and "", which stand for none."""
    kind = parameter.WhichOneof("parameter_choice")
    if kind == "int64_param":
        return parameter.int64_param or None
    if kind == "string_param":
        return parameter.string_param or None
    if kind == "uint64_param" and parameter.uint64_param <= MAX_INT64:
        return parameter.uint64_param or None
    raise InvalidRequest(f"sequence_id: expected an int64 or a string, got {_shown(parameter)}")


def _bool(name: str, parameter: pb.InferParameter) -> bool:
    if parameter.WhichOneof("parameter_choice") != "bool_param":
        raise InvalidRequest(f"{name}: expected a bool, got {_shown(parameter)}")
    return parameter.bool_param


def _integer(name: str, parameter: pb.InferParameter) -> int:
    """A number from 0 that fits into int64."""
    kind = parameter.WhichOneof("parameter_choice")
    number = -1
    if kind == "int64_param":
        number = parameter.int64_param
    elif kind == "uint64_param":
        number = parameter.uint64_param
    if not 0 <= number <= MAX_INT64:
        raise InvalidRequest(f"{name}: expected an int64 from 0, got {_shown(parameter)}")
    return number


def _time_limit_s(parameter: pb.InferParameter) -> float | None:
    text = parameter.string_param
    if parameter.WhichOneof("parameter_choice") == "string_param":
        if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_INT64))):
            raise InvalidRequest(f"timeout: expected microseconds from 0, got {text[:100]!r}")
        return int(text) / 1e6 or None
    return _integer("timeout", parameter) / 1e6 or None


def _shown(parameter: pb.InferParameter) -> str:
    """A parameter as an error text has it."""
    kind = parameter.WhichOneof("parameter_choice")
    if kind in ("bool_param", "int64_param", "uint64_param", "double_param"):
        return f"{KINDS[kind]}, {getattr(parameter, kind)}"
    return KINDS[kind]
