"""The steps ahead of a session, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tidegate.client.codec import encode_inputs
from tidegate.client.signature import TensorSpec
from tidegate.client.tensors import read_tensor, write_tensor
from tidegate.errors import InvalidRequest
from tidegate.tensor import Array, IntArray
from tidegate.v1 import session_pb2


@dataclass(frozen=True)
class Forecast:
    """What comes after a session's last step, row by row.

    Attributes:
        next_step: Steps that the session has had.
        horizon_steps: How many steps each row lies after the last of them, int64 [rows].
        outputs: By name, `[rows, ...]`. A model that feeds back: its answers to these steps, as if the
            session had been fed with `inputs`. A model that looks ahead by itself: what its last answer
            says of these steps, without the horizon axis.
        inputs: By name, `[rows, step_shape...]`: what the steps were fed with, predicted or given. Empty for
            a model that looks ahead by itself.
    """

    next_step: int
    horizon_steps: IntArray
    outputs: Mapping[str, Array]
    inputs: Mapping[str, Array]

    @property
    def steps(self) -> IntArray:
        """The step that each row speaks of, int64 [rows]."""
        return self.next_step - 1 + self.horizon_steps


def write_future(
    specs: Sequence[TensorSpec], future: ArrayLike | Mapping[str, ArrayLike]
) -> list[session_pb2.Tensor]:
    """The tensors of what is known ahead; inputs may be left out.

    Raises:
        InvalidRequest: An input is unknown, or has a wrong type or shape.
    """
    if not isinstance(future, Mapping):
        [array] = encode_inputs(specs, future, {"T": None})
        return [write_tensor(specs[0], array)]
    names = [spec.name for spec in specs]
    unknown = sorted(set(future) - set(names))
    if unknown:
        raise InvalidRequest(f"future: expected some of {names}, got {unknown[0]!r}")
    known = [spec for spec in specs if spec.name in future]
    arrays = [encode_inputs([spec], future[spec.name], {"T": None})[0] for spec in known]
    return [write_tensor(spec, array) for spec, array in zip(known, arrays, strict=True)]


def read_forecast(response: session_pb2.ForecastSessionResponse) -> Forecast:
    """What an answer of `ForecastSession` says.

    Raises:
        InternalError: A tensor's shape and elements do not agree.
    """
    return Forecast(
        response.next_step,
        np.array(response.horizon_steps, np.int64),
        {tensor.name: read_tensor(tensor) for tensor in response.outputs},
        {tensor.name: read_tensor(tensor) for tensor in response.inputs},
    )
