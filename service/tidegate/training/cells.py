"""The recurrent cells that tidegate trains, with their state going in and coming out explicitly.

A stack takes `z [B, T, F]` and its states, each `[layers, B, H]`, and returns the top layer's output
`[B, T, H]` and the states after the last step. Every stack can also say what it should have computed:
`reference` runs the float64 formulas of `runner/reference.py` on the same weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from tidegate.model.manifest import BATCH
from tidegate.runner import reference
from tidegate.runner.reference import Float, Gates, Trace
from tidegate.tensor import Array
from tidegate.training.states import Carried

CellName = Literal["lstm", "gru", "rnn"]


class RecurrentStack(nn.Module, ABC):
    """Layers of one kind of cell on top of each other.

    Attributes:
        state_names: What the stack carries, in the order of its arguments.
        state_shape: Shape of each state for one row: (layers, H).
        has_time_loop: The exported graph can run many steps at once.
    """

    state_names: tuple[str, ...] = ("h",)
    has_time_loop = True
    rnn: nn.RNNBase

    def __init__(self, num_inputs: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.num_inputs = num_inputs
        self.state_shape = (num_layers, hidden_size)

    @property
    def carried(self) -> tuple[Carried, ...]:
        """The states, in the order of the arguments."""
        layers, hidden_size = self.state_shape
        return tuple(Carried(name, (layers, BATCH, hidden_size)) for name in self.state_names)

    @abstractmethod
    def forward(self, z: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Outputs [B, T, H] and the states after the last step, for z [B, T, F]."""

    @abstractmethod
    def layer_functions(self, *state: Array) -> list[Callable[[Float], Trace]]:
        """The reference of every layer, from the lowest up, as a function of its inputs [T, B, ...]."""

    def reference(self, z: Array, *state: Array) -> tuple[Float, ...]:
        """What `forward` should return, in float64; same shapes."""
        traces = reference.stack_layers(z.swapaxes(0, 1), self.layer_functions(*state))
        finals = [np.stack([t[f"{name}_t"][-1] for t in traces]) for name in self.state_names]
        return (traces[-1]["h_t"].swapaxes(0, 1), *finals)

    def _gates(self, unpack: Callable[..., Gates]) -> list[Gates]:
        names = ("weight_ih_l{}", "weight_hh_l{}", "bias_ih_l{}", "bias_hh_l{}")
        return [
            unpack(*(getattr(self.rnn, name.format(layer)).detach().numpy() for name in names))
            for layer in range(self.state_shape[0])
        ]


class LstmStack(RecurrentStack):
    """LSTM layers; exported as the ONNX LSTM operator, which is bit-exact with constant weights."""

    state_names = ("h", "c")

    def __init__(self, num_inputs: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(num_inputs, hidden_size, num_layers)
        self.rnn = nn.LSTM(num_inputs, hidden_size, num_layers, batch_first=True)

    def forward(self, z: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """See `RecurrentStack`; the states are h and c."""
        h, c = state
        y, (h, c) = self.rnn(z, (h, c))
        return y, h, c

    def layer_functions(self, *state: Array) -> list[Callable[[Float], Trace]]:
        """See `RecurrentStack`."""
        return [
            partial(reference.lstm_layer, h_0=h, c_0=c, gates=gates)
            for h, c, gates in zip(*state, self._gates(reference.lstm_from_torch), strict=True)
        ]


class GruStack(RecurrentStack):
    """GRU layers; exported as the ONNX GRU operator with linear_before_reset, as PyTorch computes it."""

    def __init__(self, num_inputs: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(num_inputs, hidden_size, num_layers)
        self.rnn = nn.GRU(num_inputs, hidden_size, num_layers, batch_first=True)

    def forward(self, z: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """See `RecurrentStack`; the state is h."""
        y, h = self.rnn(z, *state)
        return y, h

    def layer_functions(self, *state: Array) -> list[Callable[[Float], Trace]]:
        """See `RecurrentStack`."""
        return [
            partial(reference.gru_layer, h_0=h, gates=gates, linear_before_reset=True)
            for h, gates in zip(*state, self._gates(reference.gru_from_torch), strict=True)
        ]


class RnnStack(RecurrentStack):
    """Plain RNN layers, h_t = tanh(W_h h_{t-1} + W_x x_t + b), spelled out as MatMul, Add and Tanh.

    ONNX Runtime's RNN operator is not bit-exact, so it must not appear in the graph. A loop over time in
    the graph (Loop or Scan) would be exact but runs a subgraph per step and bars CUDA graphs, so these
    networks are exported without a time axis and the server runs them one step at a time.
    """

    has_time_loop = False

    def __init__(self, num_inputs: int, hidden_size: int, num_layers: int) -> None:
        super().__init__(num_inputs, hidden_size, num_layers)
        self.rnn = nn.RNN(num_inputs, hidden_size, num_layers, batch_first=True)

    def forward(self, z: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """See `RecurrentStack`; the state is h."""
        (h_0,) = state
        finals = []
        for layer in range(self.state_shape[0]):
            w_x, w_h, b_x, b_h = self.rnn.all_weights[layer]
            h = h_0[layer]
            outputs = []
            for step in range(z.shape[1]):
                h = torch.tanh(z[:, step] @ w_x.t() + h @ w_h.t() + (b_x + b_h))
                outputs.append(h)
            z = torch.stack(outputs, 1)
            finals.append(h)
        return z, torch.stack(finals)

    def layer_functions(self, *state: Array) -> list[Callable[[Float], Trace]]:
        """See `RecurrentStack`."""
        return [
            partial(reference.rnn_layer, h_0=h, gates=gates)
            for h, gates in zip(*state, self._gates(reference.rnn_from_torch), strict=True)
        ]


CELLS: dict[CellName, type[RecurrentStack]] = {"lstm": LstmStack, "gru": GruStack, "rnn": RnnStack}
