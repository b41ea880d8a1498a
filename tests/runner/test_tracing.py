"""Gates and memories against PyTorch's, and graphs that are not what they seem."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from onnx import NodeProto, helper

from support.odd_models import custom_package
from support.onnx_models import gru_package, lstm_package, rnn_package
from support.recurrent_models import forecaster, forecaster_package, traces_by_torch, walk
from tidegate.errors import Unsupported
from tidegate.model.manifest import InputSpec, OutputSpec, StatePair
from tidegate.model.package import ModelPackage, read_package
from tidegate.runner.graph import Graph
from tidegate.runner.tracing import BLOCK_STEPS, TOLERANCE, Tracer
from tidegate.tensor import DType
from tidegate.training.cells import CellName

F32 = DType.FLOAT32
WIDTH = 3


def initial(package: ModelPackage) -> list[np.ndarray]:
    return [state[None] for state in package.initial_states]


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_traces_of_an_exported_network_are_pytorchs(
    tmp_path: Path, cell: CellName, num_layers: int
) -> None:
    network, x = forecaster(cell, num_layers), walk(30)
    package = read_package(forecaster_package(tmp_path, network, cell))

    layers = Tracer(package).trace([x[None]], initial(package))

    expected = traces_by_torch(network, x)
    assert [layer.cell for layer in layers] == [cell.upper()] * num_layers
    for layer, by_torch in zip(layers, expected, strict=True):
        assert list(layer.traces) == list(by_torch)
        for name, values in layer.traces.items():
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, by_torch[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("make", [lstm_package, gru_package, rnn_package])
def test_the_traces_of_a_foreign_graph_end_in_its_own_state(tmp_path: Path, make: type) -> None:
    package = read_package(make(tmp_path))
    x = np.random.default_rng(1).normal(0, 2, (1, 12, 3)).astype(np.float32)
    states = [np.full_like(state, 0.5) for state in initial(package)]

    (layer,) = Tracer(package).trace([x], states)

    graph = Graph(package, device="cpu", threads=1)
    _, after = graph.run([x], [np.moveaxis(s, 0, 1) for s in states])
    for name, state in zip(("h_t", "c_t"), after, strict=False):
        np.testing.assert_allclose(layer.traces[name][-1], state.ravel(), rtol=0, atol=1e-5)


def test_the_size_of_a_step_is_that_of_all_its_traces(tmp_path: Path) -> None:
    package = read_package(forecaster_package(tmp_path, forecaster("gru", 2), "gru"))
    tracer = Tracer(package)

    layers = tracer.trace([walk(7)[None]], initial(package))

    assert 7 * tracer.step_bytes == sum(t.nbytes for layer in layers for t in layer.traces.values())


def test_a_long_trace_is_the_same_in_blocks(tmp_path: Path) -> None:
    network, x = forecaster("rnn", 2), walk(BLOCK_STEPS + 5)
    package = read_package(forecaster_package(tmp_path, network, "rnn"))

    layers = Tracer(package).trace([x[None]], initial(package))

    for layer, by_torch in zip(layers, traces_by_torch(network, x), strict=True):
        np.testing.assert_allclose(layer.traces["h_t"], by_torch["h_t"], rtol=0, atol=1e-5)


def test_a_trace_that_nobody_waits_for_ends(tmp_path: Path) -> None:
    package = read_package(lstm_package(tmp_path))
    stop = Event()
    stop.set()

    with pytest.raises(CancelledError):
        Tracer(package).trace([np.ones((1, 3, 3), np.float32)], initial(package), stop)


def test_inputs_and_states_are_left_as_they_were(tmp_path: Path) -> None:
    package = read_package(forecaster_package(tmp_path, forecaster("lstm", 1), "lstm"))
    x, states = walk(5)[None], initial(package)
    before = [a.copy() for a in (x, *states)]

    Tracer(package).trace([x], states)

    for now, then in zip((x, *states), before, strict=True):
        np.testing.assert_array_equal(now, then)


def cell_package(repository: Path, nodes: Sequence[NodeProto], *, factor: float = 0.5) -> ModelPackage:
    """A graph of `x` and `h` [batch, 3] with two square matrices, two scalars and a vector."""
    rng = np.random.default_rng(5)
    weights = {key: rng.normal(0, 0.5, (WIDTH, WIDTH)).astype(np.float32) for key in ("w", "u")}
    weights |= {"b": np.array([0.1, -0.2, 0.3], np.float32), "factor": np.array(factor, np.float32)}
    row = ("batch", WIDTH)
    return read_package(
        custom_package(
            repository,
            "cell",
            [*nodes, helper.make_node("Identity", ["h_out"], ["y"])],
            inputs=[InputSpec(name="x", dtype=F32, shape=row)],
            outputs=[OutputSpec(name="y", dtype=F32, shape=row)],
            states=[StatePair(input_name="h", output_name="h_out", dtype=F32, shape=row)],
            weights=weights,
        )
    )


PRODUCTS = [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("MatMul", ["h", "u"], ["hu"])]
SUM = [helper.make_node("Add", ["xw", "hu"], ["sum"])]


def test_a_cell_without_a_bias_is_read(tmp_path: Path) -> None:
    package = cell_package(tmp_path, [*PRODUCTS, *SUM, helper.make_node("Tanh", ["sum"], ["h_out"])])
    x = np.ones((1, 4, WIDTH), np.float32)

    (layer,) = Tracer(package).trace([x], initial(package))

    assert (layer.cell, list(layer.traces), layer.traces["h_t"].shape) == ("RNN", ["h_t"], (4, WIDTH))


def test_a_cell_that_changes_its_state_after_the_tanh_is_refused_and_never_shown(tmp_path: Path) -> None:
    leaky = [*PRODUCTS, *SUM, helper.make_node("Tanh", ["sum"], ["candidate"])]
    leaky += [helper.make_node("Mul", ["candidate", "factor"], ["h_out"])]
    package = cell_package(tmp_path, leaky)

    with pytest.raises(
        Unsupported, match=r"cell/1 cannot be inspected: .* is not what it takes at the next step"
    ):
        Tracer(package).trace([np.ones((1, 1, WIDTH), np.float32)], initial(package))


def test_weights_that_do_not_give_the_graphs_own_output_are_never_shown(tmp_path: Path) -> None:
    package = read_package(lstm_package(tmp_path))
    tracer = Tracer(package)
    # As a wrong order of the gates would have it.
    ((layer, gates),) = tracer._layers
    tracer._layers = [(layer, {**gates, "i": gates["o"], "o": gates["i"]})]

    with pytest.raises(Unsupported, match="its weights do not give the graph's own h_t"):
        tracer.trace([np.ones((1, 3, 3), np.float32)], initial(package))

    assert TOLERANCE <= 1e-4


def test_a_layer_that_runs_over_a_window_in_each_step_is_refused(tmp_path: Path) -> None:
    """Four lags of one number as four steps of an LSTM: its steps are not the session's."""
    hidden = 2
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(0, 1, (1, 4 * hidden, 1)).astype(np.float32),
        "r": rng.normal(0, 1, (1, 4 * hidden, hidden)).astype(np.float32),
        "axis": np.array([2], np.int64),
        "first": np.array([0], np.int64),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["columns"], perm=[1, 0]),
        helper.make_node("Unsqueeze", ["columns", "axis"], ["window"]),
        helper.make_node("LSTM", ["window", "w", "r"], ["", "last"], hidden_size=hidden),
        helper.make_node("Squeeze", ["last", "first"], ["y"]),
    ]
    folder = custom_package(
        tmp_path,
        "window",
        nodes,
        inputs=[InputSpec(name="x", dtype=F32, shape=("batch", 4))],
        outputs=[OutputSpec(name="y", dtype=F32, shape=("batch", hidden))],
        weights=weights,
    )

    with pytest.raises(
        Unsupported, match="does not run once in each step: 'window': expected 1 elements, got 4"
    ):
        Tracer(read_package(folder))
