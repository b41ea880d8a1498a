"""The ONNX standard's tests of LSTM, GRU and RNN, run by the runner at once and step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.onnx_standard import STATES, StandardTest, standard_tests
from tidegate.errors import PackageError
from tidegate.model.package import ModelPackage, read_package
from tidegate.runner.runner import BatchExactness, Runner, RunnerOptions
from tidegate.tensor import Array

TESTS = standard_tests()
TIME_FIRST = [t for t in TESTS if not t.is_batch_first]
OPTIONS = RunnerOptions(max_batch_size=8, max_sessions=8)


def named(tests: list[StandardTest]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("test", tests, ids=[t.name for t in tests])


def run_in_pieces(package: ModelPackage, test: StandardTest, steps: int) -> dict[str, Array]:
    """Y [T, ways, N, hidden] and the states [ways, N, hidden], as the standard has them."""
    runner = Runner(package, OPTIONS)
    num_rows, num_steps, _ = test.rows.shape
    slots = np.arange(1, num_rows + 1, dtype=np.int32)
    runner.arena.reset(slots)
    pieces = [
        runner.step(slots, [np.ascontiguousarray(test.rows[:, t : t + steps])])[0]
        for t in range(0, num_steps, steps)
    ]
    states = [np.moveaxis(s, 0, 1) for s in runner.arena.read(slots)]
    names = STATES[test.node.op_type].values()
    return {"Y": np.moveaxis(np.concatenate(pieces, axis=1), 0, 2)} | dict(zip(names, states, strict=True))


def assert_as_expected(found: dict[str, Array], test: StandardTest) -> None:
    assert test.gives
    for name, expected in test.gives.items():
        np.testing.assert_allclose(found[name], expected, test.rtol, test.atol, err_msg=name)


def test_the_standard_has_tests_of_every_operator_and_direction() -> None:
    assert {t.node.op_type for t in TESTS} == {"LSTM", "GRU", "RNN"}
    assert sum(t.is_forward for t in TIME_FIRST) >= 9
    assert sum(not t.is_forward for t in TIME_FIRST) >= 6


@named([t for t in TIME_FIRST if t.is_forward])
def test_a_forward_test_passes_at_once_and_step_by_step(tmp_path: Path, test: StandardTest) -> None:
    package = read_package(test.package(tmp_path))

    at_once = run_in_pieces(package, test, steps=len(test.takes["X"]))
    one_by_one = run_in_pieces(package, test, steps=1)

    assert_as_expected(at_once, test)
    assert_as_expected(one_by_one, test)
    assert {k: v.tobytes() for k, v in at_once.items()} == {k: v.tobytes() for k, v in one_by_one.items()}


@named([t for t in TIME_FIRST if not t.is_forward])
def test_a_test_that_reads_backwards_passes_on_a_whole_window(tmp_path: Path, test: StandardTest) -> None:
    package = read_package(test.package(tmp_path))
    windows = package.manifest.model_copy(update={"batching": "always"})

    found = run_in_pieces(
        ModelPackage(package.path, windows, package.onnx, package.initial_states), test, steps=3
    )

    assert len(test.takes["X"]) == 3
    assert_as_expected(found, test)


@named([t for t in TIME_FIRST if not t.is_forward])
def test_what_reads_backwards_is_found_and_run_step_by_step(tmp_path: Path, test: StandardTest) -> None:
    package = read_package(test.package(tmp_path))
    runner = Runner(package, OPTIONS)

    at_once, one_by_one = (run_in_pieces(package, test, steps=n) for n in (3, 1))

    assert runner.exactness.looks_ahead
    assert runner.batch_exactness is BatchExactness.SERIAL
    assert {k: v.tobytes() for k, v in at_once.items()} == {k: v.tobytes() for k, v in one_by_one.items()}


@named([t for t in TESTS if t.is_batch_first])
def test_a_batch_first_test_is_refused_by_the_runtime_in_one_line(tmp_path: Path, test: StandardTest) -> None:
    with pytest.raises(PackageError, match="layout") as caught:
        test.package(tmp_path)

    assert "\n" not in str(caught.value)
