"""An arena on the device against one in memory, on the CPU provider."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import ConfigError
from tidegate.model.manifest import Dim, StatePair
from tidegate.runner import device_arena as device_arena_module
from tidegate.runner.arena import Arena
from tidegate.runner.device_arena import DeviceArena
from tidegate.tensor import Array, DType

CAPACITY = 20
EVERY_SLOT = np.arange(CAPACITY + 1, dtype=np.int32)


def bits(states: list[Array]) -> list[tuple[str, tuple[int, ...], bytes]]:
    return [(s.dtype.name, s.shape, s.tobytes()) for s in states]


def pair(number: int, shape: tuple[Dim, ...], dtype: DType = DType.FLOAT32) -> StatePair:
    return StatePair(input_name=f"s{number}", output_name=f"s{number}_out", dtype=dtype, shape=shape)


def initial_of(pairs: list[StatePair]) -> list[Array]:
    return [np.full(p.step_shape, i + 1).astype(p.dtype.numpy) for i, p in enumerate(pairs)]


def device_arena(pairs: list[StatePair], capacity: int = CAPACITY) -> DeviceArena:
    return DeviceArena(pairs, initial_of(pairs), capacity, device="cpu", label="m/1")


@st.composite
def state_pairs(draw: st.DrawFn) -> list[StatePair]:
    pairs = []
    for number in range(draw(st.integers(1, 4))):
        shape: list[Dim] = list(draw(st.lists(st.integers(1, 3), max_size=3)))
        if draw(st.integers(0, 4)):
            shape.insert(draw(st.integers(0, len(shape))), "batch")
        pairs.append(pair(number, tuple(shape), draw(st.sampled_from(DType))))
    return pairs


@settings(max_examples=60, deadline=None)
@given(state_pairs(), st.integers(0, 2**32))
def test_reading_and_writing_is_that_of_an_arena_in_memory(pairs: list[StatePair], seed: int) -> None:
    rng = np.random.default_rng(seed)
    arenas = Arena(pairs, initial_of(pairs), CAPACITY), device_arena(pairs)
    for arena in arenas:
        arena.reset(EVERY_SLOT[1:])

    for turn in range(6):
        slots = rng.permutation(EVERY_SLOT[1:])[: rng.integers(1, CAPACITY)]
        states = [rng.integers(0, 100, (len(slots), *p.step_shape)).astype(p.dtype.numpy) for p in pairs]
        for arena in arenas:
            arena.write(slots, states)
            arena.reset(slots[:turn])

    assert arenas[1].slot_bytes == arenas[0].slot_bytes
    assert bits(arenas[1].read(EVERY_SLOT)) == bits(arenas[0].read(EVERY_SLOT))
    assert [arenas[1].is_initial(s) for s in EVERY_SLOT] == [arenas[0].is_initial(s) for s in EVERY_SLOT]


def test_many_slots_are_reset_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_arena_module, "CHUNK_BYTES", 3 * 16)
    arena = device_arena([pair(0, ("batch", 4))])
    arena.write(EVERY_SLOT[1:], [np.zeros((CAPACITY, 4), np.float32)])

    arena.reset(EVERY_SLOT[1:])

    assert all(arena.is_initial(slot) for slot in EVERY_SLOT)


def test_a_state_of_the_wrong_shape_writes_nothing() -> None:
    arena = device_arena([pair(0, ("batch", 2)), pair(1, ("batch", 3))])
    arena.reset(EVERY_SLOT[1:])

    with pytest.raises(ValueError, match=r"expected \[1, 3\], got \[1, 6\]"):
        arena.write(EVERY_SLOT[1:2], [np.zeros((1, 2), np.float32), np.zeros((1, 6), np.float32)])

    assert arena.is_initial(1)


def test_an_arena_that_a_device_cannot_address_is_refused_before_it_is_reserved() -> None:
    with pytest.raises(ConfigError) as caught:
        device_arena([pair(0, ("batch", 2**21))], capacity=1024)

    assert str(caught.value) == (
        "m/1: --max-sessions: 's0' of all sessions is float32 [1025, 2097152]: "
        "expected at most 2147483647 elements, got 2149580800"
    )


def test_an_arena_that_does_not_fit_is_a_matter_of_the_settings() -> None:
    pairs = [pair(i, ("batch",), DType.FLOAT64) for i in range(2**14)]  # 256 TiB: no address space has it

    with pytest.raises(
        ConfigError, match=r"^m/1: --max-sessions: 's\d+' of all .*, which does not fit on cpu: "
    ):
        device_arena(pairs, capacity=2**31 - 2)
