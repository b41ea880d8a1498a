"""Graphs that other people exported give through the runner what ONNX Runtime gives on its own, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from support.foreign_model import FLOAT, ForeignModel, node, onnx_bytes
from support.foreign_models import FOREIGN_MODELS
from support.foreign_tensors import answer_is_state
from support.plain_runs import draw_rows, plain_run
from tidegate.model.package import read_package
from tidegate.runner.graph import Graph
from tidegate.runner.runner import Runner, RunnerOptions

NUM_ROWS, NUM_STEPS, SEED = 7, 9, 11
OPTIONS = RunnerOptions(max_batch_size=16, max_sessions=40)


@pytest.mark.parametrize("make", FOREIGN_MODELS.values(), ids=FOREIGN_MODELS)
def test_a_foreign_model_gives_every_session_what_it_gives_alone(
    tmp_path: Path, make: Callable[[], ForeignModel]
) -> None:
    model = make()
    package = read_package(model.package(tmp_path))
    runner = Runner(package, OPTIONS)
    inputs = draw_rows(package.manifest, NUM_ROWS, NUM_STEPS, SEED)
    expected = plain_run(package, inputs)
    slots = np.random.default_rng(SEED).permutation(np.arange(1, NUM_ROWS + 1, dtype=np.int32))
    runner.arena.reset(slots)

    first = runner.step(slots, [x[:, :4] for x in inputs])
    one = [runner.step(slots[i : i + 1], [x[i : i + 1, 4:5] for x in inputs]) for i in range(NUM_ROWS)]
    rest = runner.step(slots[::-1], [np.ascontiguousarray(x[::-1, 5:]) for x in inputs])

    for k, want in enumerate(expected.outputs):
        middle = np.concatenate([outputs[k] for outputs in one])
        got = np.concatenate([first[k], middle, rest[k][::-1]], axis=1)
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        assert got.tobytes() == want.tobytes()
    for got, want in zip(runner.arena.read(slots), expected.states, strict=True):
        assert got.tobytes() == want.tobytes()
    assert runner.exactness.exact == model.is_exact
    runner.check_integrity()


def test_states_whose_names_sort_differently_go_where_the_manifest_says(tmp_path: Path) -> None:
    # By name, `a` would get `last` and `b` would get `sum`.
    nodes = [
        node("Add", ["a", "x"], ["sum"]),
        node("Identity", ["x"], ["last"]),
        node("Sub", ["sum", "b"], ["y"]),
    ]
    row = (FLOAT, ["N", 1])
    onnx = onnx_bytes(nodes, dict.fromkeys("xab", row), dict.fromkeys(("last", "sum", "y"), row))
    package = read_package(
        ForeignModel(onnx=onnx, states={"b": "last", "a": "sum"}, outputs=("y",)).package(tmp_path)
    )
    runner = Runner(package, OPTIONS)
    slots = np.array([1], np.int32)
    runner.arena.reset(slots)

    [y] = runner.step(slots, [np.array([[[1], [2], [4]]], np.float32)])

    assert y.ravel().tolist() == [1, 3 - 1, 7 - 2]


def test_a_state_that_stays_on_the_device_may_be_the_answer_too(tmp_path: Path) -> None:
    package = read_package(answer_is_state().package(tmp_path))
    graph = Graph(package, device="cpu", threads=1)
    inputs = draw_rows(package.manifest, NUM_ROWS, 1, SEED)
    state = np.random.default_rng(SEED).normal(0, 1, (NUM_ROWS, 5)).astype(np.float32)
    [expected], [expected_state] = graph.run(inputs, [state])

    [got], [kept] = graph.run_on_device(inputs, [ort.OrtValue.ortvalue_from_numpy(state)])

    assert got.tobytes() == expected.tobytes()
    assert kept.numpy().tobytes() == expected_state.tobytes()
