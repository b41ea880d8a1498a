"""Any module with carried state becomes a package that computes what the module does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from tidegate.errors import PackageError
from tidegate.model.manifest import BATCH, TIME, InitialFile, InputSpec, OutputSpec, StatePair
from tidegate.model.package import ModelPackage, read_package
from tidegate.runner.graph import Graph
from tidegate.runner.runner import Runner, RunnerOptions
from tidegate.tensor import DType
from tidegate.training.export import export_package

ROOT = Path(__file__).parents[2]


class Average(nn.Module):
    """The running mean of x [B, 1] (no time axis); counts in int64."""

    def forward(self, x: Tensor, mean: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = count + 1
        mean = mean + (x - mean) / count.float()
        return mean * 1.0, mean, count


AVERAGE = {
    "inputs": [InputSpec(name="x", dtype=DType.FLOAT32, shape=(BATCH, 1))],
    "outputs": [OutputSpec(name="average", dtype=DType.FLOAT32, shape=(BATCH, 1))],
    "states": [
        StatePair(input_name="mean", output_name="mean_next", dtype=DType.FLOAT32, shape=(BATCH, 1)),
        StatePair(input_name="count", output_name="count_next", dtype=DType.INT64, shape=(BATCH, 1)),
    ],
}


def load(path: Path) -> Graph:
    return Graph(read_package(path), device="cpu", threads=1)


def test_a_module_without_a_time_axis_and_with_whole_number_state_is_exported(tmp_path: Path) -> None:
    path = export_package(Average(), repository=tmp_path, name="average", version="1", **AVERAGE)

    graph, state = load(path), [np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int64)]
    averages = []
    for value in (3.0, 6.0, 12.0):
        (average,), state = graph.run([np.full((1, 1, 1), value, np.float32)], state)
        averages.append(average.item())
    assert averages == [3.0, 4.5, 7.0]
    assert graph.manifest.batch_exact is True


class SquareRoot(nn.Module):
    """The root of a running sum of squares: a negative sum makes no sense to it."""

    def forward(self, x: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        total = total + x * x
        return torch.sqrt(total), total


ROOT_SPECS = {
    "inputs": [InputSpec(name="x", dtype=DType.FLOAT32, shape=(BATCH, 2))],
    "outputs": [OutputSpec(name="root", dtype=DType.FLOAT32, shape=(BATCH, 2))],
    "states": [
        StatePair(input_name="total", output_name="total_next", dtype=DType.FLOAT32, shape=(BATCH, 2))
    ],
}


def test_examples_stand_in_where_random_states_make_no_sense(tmp_path: Path) -> None:
    where = {"repository": tmp_path, "name": "root", "version": "1"}

    with pytest.raises(PackageError, match="'root' differs from PyTorch by up to nan"):
        export_package(SquareRoot(), **where, **ROOT_SPECS)
    path = export_package(SquareRoot(), **where, **ROOT_SPECS, examples={"total": np.ones((3, 2))})

    assert read_package(path).manifest.name == "root"


def test_an_initial_state_travels_in_a_file(tmp_path: Path) -> None:
    start = np.array([4.0, 9.0], np.float32)
    pair = ROOT_SPECS["states"][0].model_copy(update={"initial": InitialFile(file="total.npy")})

    path = export_package(
        SquareRoot(),
        repository=tmp_path,
        name="root",
        version="1",
        **{**ROOT_SPECS, "states": [pair]},
        examples={"total": np.ones((3, 2))},
        initial_states={"total": start},
    )

    assert read_package(path).initial_states[0].tolist() == start.tolist()


def test_initial_states_must_be_those_that_name_a_file(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"initial_states: expected values for \[\].*got \['mean'\]"):
        export_package(
            Average(),
            repository=tmp_path,
            name="average",
            version="1",
            initial_states={"mean": np.zeros(1)},
            **AVERAGE,
        )


def test_parameters_are_constants_and_training_goes_on(tmp_path: Path) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(1, 4, batch_first=True)
            self.dropout = nn.Dropout(0.5)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            y, h = self.gru(x, h)
            return self.dropout(y), h

    module = Model().train()

    path = export_package(
        module,
        repository=tmp_path,
        name="gru",
        version="1",
        inputs=[InputSpec(name="x", dtype=DType.FLOAT32, shape=(BATCH, TIME, 1))],
        outputs=[OutputSpec(name="y", dtype=DType.FLOAT32, shape=(BATCH, TIME, 4))],
        states=[StatePair(input_name="h", output_name="h_next", dtype=DType.FLOAT32, shape=(1, BATCH, 4))],
    )

    graph = onnx.load_from_string(read_package(path).onnx).graph
    constants = {i.name for i in graph.initializer}
    (gru,) = (n for n in graph.node if n.op_type == "GRU")
    assert set(gru.input[1:4]) <= constants
    assert [i.name for i in graph.input] == ["x", "h"]
    assert module.training


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": "one"}, "average/one: version: String should match pattern"),
        ({"outputs": AVERAGE["outputs"] * 2}, "average/1: output 'average' is named twice"),
        ({"states": AVERAGE["states"][:1]}, "average/1: PyTorch cannot export the module: "),
        ({"inputs": [InputSpec(name="x", dtype=DType.FLOAT32, shape=(BATCH, 3))]}, "average/1: output 'average': the manifest says [batch, 1], the graph [batch, 3]"),
    ],
)  # fmt: skip
def test_specs_that_do_not_fit_the_module_are_refused_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, object], problem: str
) -> None:
    arguments = {"repository": tmp_path, "name": "average", "version": "1", **AVERAGE, **changes}

    with pytest.raises(PackageError) as caught:
        export_package(Average(), **arguments)

    assert str(caught.value).startswith(problem)
    assert list(tmp_path.iterdir()) == []


def test_a_version_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    class Other(Average):
        def forward(self, x: Tensor, mean: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            average, mean, count = super().forward(x, mean, count)
            return average + 1, mean, count

    arguments = {"repository": tmp_path, "name": "average", "version": "1", **AVERAGE}
    path = export_package(Average(), **arguments)
    before = read_package(path).onnx

    assert export_package(Average(), **arguments) == path
    with pytest.raises(
        PackageError, match=r"exists with another model\.onnx: choose the next version number"
    ):
        export_package(Other(), **arguments)
    assert read_package(path).onnx == before


@pytest.mark.slow
def test_the_example_program_exports_an_exact_package(tmp_path: Path) -> None:
    program = ROOT / "examples" / "export_your_own.py"

    done = subprocess.run(
        [sys.executable, program, tmp_path], check=True, capture_output=True, text=True, timeout=120
    )

    package = read_package(Path(done.stdout.strip()))
    assert package.manifest.label == "surprise/1"
    assert package.manifest.batch_exact is True
    assert len(program.read_text().splitlines()) <= 60


def test_a_package_is_measured_before_it_is_written(tmp_path: Path) -> None:
    target = tmp_path / "average" / "1"
    means: list[float] = []

    def measure(package: ModelPackage) -> dict[str, object]:
        assert not target.exists()
        runner = Runner(package, RunnerOptions(max_sessions=4))
        slot = np.array([1], np.int32)
        runner.arena.reset(slot)
        (answers,) = runner.step(slot, [np.array([[[3.0], [9.0]]], np.float32)])
        means.append(answers[0, -1, 0])
        return {"metrics": {"mean": 6.0}}

    arguments = {"repository": tmp_path, "name": "average", "version": "1", **AVERAGE}
    path = export_package(Average(), **arguments, provenance={"who": "me"}, measure=measure)

    assert path == target
    assert means == [6.0]
    assert read_package(path).manifest.provenance == {"who": "me", "metrics": {"mean": 6.0}}
