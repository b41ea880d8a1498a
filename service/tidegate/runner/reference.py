"""What the recurrent cells compute, in float64 numpy, gate by gate and by the gates' names.

Nobody serves from here: it is what exports are checked against and what explains a layer to a person.
It favours the formula over speed, and it holds weights by gate, so that the order in which PyTorch or
ONNX packs them (i f g o, or i o f c) is dealt with once, in `from_torch` and `from_onnx`.

Sources: the PyTorch documentation of `nn.LSTM`, `nn.GRU` and `nn.RNN`, and the ONNX operator
specifications of LSTM-14 and GRU-14.

Shapes, here and below: T steps, B rows, F inputs, H units. Sequences are [T, B, ...]; every trace is
[T, B, H]. Weights act from the left, so `w` is [H, F] and `u` is [H, H].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]
Trace = Mapping[str, Float]

_TORCH_LSTM = ("i", "f", "c_tilde", "o")
_ONNX_LSTM = ("i", "o", "f", "c_tilde")
_TORCH_GRU = ("r", "z", "h_tilde")
_ONNX_GRU = ("z", "r", "h_tilde")


@dataclass(frozen=True)
class Gate:
    """The weights of one gate: its value before the activation is `w x_t + b_w + u h_{t-1} + b_u`.

    Attributes:
        w: Weights of the input, [H, F].
        u: Weights of the state before, [H, H].
        b_w: Bias on the side of the input, [H].
        b_u: Bias on the side of the state, [H]; a GRU resets it or not, so the two stay apart.
    """

    w: Float
    u: Float
    b_w: Float
    b_u: Float

    def drive(self, x: Float) -> Float:
        """The input's side, [B, H], for x [B, F]."""
        return x @ self.w.T + self.b_w

    def feedback(self, h: Float) -> Float:
        """The state's side, [B, H], for h [B, H]."""
        return h @ self.u.T + self.b_u

    def __call__(self, x: Float, h: Float) -> Float:
        """Both sides together, [B, H]."""
        return self.drive(x) + self.feedback(h)


Gates = Mapping[str, Gate]


def lstm_from_torch(w_ih: ArrayLike, w_hh: ArrayLike, b_ih: ArrayLike, b_hh: ArrayLike) -> Gates:
    """Gates of an `nn.LSTM` layer: [4H, F], [4H, H], [4H], [4H], packed i f g o."""
    return _unpack(_TORCH_LSTM, w_ih, w_hh, b_ih, b_hh)


def lstm_from_onnx(w: ArrayLike, r: ArrayLike, b: ArrayLike | None = None) -> Gates:
    """Gates of an ONNX LSTM: W [1, 4H, F], R [1, 4H, H], B [1, 8H] or none, packed i o f c."""
    return _unpack_onnx(_ONNX_LSTM, w, r, b)


def gru_from_torch(w_ih: ArrayLike, w_hh: ArrayLike, b_ih: ArrayLike, b_hh: ArrayLike) -> Gates:
    """Gates of an `nn.GRU` layer: [3H, F], [3H, H], [3H], [3H], packed r z n."""
    return _unpack(_TORCH_GRU, w_ih, w_hh, b_ih, b_hh)


def gru_from_onnx(w: ArrayLike, r: ArrayLike, b: ArrayLike | None = None) -> Gates:
    """Gates of an ONNX GRU: W [1, 3H, F], R [1, 3H, H], B [1, 6H] or none, packed z r h."""
    return _unpack_onnx(_ONNX_GRU, w, r, b)


def rnn_from_torch(w_ih: ArrayLike, w_hh: ArrayLike, b_ih: ArrayLike, b_hh: ArrayLike) -> Gates:
    """The one gate of an `nn.RNN` layer: [H, F], [H, H], [H], [H]."""
    return _unpack(("h",), w_ih, w_hh, b_ih, b_hh)


def rnn_from_onnx(w: ArrayLike, r: ArrayLike, b: ArrayLike | None = None) -> Gates:
    """The one gate of an ONNX RNN: W [1, H, F], R [1, H, H], B [1, 2H] or none."""
    return _unpack_onnx(("h",), w, r, b)


def rnn_from_products(w: ArrayLike, u: ArrayLike, *biases: ArrayLike) -> Gates:
    """The one gate of `tanh(x w + h u + b + ...)`: [F, H], [H, H], and anything that broadcasts to [H]."""
    w, u = _float64(w).T, _float64(u).T
    nothing = np.zeros(len(w))
    return {"h": Gate(w, u, sum(map(_float64, biases), nothing), nothing)}


