"""Packages that tidegate's own training exports, untrained, and what PyTorch says goes on inside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tidegate.model.manifest import InputSpec, Manifest, OutputSpec
from tidegate.model.package import content_hash, write_package
from tidegate.tensor import DType
from tidegate.training.cells import CELLS, CellName
from tidegate.training.export import export_graph
from tidegate.training.networks import Changes, Forecaster, Parts, QuantileHead, Scaling, SingleStep

FEATURES = 2
HIDDEN = 5


def forecaster(cell: CellName, num_layers: int) -> Forecaster:
    """A small network whose units all differ."""
    torch.manual_seed(num_layers)
    scaling = Scaling(np.zeros((2, FEATURES)), np.ones((2, FEATURES)), np.zeros(3), np.ones(3))
    changes = Changes([1, 3], scaling)
    cells = CELLS[cell](changes.num_outputs, HIDDEN, num_layers)
    head = QuantileHead(HIDDEN + changes.num_outputs, 3, scaling)
    return Forecaster([0], Parts(changes=changes, cells=cells, head=head)).eval()


def forecaster_package(repository: Path, network: Forecaster, name: str) -> Path:
    """Its package; the network takes x [batch, time, 2], or [batch, 2] where it has no loop over time."""
    axes = ("batch", "time") if network.cells.has_time_loop else ("batch",)
    manifest = Manifest(
        name=name,
        version="1",
        sha256="0" * 64,
        inputs=(InputSpec(name="x", dtype=DType.FLOAT32, shape=(*axes, FEATURES), features=("a", "b")),),
        outputs=(OutputSpec(name="y", dtype=DType.FLOAT32, shape=(*axes, 3, 3)),),
        states=network.state_pairs(),
    )
    module = network if network.cells.has_time_loop else SingleStep(network).eval()
    onnx = export_graph(module, manifest)
    return write_package(repository, manifest.model_copy(update={"sha256": content_hash(onnx, {})}), onnx)


def walk(num_steps: int, seed: int = 3) -> np.ndarray:
    """A series that moves the gates, float32 [num_steps, 2]."""
    steps = np.random.default_rng(seed).normal(0, 1, (num_steps, FEATURES))
    return steps.cumsum(0).astype(np.float32)


@torch.no_grad()
def traces_by_torch(network: Forecaster, x: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Gates and memories of every layer from the initial state on, in float64, each [num_steps, hidden].

    Written out from the weights, because PyTorch shows none of them.
    """
    recent, seen = network.initial_state(1)[:2]
    z, _, _ = network.changes(torch.from_numpy(x)[None], recent, seen)
    sequence = z[0].double()
    traces = []
    for weights in network.cells.rnn.all_weights:
        w, u, b_w, b_u = (parameter.double() for parameter in weights)
        step = _STEPS[type(network.cells.rnn)]
        h = c = torch.zeros(HIDDEN, dtype=torch.float64)
        rows = []
        for x_t in sequence:
            row = step(w @ x_t + b_w, u @ h + b_u, h, c)
            h, c = row["h_t"], row.get("c_t", c)
            rows.append(row)
        traces.append({name: torch.stack([row[name] for row in rows]).numpy() for name in rows[0]})
        sequence = torch.from_numpy(traces[-1]["h_t"])
    return traces


def _lstm(from_x: Tensor, from_h: Tensor, h: Tensor, c: Tensor) -> dict[str, Tensor]:
    i, f, g, o = (from_x + from_h).chunk(4)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = f * c + i * g
    return {"f_t": f, "i_t": i, "c_tilde_t": g, "o_t": o, "c_t": c, "h_t": o * c.tanh()}


def _gru(from_x: Tensor, from_h: Tensor, h: Tensor, c: Tensor) -> dict[str, Tensor]:
    (r_x, z_x, n_x), (r_h, z_h, n_h) = from_x.chunk(3), from_h.chunk(3)
    r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
    n = (n_x + r * n_h).tanh()
    return {"z_t": z, "r_t": r, "h_tilde_t": n, "h_t": (1 - z) * n + z * h}


def _rnn(from_x: Tensor, from_h: Tensor, h: Tensor, c: Tensor) -> dict[str, Tensor]:
    return {"h_t": (from_x + from_h).tanh()}


_STEPS = {torch.nn.LSTM: _lstm, torch.nn.GRU: _gru, torch.nn.RNN: _rnn}
