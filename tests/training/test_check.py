"""The check after export refuses graphs that run and are wrong.

Each wrong graph is made for real: by PyTorch's exporter without the axis, or by editing a right graph.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from tidegate.errors import PackageError
from tidegate.model.manifest import BATCH, TIME, InputSpec, Manifest, OutputSpec, StatePair
from tidegate.model.package import ModelPackage
from tidegate.runner.graph import Graph
from tidegate.tensor import DType
from tidegate.training.cells import CELLS
from tidegate.training.check import check_cells, check_export, run_shapes
from tidegate.training.export import export_graph

HIDDEN, LAYERS = 6, 2


class Lstm(nn.Module):
    """x [B, T, 2], h and c [2, B, 6] in; y [B, T, 1], h and c out."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, HIDDEN, LAYERS, batch_first=True)
        self.readout = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.lstm(x, (h, c))
        return self.readout(y), h, c


def make_manifest(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "name": "m",
        "version": "1",
        "sha256": "0" * 64,
        "inputs": (InputSpec(name="x", dtype=DType.FLOAT32, shape=(BATCH, TIME, 2)),),
        "outputs": (OutputSpec(name="y", dtype=DType.FLOAT32, shape=(BATCH, TIME, 1)),),
        "states": tuple(
            StatePair(
                input_name=s, output_name=f"{s}_next", dtype=DType.FLOAT32, shape=(LAYERS, BATCH, HIDDEN)
            )
            for s in ("h", "c")
        ),
    }
    return Manifest.model_validate(fields | changes)


MANIFEST = make_manifest()


@pytest.fixture
def module() -> Lstm:
    torch.manual_seed(0)
    return Lstm().eval()


def load(graph: bytes | onnx.ModelProto, manifest: Manifest = MANIFEST) -> Graph:
    data = graph if isinstance(graph, bytes) else graph.SerializeToString()
    return Graph(ModelPackage(Path("m"), manifest, data, ()), device="cpu", threads=1)


