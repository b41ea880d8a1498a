"""The arena against a dictionary of sessions, in every layout that a graph may have."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.model.manifest import Dim, StatePair
from tidegate.runner import arena as arena_module
from tidegate.runner.arena import Arena
from tidegate.tensor import Array, DType

CAPACITY = 9

LAYOUTS = {
    "h and c of an LSTM": [(1, "batch", 4), (1, "batch", 4)],
    "h and c packed": [(2, "batch", 4)],
    "two layers and a counter": [(2, "batch", 4), (2, "batch", 4), ("batch", 1)],
    "batch first": [("batch", 2, 3)],
    "batch last": [(2, 3, "batch")],
    "batch alone": [("batch",)],
    "one row only": [(1, 4), (2, 3)],
    "no state": [],
}


def pair(number: int, shape: tuple[Dim, ...], dtype: DType = DType.FLOAT32) -> StatePair:
    return StatePair(input_name=f"s{number}", output_name=f"s{number}_out", dtype=dtype, shape=shape)


def pairs_of(layout: str) -> list[StatePair]:
    return [pair(i, cast("tuple[Dim, ...]", shape)) for i, shape in enumerate(LAYOUTS[layout])]


def distinct(pairs: list[StatePair], seed: int = 0) -> list[Array]:
    """A value for one session, no two elements alike."""
    start = 1000 * seed
    return [
        (np.arange(np.prod(p.step_shape, dtype=int)) + start + 100 * i)
        .reshape(p.step_shape)
        .astype(p.dtype.numpy)
        for i, p in enumerate(pairs)
    ]


def slots_of(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def in_graph_layout(pairs: list[StatePair], sessions: list[list[Array]]) -> list[Array]:
    """What the graph is to be fed for a batch of these sessions, put together row by row."""
    return [
        np.stack([session[i] for session in sessions], axis=p.batch_axis)
        if p.batch_axis is not None
        else sessions[0][i]
        for i, p in enumerate(pairs)
    ]


def assert_equal(got: list[Array], expected: list[Array]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_new_session_has_the_initial_state_in_the_graphs_layout(layout: str) -> None:
    pairs = pairs_of(layout)
    arena = Arena(pairs, distinct(pairs), CAPACITY)
    arena.reset(slots_of(5))

    gathered = arena.gather(arena.locate(slots_of(5)))

    assert_equal(gathered, in_graph_layout(pairs, [distinct(pairs)]))


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "one row only"])
def test_a_batch_comes_and_goes_in_the_graphs_layout(layout: str) -> None:
    pairs = pairs_of(layout)
    arena, slots = Arena(pairs, distinct(pairs), CAPACITY), slots_of(7, 2, 4)
    arena.reset(slots_of(*range(1, CAPACITY + 1)))
    sessions = [distinct(pairs, seed) for seed in (1, 2, 3)]

    arena.scatter(arena.locate(slots), in_graph_layout(pairs, sessions))

    assert_equal(arena.gather(arena.locate(slots)), in_graph_layout(pairs, sessions))
    swapped = arena.gather(arena.locate(slots[::-1]))
    assert_equal(swapped, in_graph_layout(pairs, sessions[::-1]))
    assert_equal(arena.gather(arena.locate(slots_of(3))), in_graph_layout(pairs, [distinct(pairs)]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_several_sessions_are_read_and_written_row_by_row(layout: str) -> None:
    pairs = pairs_of(layout)
    arena, slots = Arena(pairs, distinct(pairs), CAPACITY), slots_of(8, 1)
    arena.reset(slots_of(1, 2))
    states = [np.stack([distinct(pairs, 1)[i], distinct(pairs, 2)[i]]) for i in range(len(pairs))]

    arena.write(slots, states)

    assert_equal(arena.read(slots), states)
    assert_equal(arena.gather(arena.locate(slots_of(1))), in_graph_layout(pairs, [distinct(pairs, 2)]))
    assert_equal(arena.read(slots_of(2)), [s[None] for s in distinct(pairs)])


def test_a_state_of_the_wrong_size_writes_nothing() -> None:
    pairs = [pair(0, ("batch", 2)), pair(1, ("batch", 3))]
    arena = Arena(pairs, distinct(pairs), CAPACITY)
    arena.reset(slots_of(1))

    with pytest.raises(ValueError, match="reshape"):
        arena.scatter(arena.locate(slots_of(1)), [np.ones((1, 2), np.float32), np.ones((1, 6), np.float32)])

    assert arena.is_initial(1)


def test_what_was_gathered_is_a_copy() -> None:
    pairs = pairs_of("h and c of an LSTM")
    arena = Arena(pairs, distinct(pairs), CAPACITY)
    arena.reset(slots_of(1))

    for state in arena.gather(arena.locate(slots_of(1))):
        state[:] = -1

    assert arena.is_initial(1)


def test_a_reused_slot_begins_anew() -> None:
    pairs = pairs_of("two layers and a counter")
    arena = Arena(pairs, distinct(pairs), CAPACITY)
    arena.write(slots_of(3), [s[None] for s in distinct(pairs, 9)])
    assert not arena.is_initial(3)

    arena.reset(slots_of(3))

    assert arena.is_initial(3)


def test_element_types_are_kept_apart() -> None:
    pairs = [pair(0, ("batch", 2), DType.INT64), pair(1, ("batch", 2)), pair(2, ("batch", 2), DType.BOOL)]
    initial = [np.array([2**53 + 1, -1]), np.array([0.5, 1.5], np.float32), np.array([True, False])]
    arena = Arena(pairs, initial, CAPACITY)
    arena.reset(slots_of(1, 2))

    assert_equal(arena.read(slots_of(2)), [s[None] for s in initial])


def test_memory_is_touched_in_chunks_as_slots_come_into_use(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [pair(0, ("batch", 4))]
    slot_bytes = 16
    monkeypatch.setattr(arena_module, "CHUNK_BYTES", 3 * slot_bytes)
    arena = Arena(pairs, distinct(pairs), CAPACITY)
    at_first = arena.allocated_bytes

    arena.reset(slots_of(4))
    after_slot_4 = arena.allocated_bytes
    arena.reset(slots_of(CAPACITY))

    assert (at_first, after_slot_4, arena.allocated_bytes) == (
        3 * slot_bytes,
        6 * slot_bytes,
        10 * slot_bytes,
    )
    assert all(arena.is_initial(slot) for slot in range(CAPACITY + 1))


def test_growth_leaves_live_sessions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena_module, "CHUNK_BYTES", 1)
    pairs = pairs_of("batch first")
    arena = Arena(pairs, distinct(pairs), CAPACITY)
    arena.write(slots_of(1, 6), [np.stack([s, s + 1]) for s in distinct(pairs, 1)])

    for slot in (2, 7, 9):
        arena.reset(slots_of(slot))

    assert_equal(arena.read(slots_of(1, 6)), [np.stack([s, s + 1]) for s in distinct(pairs, 1)])


dims = st.integers(1, 3)
dtypes = st.sampled_from([DType.FLOAT32, DType.FLOAT64, DType.INT32])


@st.composite
def batched_pairs(draw: st.DrawFn) -> list[StatePair]:
    pairs = []
    for number in range(draw(st.integers(1, 4))):
        shape: list[Dim] = list(draw(st.lists(dims, max_size=3)))
        shape.insert(draw(st.integers(0, len(shape))), "batch")
        pairs.append(pair(number, tuple(shape), draw(dtypes)))
    return pairs


@settings(max_examples=60, deadline=None)
@given(batched_pairs(), st.data())
def test_random_work_is_that_of_a_dictionary(pairs: list[StatePair], data: st.DataObject) -> None:
    arena = Arena(pairs, distinct(pairs), CAPACITY)
    model: dict[int, list[Array]] = {}

    for turn in range(1, 8):
        numbers = data.draw(st.lists(st.integers(1, CAPACITY), min_size=1, max_size=5, unique=True))
        slots, what = slots_of(*numbers), data.draw(st.sampled_from(["reset", "scatter", "write"]))
        values = [distinct(pairs, 10 * turn + row) for row in range(len(numbers))]
        if what == "reset":
            arena.reset(slots)
            values = [distinct(pairs)] * len(numbers)
        elif what == "write":
            arena.write(slots, [np.stack([v[i] for v in values]) for i in range(len(pairs))])
        elif set(numbers) <= set(model):
            arena.scatter(arena.locate(slots), in_graph_layout(pairs, values))
        else:
            continue
        model.update(zip(numbers, values, strict=True))

    everyone = sorted(model)
    if everyone:
        location = arena.locate(slots_of(*everyone))
        assert_equal(arena.gather(location), in_graph_layout(pairs, [model[s] for s in everyone]))
    assert arena.is_initial(0)
