"""Modules that somebody exported with PyTorch on their own, without our exporter."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from support.foreign_model import ForeignModel
from support.plain_runs import draw_rows, plain_run
from tidegate.model.package import read_package
from tidegate.runner.runner import Runner, RunnerOptions

FEATURES, HIDDEN, NUM_ROWS, NUM_STEPS, SEED = 3, 6, 5, 7, 3
OPTIONS = RunnerOptions(max_batch_size=16, max_sessions=20)


class BatchFirst(nn.Module):
    """An LSTM of two layers with a head: x [N, T, 3], h and c [2, N, 6]; c comes out before h."""

    axes = ("N", "T")
    states: Mapping[str, str] = {"h": "h_out", "c": "c_out"}
    layers = 2

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, num_layers=2, batch_first=True)
        self.head = nn.Linear(HIDDEN, 2)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, (h, c) = self.lstm(x, (h, c))
        return self.head(y), c, h


class TimeFirst(nn.Module):
    """A GRU: x [T, N, 3], h [1, N, 6]."""

    axes = ("T", "N")
    states: Mapping[str, str] = {"h": "h_out"}
    layers = 1

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, h = self.gru(x, h)
        return y, h


Module = BatchFirst | TimeFirst


def zeros(module: Module, num_rows: int) -> list[torch.Tensor]:
    return [torch.zeros(module.layers, num_rows, HIDDEN) for _ in module.states]


def exported(module: Module) -> bytes:
    """What most files in the world come from: the TorchScript exporter, with N and T free."""
    names = [*module.states, *module.states.values()]
    axes = dict(enumerate(module.axes))
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls itself legacy
        torch.onnx.export(
            module.eval(),
            (torch.zeros(2, 2, FEATURES), *zeros(module, 2)),
            file,
            input_names=["x", *module.states],
            output_names=["y", *reversed(module.states.values())],
            dynamic_axes={"x": axes, "y": axes} | {name: {1: "N"} for name in names},
            opset_version=17,
            dynamo=False,
        )
    return file.getvalue()


@pytest.mark.parametrize("make", [BatchFirst, TimeFirst])
def test_an_exported_module_gives_what_pytorch_gives(tmp_path: Path, make: type[Module]) -> None:
    torch.manual_seed(SEED)
    module = make()
    model = ForeignModel(onnx=exported(module), states=module.states)
    package = read_package(model.package(tmp_path))
    runner = Runner(package, OPTIONS)
    [x] = draw_rows(package.manifest, NUM_ROWS, NUM_STEPS, SEED)
    slots = np.arange(1, NUM_ROWS + 1, dtype=np.int32)
    runner.arena.reset(slots)

    got = np.concatenate([runner.step(slots, [x[:, :3]])[0], runner.step(slots, [x[:, 3:]])[0]], axis=1)

    swap = (0, 1, 2) if module.axes == ("N", "T") else (1, 0, 2)
    with torch.no_grad():
        expected = module(torch.from_numpy(x.transpose(swap).copy()), *zeros(module, NUM_ROWS))[0].numpy()
    np.testing.assert_allclose(got, expected.transpose(swap), atol=1e-6)
    assert got.tobytes() == plain_run(package, [x]).outputs[0].tobytes()
    assert runner.exactness.exact


def test_h_and_c_swapped_show_even_where_answers_hardly_change(tmp_path: Path) -> None:
    torch.manual_seed(SEED)
    swapped = {"h": "c_out", "c": "h_out"}

    package = ForeignModel(onnx=exported(BatchFirst()), states=swapped).package(tmp_path)

    assert Runner(read_package(package), OPTIONS).exactness.looks_ahead
