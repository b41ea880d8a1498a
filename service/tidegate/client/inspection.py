"""What the recurrent layers of a model do, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.client.tensors import read_tensor
from tidegate.tensor import Array
from tidegate.v1 import session_pb2


@dataclass(frozen=True)
class LayerTrace:
    """What one recurrent layer does in each step.

    Attributes:
        cell: "LSTM", "GRU" or "RNN".
        traces: Gates and memories by the field's names, each float32 [T, hidden]: of an LSTM f_t, i_t,
            c_tilde_t, o_t, c_t, h_t; of a GRU z_t, r_t, h_tilde_t, h_t; of a plain RNN h_t.
    """

    cell: str
    traces: Mapping[str, Array]


@dataclass(frozen=True)
class Inspection:
    """What the recurrent layers of a session would do in some steps.

    Attributes:
        first_step: Number that the first of the steps would have.
        layers: From the lowest up.
    """

    first_step: int
    layers: tuple[LayerTrace, ...]

    @property
    def num_steps(self) -> int:
        """How many steps were looked at."""
        return len(next(iter(self.layers[0].traces.values())))


def read_inspection(response: session_pb2.InspectSessionResponse) -> Inspection:
    """What an answer of `InspectSession` says.

    Raises:
        InternalError: A trace's shape and elements do not agree.
    """
    layers = sorted(response.layers, key=lambda layer: layer.layer)
    return Inspection(
        response.first_step,
        tuple(LayerTrace(lr.cell, {t.name: read_tensor(t) for t in lr.traces}) for lr in layers),
    )