def export_with_free_axes(module: nn.Module, path: Path, axes: dict[str, dict[int, str]]) -> onnx.ModelProto:
    """As the exporter does it, but with the axes that the test says."""
    state = torch.ones(LAYERS, 2, HIDDEN)
    torch.onnx.export(
        module,
        (torch.ones(2, 3, 2), state, state),
        path,
        input_names=["x", "h", "c"],
        output_names=["y", "h_next", "c_next"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    return onnx.load(path)


def test_a_right_graph_passes(module: Lstm) -> None:
    check_export(load(export_graph(module, MANIFEST)), module)


def test_every_batch_and_length_is_tried_once() -> None:
    step = make_manifest(
        inputs=(InputSpec(name="x", dtype=DType.FLOAT32, shape=(BATCH, 2)),),
        outputs=(OutputSpec(name="y", dtype=DType.FLOAT32, shape=(BATCH, 1)),),
    )

    assert run_shapes(MANIFEST) == [(1, 1), (2, 3), (5, 7), (3, 1), (1, 16)]
    assert run_shapes(step) == [(1, 1), (2, 1), (5, 1), (3, 1)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    ("frozen", "axes"),
    [
        ("time", {"x": {0: "batch"}, "y": {0: "batch"}, "h": {1: "batch"}, "c": {1: "batch"}}),
        ("batch", {"x": {1: "time"}, "y": {1: "time"}}),
    ],
)
def test_a_frozen_axis_is_refused(
    module: Lstm, tmp_path: Path, frozen: str, axes: dict[str, dict[int, str]]
) -> None:
    graph = export_with_free_axes(module, tmp_path / "frozen.onnx", axes)

    with pytest.raises(PackageError, match=f"the manifest marks the {frozen} axis, the graph has it frozen"):
        check_export(load(graph), module)


def test_a_frozen_axis_that_is_declared_free_is_refused(tmp_path: Path) -> None:
    """The newer exporter's fault: the axis is named in the signature and a constant inside."""

    class Frozen(Lstm):
        def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            outputs = []
            for step in range(x.shape[1]):  # tracing makes a constant of it
                y, (h, c) = self.lstm(x[:, step : step + 1], (h, c))
                outputs.append(y)
            return self.readout(torch.cat(outputs, 1)), h, c

    torch.manual_seed(0)
    module = Frozen().eval()

    with pytest.raises(PackageError, match=r"m/1: batch 1, 1 steps"):
        check_export(load(export_graph(module, MANIFEST)), module)


def rename(names: list[str]) -> Callable[[onnx.ModelProto], None]:
    """Let the outputs h_next and c_next come out of each other's nodes."""

    def edit(model: onnx.ModelProto) -> None:
        other = dict(zip(names, reversed(names), strict=True))
        for node in model.graph.node:
            for fields in (node.input, node.output):
                for k, name in enumerate(fields):
                    fields[k] = other.get(name, name)

    return edit


def swap_layers(model: onnx.ModelProto) -> None:
    """Give both layers the recurrent weights of the other."""
    first, second = (n for n in model.graph.node if n.op_type == "LSTM")
    first.input[2], second.input[2] = second.input[2], first.input[2]


def shift_a_weight(model: onnx.ModelProto) -> None:
    weights = max(model.graph.initializer, key=lambda w: np.prod(w.dims))
    values = numpy_helper.to_array(weights) + 1e-3
    weights.CopyFrom(numpy_helper.from_array(values.astype(np.float32), weights.name))


@pytest.mark.parametrize(
    ("edit", "tensor"),
    [
        (rename(["h_next", "c_next"]), "'h_next'"),
        (rename(["h", "c"]), "'y'"),
        (swap_layers, "'y'"),
        (shift_a_weight, "'y'"),
    ],
    ids=["new h and c swapped", "old h and c swapped", "layers swapped", "a weight off by a thousandth"],
)
def test_a_wrong_graph_is_refused_with_shape_tensor_and_difference(
    module: Lstm, edit: Callable[[onnx.ModelProto], None], tensor: str
) -> None:
    model = onnx.load_from_string(export_graph(module, MANIFEST))
    edit(model)
    onnx.checker.check_model(model)

    with pytest.raises(PackageError) as caught:
        check_export(load(model), module)

    pattern = rf"m/1: batch 1, 1 steps: ONNX Runtime: {tensor} differs from PyTorch by up to [\d.e+-]+, allowed 2e-05"
    assert re.fullmatch(pattern, str(caught.value))


@pytest.mark.parametrize("masks", [True, False])
def test_missing_values_are_tried_where_they_are_accepted(masks: bool) -> None:
    class Masked(Lstm):
        def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return super().forward(torch.where(torch.isnan(x), 0.0, x) if masks else x, h, c)

    torch.manual_seed(0)
    module = Masked().eval()
    x = MANIFEST.inputs[0].model_copy(update={"accepts_missing": True})
    manifest = make_manifest(inputs=(x,))
    graph = load(export_graph(module, manifest), manifest)

    if masks:
        check_export(graph, module)
    else:
        with pytest.raises(PackageError, match="'y' differs from PyTorch by up to nan"):
            check_export(graph, module)


def test_a_module_that_looks_ahead_is_refused() -> None:
    class Bidirectional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(2, HIDDEN, batch_first=True, bidirectional=True)
            self.readout = nn.Linear(2 * HIDDEN, 1)

        def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            y, (h, c) = self.lstm(x, (h, c))
            return self.readout(y), h, c

    torch.manual_seed(0)
    module = Bidirectional().eval()

    with pytest.raises(PackageError, match="m/1: batch 2, 3 steps: step by step: 'y' differs from the chunk"):
        check_export(load(export_graph(module, MANIFEST)), module)


def test_a_type_that_the_manifest_does_not_say_is_refused(module: Lstm) -> None:
    whole = make_manifest(outputs=(OutputSpec(name="y", dtype=DType.FLOAT64, shape=(BATCH, TIME, 1)),))

    with pytest.raises(PackageError, match="output 'y': the manifest says float64"):
        load(export_graph(module, whole), whole)


def test_a_cell_that_is_not_its_formula_is_refused() -> None:
    torch.manual_seed(0)
    cells = CELLS["lstm"](3, 5, 1)

    class Swapped(type(cells)):  # type: ignore[misc]
        def forward(self, z: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
            y, h, c = super().forward(z, *state)
            return y, c, h

    wrong = copy.deepcopy(cells)
    wrong.__class__ = Swapped

    with pytest.raises(
        PackageError, match="Swapped: batch 1, 1 steps: PyTorch: 'h' differs from the float64"
    ):
        check_cells(wrong)
