"""Graphs that are not what their manifest says are refused with one line that names what differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from support.odd_models import F32, Shape, custom_package
from support.onnx_models import lstm_package, widening_package
from tidegate.errors import PackageError
from tidegate.model.manifest import ConstantInput, InputSpec, OutputSpec, StatePair
from tidegate.model.package import ModelPackage, read_package
from tidegate.runner.graph import Graph
from tidegate.tensor import DType

NODES = [helper.make_node("Add", ["h", "x"], ["h_out"]), helper.make_node("Identity", ["h_out"], ["y"])]
ROW = ("batch", 2)
EVERYTHING = ("x", "h", "h_out", "y")


def load(package: ModelPackage) -> Graph:
    graph = Graph(package, device="cpu", threads=1)
    graph.dry_run(package.initial_states)
    return graph


def counter(repository: Path, **changes: object) -> ModelPackage:
    """`h' = h + x; y = h'`, with the manifest or the graph changed."""
    described: dict[str, object] = {
        "inputs": [InputSpec(name="x", dtype=F32, shape=ROW)],
        "outputs": [OutputSpec(name="y", dtype=F32, shape=ROW)],
        "states": [StatePair(input_name="h", output_name="h_out", dtype=F32, shape=ROW)],
    }
    return read_package(custom_package(repository, "counter", NODES, **(described | changes)))


def refusal(package: ModelPackage) -> str:
    with pytest.raises(PackageError) as caught:
        load(package)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_good_graph_loads(tmp_path: Path) -> None:
    graph = load(counter(tmp_path))

    outputs, states = graph.run([np.ones((3, 1, 2), np.float32)], [np.ones((3, 2), np.float32)])

    np.testing.assert_array_equal(outputs[0], np.full((3, 1, 2), 2))
    np.testing.assert_array_equal(states[0], np.full((3, 2), 2))


@pytest.mark.parametrize(
    ("graph", "text"),
    [
        (dict.fromkeys(EVERYTHING, (F32, ("batch", 3))), "input 'x': the manifest says [batch, 2], the graph [batch, 3]"),
        (dict.fromkeys(EVERYTHING, (F32, ("batch", 1, 2))), "input 'x': the manifest says [batch, 2], the graph [batch, 1, 2]"),
        (
            dict.fromkeys(EVERYTHING, (DType.FLOAT64, ROW)),
            "input 'x': the manifest says float32, the graph tensor(double)",
        ),
        (
            dict.fromkeys(EVERYTHING, (F32, (1, 2))),
            "input 'x': the manifest marks the batch axis, the graph has it frozen at 1",
        ),
    ],
)  # fmt: skip
def test_a_signature_that_differs_is_refused(
    tmp_path: Path, graph: dict[str, tuple[DType, Shape]], text: str
) -> None:
    assert refusal(counter(tmp_path, graph=graph)) == f"counter/1: {text}"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"inputs": [InputSpec(name="z", dtype=F32, shape=ROW)]},
            "the graph also takes 'x', which the manifest does not name",
        ),
        (
            {"constants": [ConstantInput(name="rate", dtype=F32, value=1.0)]},
            "the graph has no input 'rate'; it has h, x",
        ),
        (
            {"states": [StatePair(input_name="h", output_name="h_new", dtype=F32, shape=ROW)]},
            "the graph has no output 'h_new'; it has h_out, y",
        ),
    ],
)
def test_a_name_that_only_one_side_knows_is_refused(
    tmp_path: Path, changes: dict[str, object], text: str
) -> None:
    path = counter(tmp_path).path
    manifest = read_package(path).manifest.model_copy(update=changes)

    package = ModelPackage(path, manifest, (path / "model.onnx").read_bytes(), ())

    with pytest.raises(PackageError) as caught:
        Graph(package, device="cpu", threads=1)
    assert str(caught.value) == f"counter/1: {text}"


def test_a_frozen_time_axis_is_refused(tmp_path: Path) -> None:
    timed = ("batch", "time", 2)
    package = read_package(
        custom_package(
            tmp_path,
            "frozen",
            [helper.make_node("Identity", ["x"], ["y"])],
            inputs=[InputSpec(name="x", dtype=F32, shape=timed)],
            outputs=[OutputSpec(name="y", dtype=F32, shape=timed)],
            graph={"x": (F32, ("batch", 7, 2)), "y": (F32, ("batch", 7, 2))},
        )
    )

    assert "input 'x': the manifest marks the time axis, the graph has it frozen at 7" in refusal(package)


def test_a_time_axis_frozen_inside_the_graph_is_refused(tmp_path: Path) -> None:
    timed = ("batch", "time", 2)
    package = read_package(
        custom_package(
            tmp_path,
            "frozen",
            [helper.make_node("Slice", ["x", "start", "end", "axis"], ["y"])],
            inputs=[InputSpec(name="x", dtype=F32, shape=timed)],
            outputs=[OutputSpec(name="y", dtype=F32, shape=timed)],
            weights={"start": np.array([0]), "end": np.array([1]), "axis": np.array([1])},
        )
    )

    assert refusal(package) == "frozen/1: output 'y' expected float32 [1, 4, 2], got float32 [1, 1, 2]"


def test_a_state_pair_that_does_not_close_is_refused(tmp_path: Path) -> None:
    package = read_package(widening_package(tmp_path))

    text = refusal(package)

    assert "state 'h_out', which is carried to 'h', expected float32 [1, 4], got float32 [1, 8]" in text


def test_a_state_that_is_not_finite_after_zeros_is_refused(tmp_path: Path) -> None:
    package = read_package(
        custom_package(
            tmp_path,
            "log",
            [helper.make_node("Log", ["h"], ["h_out"]), helper.make_node("Add", ["h", "x"], ["y"])],
            inputs=[InputSpec(name="x", dtype=F32, shape=ROW)],
            outputs=[OutputSpec(name="y", dtype=F32, shape=ROW)],
            states=[StatePair(input_name="h", output_name="h_out", dtype=F32, shape=ROW)],
        )
    )

    assert refusal(package).endswith("which is carried to 'h', is not finite after 1 steps of zeros")


def test_a_layout_1_lstm_is_refused_in_one_line(tmp_path: Path) -> None:
    package = read_package(lstm_package(tmp_path, layout=1))

    text = refusal(package)

    assert text.startswith("lstm/1: ONNX Runtime refuses the graph: ")
    assert "layout" in text


def test_truncated_bytes_are_refused(tmp_path: Path) -> None:
    whole = read_package(lstm_package(tmp_path))

    cut = ModelPackage(whole.path, whole.manifest, whole.onnx[:-100], whole.initial_states)

    assert refusal(cut).startswith("lstm/1: ONNX Runtime refuses the graph: ")


AXES = [
    ("batch", "time", 2),
    ("time", "batch", 2),
    ("batch", 2, "time"),
    (2, "time", "batch"),
    ("batch", 2),
    (2, "batch"),
    ("time", 2),
    (2, "time"),
    (2,),
]


@pytest.mark.parametrize("shape", AXES, ids=str)
def test_axes_anywhere_are_brought_to_rows_and_steps(tmp_path: Path, shape: tuple[int | str, ...]) -> None:
    package = read_package(
        custom_package(
            tmp_path,
            "double",
            [helper.make_node("Add", ["x", "x"], ["y"])],
            inputs=[InputSpec(name="x", dtype=F32, shape=shape)],
            outputs=[OutputSpec(name="y", dtype=F32, shape=shape)],
        )
    )
    num_rows, num_steps = 3 if "batch" in shape else 1, 5 if "time" in shape else 1
    x = np.arange(num_rows * num_steps * 2, dtype=np.float32).reshape(num_rows, num_steps, 2)

    outputs, _ = load(package).run([x], [])

    np.testing.assert_array_equal(outputs[0], 2 * x)


def test_a_constant_input_is_fed_in_every_run(tmp_path: Path) -> None:
    package = read_package(
        custom_package(
            tmp_path,
            "scaled",
            [helper.make_node("Mul", ["x", "rate"], ["y"])],
            inputs=[InputSpec(name="x", dtype=F32, shape=ROW)],
            outputs=[OutputSpec(name="y", dtype=F32, shape=ROW)],
            constants=[ConstantInput(name="rate", dtype=F32, shape=(1,), value=16.0)],
        )
    )

    outputs, _ = load(package).run([np.ones((2, 1, 2), np.float32)], [])

    np.testing.assert_array_equal(outputs[0], np.full((2, 1, 2), 16))
