"""States kept on the device against states kept in memory, bit for bit, on the CPU provider.

The same on CUDA, within tolerance, where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from onnx import helper

from support.engine_bench import EngineBench
from support.odd_models import F32, counter_package, custom_package, double_package
from support.onnx_models import decay_package, gru_package, lstm_package, rnn_package, table_package
from tidegate.errors import DeviceUnavailable
from tidegate.model.manifest import Dim, InputSpec, OutputSpec, StatePair
from tidegate.model.package import read_package
from tidegate.runner.arena import Arena
from tidegate.runner.device_arena import DeviceArena
from tidegate.runner.ort import Device, choose_device
from tidegate.runner.places import PLACES, on_device
from tidegate.runner.runner import Runner, RunnerOptions
from tidegate.tensor import Array, DType

CAPACITY = 20
EVERY_SLOT = np.arange(CAPACITY + 1, dtype=np.int32)


def has_cuda() -> bool:
    try:
        return choose_device("cuda") == "cuda"
    except DeviceUnavailable:
        return False


def packed_package(repository: Path) -> Path:
    """Two layers in one state with the batch axis in the middle, a whole number, and a state without axes."""
    row: tuple[Dim, ...] = ("batch", 3)
    layers: tuple[Dim, ...] = (2, "batch", 3)
    nodes = [
        helper.make_node("Add", ["layers", "x"], ["layers_out"]),
        helper.make_node("Add", ["count", "one"], ["count_out"]),
        helper.make_node("ReduceMax", ["x"], ["top"], axes=[1], keepdims=0),
        helper.make_node("Max", ["peak", "top"], ["peak_out"]),
        helper.make_node("ReduceMax", ["layers_out"], ["y"], axes=[0], keepdims=0),
    ]
    return custom_package(
        repository,
        "packed",
        nodes,
        inputs=[InputSpec(name="x", dtype=F32, shape=row)],
        outputs=[OutputSpec(name="y", dtype=F32, shape=row)],
        states=[
            StatePair(input_name="layers", output_name="layers_out", dtype=F32, shape=layers),
            StatePair(input_name="count", output_name="count_out", dtype=DType.INT64, shape=("batch", 1)),
            StatePair(input_name="peak", output_name="peak_out", dtype=F32, shape=("batch",)),
        ],
        weights={"one": np.array([1], np.int64)},
    )


MAKERS: dict[str, Callable[[Path], Path]] = {
    "lstm": lstm_package,
    "gru": gru_package,
    "plain, row by row": rnn_package,
    "softplus, step by step": lambda repository: lstm_package(repository, hidden=7, tail="Softplus"),
    "decay": decay_package,
    "counter": counter_package,
    "counter that starts at a file": lambda repository: counter_package(
        repository, start=np.array([5, 7], np.float32)
    ),
    "counter of one row": lambda repository: counter_package(repository, batch=False),
    "packed": packed_package,
}


@pytest.fixture
def keep_on_device(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, runners keep states where the graph runs, on the CPU provider too."""
    return lambda: monkeypatch.setitem(cast("dict[Device, object]", PLACES), "cpu", on_device)


def runner_of(path: Path, device: Device = "cpu") -> Runner:
    options = RunnerOptions(device=device, max_batch_size=8, max_slice_steps=8, max_sessions=CAPACITY)
    return Runner(read_package(path), options)


def runners_of(path: Path, keep_on_device: Callable[[], None]) -> tuple[Runner, Runner]:
    """One that keeps states in memory, one that keeps them on the device; all sessions are new."""
    in_memory = runner_of(path)
    keep_on_device()
    runners = in_memory, runner_of(path)
    assert [type(r.arena) for r in runners] == [Arena, DeviceArena]
    for runner in runners:
        runner.arena.reset(EVERY_SLOT[1:])
    return runners


def bits(states: list[Array]) -> list[tuple[str, tuple[int, ...], bytes]]:
    return [(s.dtype.name, s.shape, s.tobytes()) for s in states]


def draw_batch(rng: np.random.Generator, runner: Runner) -> tuple[np.ndarray, Array]:
    slots = rng.permutation(EVERY_SLOT[1:])[: rng.integers(1, 9)]
    shape = (len(slots), int(rng.integers(1, 6)), *runner.manifest.inputs[0].step_shape)
    return slots, rng.normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("kind", MAKERS)
