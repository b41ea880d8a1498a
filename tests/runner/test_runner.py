"""A runner gives each session what it would get alone, whatever the probe allows to share a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from support.odd_models import F32, counter_package, custom_package, double_package
from support.onnx_models import lstm_package, rnn_package, table_package
from tidegate.errors import InvalidRequest
from tidegate.model.manifest import InputSpec, OutputSpec, StatePair
from tidegate.model.package import read_package
from tidegate.runner.runner import BatchExactness, Runner, RunnerOptions
from tidegate.tensor import Array, DType

OPTIONS = RunnerOptions(max_batch_size=16, max_sessions=40)
MAKERS = {
    "exact": lstm_package,
    "serial": rnn_package,
    "softplus": lambda repository: lstm_package(repository, hidden=7, tail="Softplus"),
    "step by step": counter_package,
    "one row": lambda repository: counter_package(repository, batch=False),
}


def runner_of(path: Path) -> Runner:
    return Runner(read_package(path), OPTIONS)


def opened(runner: Runner, count: int) -> np.ndarray:
    slots = np.arange(1, count + 1, dtype=np.int32)
    runner.arena.reset(slots)
    return slots


def series(runner: Runner, num_rows: int, num_steps: int) -> Array:
    spec = runner.manifest.inputs[0]
    shape = (num_rows, num_steps, *spec.step_shape)
    return np.random.default_rng(5).normal(0, 1, shape).astype(spec.dtype.numpy)


def alone(runner: Runner, slots: np.ndarray, x: Array) -> Array:
    """Every row by itself, one step at a time."""
    rows = [
        np.concatenate([runner.step(slots[i : i + 1], [x[i : i + 1, t : t + 1]])[0] for t in range(x.shape[1])], 1)
        for i in range(len(slots))
    ]  # fmt: skip
    return np.concatenate(rows)


@pytest.mark.parametrize("kind", MAKERS)
def test_rows_and_steps_together_equal_single_runs_bit_for_bit(tmp_path: Path, kind: str) -> None:
    runner = runner_of(MAKERS[kind](tmp_path))
    slots = opened(runner, 5)
    x = series(runner, 5, 9)
    expected, states = alone(runner, slots, x), runner.arena.read(slots)
    runner.arena.reset(slots)

    got = runner.step(slots, [x])[0]

    assert got.shape == expected.shape
    assert got.tobytes() == expected.tobytes()
    assert [s.tobytes() for s in runner.arena.read(slots)] == [s.tobytes() for s in states]
    runner.check_integrity()


@pytest.mark.parametrize(
    ("kind", "exactness"),
    [
        ("exact", BatchExactness.EXACT),
        ("serial", BatchExactness.SERIAL),
        ("softplus", BatchExactness.SERIAL),
        ("one row", BatchExactness.EXACT),
    ],
)
def test_what_the_probe_finds_decides_how_promise_p1_stands(
    tmp_path: Path, kind: str, exactness: BatchExactness
) -> None:
    assert runner_of(MAKERS[kind](tmp_path)).batch_exactness is exactness


def test_a_manifest_that_asks_for_batches_gets_them_and_gives_up_p1(tmp_path: Path) -> None:
    runner = runner_of(rnn_package(tmp_path, batching="always"))
    slots = opened(runner, 5)
    x = series(runner, 5, 9)
    expected = alone(runner, slots, x)
    runner.arena.reset(slots)

    got = runner.step(slots, [x])[0]

    assert runner.batch_exactness is BatchExactness.OFF
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert got.tobytes() != expected.tobytes(), "it was run row by row all the same"


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_that_fails_leaves_every_state_as_it_was(tmp_path: Path, count: int) -> None:
    runner = runner_of(table_package(tmp_path, size=4))
    slots = opened(runner, count)
    runner.step(slots, [np.full((count, 1, 1), 3)])
    before = [s.tobytes() for s in runner.arena.read(slots)]
    x = np.full((count, 1, 1), 1)
    x[-1] = 4

    with pytest.raises(InvalidRequest, match="cannot run these values"):
        runner.step(slots, [x])

    assert [s.tobytes() for s in runner.arena.read(slots)] == before


def test_a_row_that_fails_in_serial_leaves_the_rows_before_it_as_they_were(tmp_path: Path) -> None:
    path = custom_package(
        tmp_path,
        "table",
        [
            helper.make_node("Gather", ["table", "i"], ["looked_up"], axis=0),
            helper.make_node("Add", ["h", "looked_up"], ["h_out"]),
            helper.make_node("Identity", ["h_out"], ["y"]),
        ],
        inputs=[InputSpec(name="i", dtype=DType.INT64, shape=(1,))],
        outputs=[OutputSpec(name="y", dtype=F32, shape=(1, 3))],
        states=[StatePair(input_name="h", output_name="h_out", dtype=F32, shape=(1, 3))],
        weights={"table": np.ones((4, 3), np.float32)},
    )
    runner = runner_of(path)
    slots = opened(runner, 2)

    with pytest.raises(InvalidRequest, match="cannot run these values"):
        runner.step(slots, [np.array([1, 4]).reshape(2, 1, 1)])

    assert runner.arena.is_initial(1)
    assert runner.arena.is_initial(2)


def test_a_batch_that_holds_one_session_twice_is_our_mistake(tmp_path: Path) -> None:
    runner = runner_of(counter_package(tmp_path))
    opened(runner, 3)

    with pytest.raises(AssertionError, match="one session twice"):
        runner.step(np.array([2, 3, 2], np.int32), [np.ones((3, 1, 2), np.float32)])

    assert runner.arena.is_initial(2)


def test_a_written_padding_slot_is_noticed(tmp_path: Path) -> None:
    runner = runner_of(counter_package(tmp_path))
    runner.check_integrity()

    runner.step(np.array([0], np.int32), [np.ones((1, 1, 2), np.float32)])

    with pytest.raises(AssertionError, match="slot 0 was written"):
        runner.check_integrity()


def test_a_model_without_state_gives_answers_all_the_same(tmp_path: Path) -> None:
    path = double_package(tmp_path)
    runner = runner_of(path)
    slots = opened(runner, 2)

    outputs = runner.step(slots, [np.ones((2, 3, 2), np.float32)])

    np.testing.assert_array_equal(outputs[0], np.full((2, 3, 2), 2))
    assert runner.arena.slot_bytes == 0


def test_an_initial_state_from_a_file_is_where_sessions_begin(tmp_path: Path) -> None:
    runner = runner_of(counter_package(tmp_path, start=np.array([5, 7], np.float32)))
    slots = opened(runner, 2)

    outputs = runner.step(slots, [np.ones((2, 1, 2), np.float32)])

    np.testing.assert_array_equal(outputs[0], [[[6, 8]], [[6, 8]]])