def lstm_layer(x: ArrayLike, h_0: ArrayLike, c_0: ArrayLike, gates: Gates) -> Trace:
    """One LSTM layer over a sequence.

        f_t = σ(W_f x_t + U_f h_{t-1} + b_f)        i_t, o_t likewise
        C̃_t = tanh(W_c x_t + U_c h_{t-1} + b_c)
        C_t = f_t ⊙ C_{t-1} + i_t ⊙ C̃_t
        h_t = o_t ⊙ tanh(C_t)

    Args:
        x: Inputs, [T, B, F].
        h_0: Output before the first step, [B, H].
        c_0: Memory before the first step, [B, H].
        gates: By name: f, i, c_tilde, o.

    Returns:
        f_t, i_t, c_tilde_t, o_t, c_t, h_t, each [T, B, H].
    """
    h, c = _float64(h_0), _float64(c_0)
    steps = []
    for x_t in _float64(x):
        f, i, o = (sigmoid(gates[name](x_t, h)) for name in ("f", "i", "o"))
        c_tilde = np.tanh(gates["c_tilde"](x_t, h))
        c = f * c + i * c_tilde
        h = o * np.tanh(c)
        steps.append({"f_t": f, "i_t": i, "c_tilde_t": c_tilde, "o_t": o, "c_t": c, "h_t": h})
    return _stack(steps)


def gru_layer(x: ArrayLike, h_0: ArrayLike, gates: Gates, *, linear_before_reset: bool) -> Trace:
    """One GRU layer over a sequence.

        r_t = σ(W_r x_t + U_r h_{t-1} + b_r)        z_t likewise
        h̃_t = tanh(W_h x_t + b_wh + r_t ⊙ (U_h h_{t-1} + b_uh))    linear_before_reset, as PyTorch
        h̃_t = tanh(W_h x_t + b_wh + U_h (r_t ⊙ h_{t-1}) + b_uh)    otherwise, ONNX's default
        h_t = (1 - z_t) ⊙ h̃_t + z_t ⊙ h_{t-1}

    Args:
        x: Inputs, [T, B, F].
        h_0: Output before the first step, [B, H].
        gates: By name: r, z, h_tilde.
        linear_before_reset: Which of the two forms; the ONNX attribute of that name.

    Returns:
        r_t, z_t, h_tilde_t, h_t, each [T, B, H].
    """
    h, candidate = _float64(h_0), gates["h_tilde"]
    steps = []
    for x_t in _float64(x):
        r, z = sigmoid(gates["r"](x_t, h)), sigmoid(gates["z"](x_t, h))
        feedback = r * candidate.feedback(h) if linear_before_reset else candidate.feedback(r * h)
        h_tilde = np.tanh(candidate.drive(x_t) + feedback)
        h = (1 - z) * h_tilde + z * h
        steps.append({"r_t": r, "z_t": z, "h_tilde_t": h_tilde, "h_t": h})
    return _stack(steps)


def rnn_layer(x: ArrayLike, h_0: ArrayLike, gates: Gates) -> Trace:
    """One plain RNN layer over a sequence: h_t = tanh(W_h h_{t-1} + W_x x_t + b).

    Args:
        x: Inputs, [T, B, F].
        h_0: Output before the first step, [B, H].
        gates: The one gate, named h.

    Returns:
        h_t, [T, B, H].
    """
    h = _float64(h_0)
    steps = []
    for x_t in _float64(x):
        h = np.tanh(gates["h"](x_t, h))
        steps.append({"h_t": h})
    return _stack(steps)


def readout(h: ArrayLike, w_y: ArrayLike, b_y: ArrayLike) -> Float:
    """y_t = W_y h_t + b_y: [..., N] from h [..., H], w_y [N, H], b_y [N]."""
    return _float64(h) @ _float64(w_y).T + _float64(b_y)


def stack_layers(x: ArrayLike, layers: Sequence[Callable[[Float], Trace]]) -> list[Trace]:
    """Run layers on top of each other: each takes the h_t of the one below.

    Args:
        x: Inputs of the lowest layer, [T, B, F].
        layers: From the lowest up, each a function of its inputs.

    Returns:
        The trace of every layer, from the lowest up.
    """
    traces: list[Trace] = []
    for layer in layers:
        traces.append(layer(traces[-1]["h_t"] if traces else _float64(x)))
    return traces


def sigmoid(x: Float) -> Float:
    """σ(x) = 1 / (1 + e^-x), written with tanh so that no x overflows."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def _float64(value: ArrayLike) -> Float:
    return np.asarray(value, np.float64)


def _unpack(
    names: Sequence[str], w: ArrayLike, u: ArrayLike, b_w: ArrayLike, b_u: ArrayLike
) -> dict[str, Gate]:
    parts = [np.split(_float64(packed), len(names)) for packed in (w, u, b_w, b_u)]
    return {name: Gate(*(part[k] for part in parts)) for k, name in enumerate(names)}


def _unpack_onnx(names: Sequence[str], w: ArrayLike, r: ArrayLike, b: ArrayLike | None) -> dict[str, Gate]:
    packed = _float64(w)[0]
    b_w, b_u = np.split(np.zeros(2 * len(packed)) if b is None else _float64(b)[0], 2)
    return _unpack(names, packed, _float64(r)[0], b_w, b_u)


def _stack(steps: Sequence[Mapping[str, Float]]) -> dict[str, Float]:
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]}