def test_random_batches_give_the_bits_that_states_in_memory_give(
    tmp_path: Path, keep_on_device: Callable[[], None], kind: str
) -> None:
    in_memory, on_device = runners_of(MAKERS[kind](tmp_path), keep_on_device)
    rng = np.random.default_rng(7)

    for _ in range(20):
        slots, x = draw_batch(rng, in_memory)
        expected, got = in_memory.step(slots, [x]), on_device.step(slots, [x])

        assert bits(got) == bits(expected)
        assert bits(on_device.arena.read(EVERY_SLOT)) == bits(in_memory.arena.read(EVERY_SLOT))
    on_device.check_integrity()


def test_answers_outlive_the_steps_after_them(tmp_path: Path, keep_on_device: Callable[[], None]) -> None:
    runner = runners_of(lstm_package(tmp_path), keep_on_device)[1]
    rng = np.random.default_rng(8)
    answers, copies = [], []

    for _ in range(30):
        slots, x = draw_batch(rng, runner)
        answers.append((runner.step(slots, [x])[0], *runner.arena.read(slots)))
        copies.append([a.copy() for a in answers[-1]])

    assert [bits(list(a)) for a in answers] == [bits(c) for c in copies]


@pytest.mark.parametrize("count", [1, 3])
def test_a_run_that_fails_leaves_every_state_as_it_was(
    tmp_path: Path, keep_on_device: Callable[[], None], count: int
) -> None:
    runner = runners_of(table_package(tmp_path, size=4), keep_on_device)[1]
    slots = EVERY_SLOT[1 : count + 1]
    runner.step(slots, [np.full((count, 1, 1), 3)])
    before = bits(runner.arena.read(EVERY_SLOT))
    x = np.full((count, 2, 1), 1)
    x[-1, -1] = 4

    with pytest.raises(Exception, match="indices element out of data bounds"):
        runner.step(slots, [x])

    assert bits(runner.arena.read(EVERY_SLOT)) == before


def test_a_written_padding_slot_is_noticed(tmp_path: Path, keep_on_device: Callable[[], None]) -> None:
    runner = runners_of(counter_package(tmp_path), keep_on_device)[1]

    runner.step(EVERY_SLOT[:1], [np.ones((1, 1, 2), np.float32)])

    with pytest.raises(AssertionError, match="slot 0 was written"):
        runner.check_integrity()


def test_a_model_without_state_has_nothing_to_keep_on_the_device(
    tmp_path: Path, keep_on_device: Callable[[], None]
) -> None:
    path = double_package(tmp_path)
    keep_on_device()
    runner = runner_of(path)

    outputs = runner.step(EVERY_SLOT[1:3], [np.ones((2, 1, 2), np.float32)])

    np.testing.assert_array_equal(outputs[0], np.full((2, 1, 2), 2))


@pytest.mark.parametrize("make_package", [lstm_package, rnn_package])
async def test_an_engine_gives_the_same_bits(
    tmp_path: Path, keep_on_device: Callable[[], None], make_package: Callable[[Path], Path]
) -> None:
    path = make_package(tmp_path)
    sizes = {"max_batch_size": 4, "max_slice_steps": 3, "delay_us": 0}
    benches = [EngineBench(path, **sizes)]
    keep_on_device()
    benches.append(EngineBench(path, **sizes))
    rows = []

    for bench in benches:
        rng, sent = np.random.default_rng(9), []
        for _ in range(12):
            slots = rng.permutation(30)[: rng.integers(1, 10)] + 1
            x = rng.normal(0, 1, (len(slots), int(rng.integers(1, 9)), 3)).astype(np.float32)
            sent.append((len(slots), bench.submit(slots.tolist(), x)))
        await bench.until_complete(*(answers for _, answers in sent))
        rows.append([answers.row(i).tobytes() for count, answers in sent for i in range(count)])
        bench.engine.close()

    assert [type(b.runner.arena) for b in benches] == [Arena, DeviceArena]
    assert rows[0] == rows[1]


@pytest.mark.skipif(not has_cuda(), reason="no CUDA device that works")
@pytest.mark.parametrize("make_package", [lstm_package, gru_package, packed_package])
def test_cuda_gives_what_the_cpu_gives(tmp_path: Path, make_package: Callable[[Path], Path]) -> None:
    path = make_package(tmp_path)
    cpu, cuda = runner_of(path), runner_of(path, "cuda")
    for runner in (cpu, cuda):
        runner.arena.reset(EVERY_SLOT[1:])
    rng = np.random.default_rng(10)

    for _ in range(20):
        slots, x = draw_batch(rng, cpu)
        for got, expected in zip(cuda.step(slots, [x]), cpu.step(slots, [x]), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)

    assert isinstance(cuda.arena, DeviceArena)
    for got, expected in zip(cuda.arena.read(EVERY_SLOT), cpu.arena.read(EVERY_SLOT), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    cuda.check_integrity()
