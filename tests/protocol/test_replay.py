"""The inputs that are held, against a list per session."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tidegate.protocol.cutting import FrameCaps
from tidegate.protocol.replay import MAX_BLOCK_BYTES, ROW_BYTES, HeldInputs
from tidegate.tensor import Array, IntArray

WIDE = FrameCaps(max_rows=1000, max_steps=1000, max_bytes=1 << 20)


def inputs_of(num_rows: int, num_steps: int, start: int = 0) -> Array:
    """(n, T, 1); element [row, t] is 1000 row + start + t."""
    return (1000 * np.arange(num_rows)[:, None, None] + start + np.arange(num_steps)[:, None]).astype("<f4")


def resident_bytes() -> int:
    """Memory that this process holds at this moment."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def sent_again(
    held: HeldInputs, start: IntArray, stop: IntArray, caps: FrameCaps = WIDE
) -> list[list[float]]:
    """What is sent again of each row, checked to be in order."""
    sent: list[list[float]] = [[] for _ in start]
    for piece in held.pieces(start, stop, caps):
        assert len(piece.rows) <= caps.max_rows
        assert piece.num_steps <= caps.max_steps
        values = np.frombuffer(piece.inputs[0], "<f4").reshape(len(piece.rows), piece.num_steps)
        for row, first, steps in zip(piece.rows.tolist(), piece.first_steps.tolist(), values, strict=True):
            assert first == start[row] + len(sent[row])
            sent[row] += steps.tolist()
    return sent


class HeldMachine(RuleBasedStateMachine):
    """Calls, refusals and durable steps in any order; the model is a list of all inputs of each row."""

    @initialize(num_rows=st.integers(1, 4), first=st.integers(0, 3))
    def start(self, num_rows: int, first: int) -> None:
        self.held = HeldInputs()
        self.live = np.ones(num_rows, bool)
        self.history: list[list[float]] = [[0.0] * first for _ in range(num_rows)]
        self.base = np.full(num_rows, first)
        self.durable = self.base.copy()

    @property
    def next_steps(self) -> IntArray:
        return np.array([len(row) for row in self.history])

    @rule(num_steps=st.integers(1, 6), data=st.data())
    def call(self, num_steps: int, data: st.DataObject) -> None:
        first = self.next_steps
        x = (100 * first[:, None] + np.arange(num_steps)).astype("<f4")
        views = self.held.append(first, [x[:, :, None]], self.live)
        given = x.copy()
        kept = np.where(self.live, num_steps, 0)
        for row in np.flatnonzero(self.live):
            if data.draw(st.integers(0, 4)) == 0:
                kept[row] = data.draw(st.integers(0, num_steps - 1))
        for row, count in enumerate(kept):
            self.history[row] += x[row, :count].tolist()
        self.held.cut_off(self.next_steps)
        x[:] = -1  # The caller may write over its own array.
        np.testing.assert_array_equal(views[0][:, :, 0], given)

    @rule(data=st.data())
    def become_durable(self, data: st.DataObject) -> None:
        for row, step in enumerate(self.next_steps.tolist()):
            self.durable[row] = data.draw(st.integers(int(self.durable[row]), step))
        self.held.drop_before(np.where(self.live, self.durable, np.iinfo(np.int64).max))

    @rule(data=st.data())
    def lose_a_session(self, data: st.DataObject) -> None:
        self.live[data.draw(st.integers(0, len(self.live) - 1))] = False

    @invariant()
    def what_is_not_durable_can_be_sent(self) -> None:
        if not hasattr(self, "held"):
            return
        start = np.maximum(self.held.held_from(self.next_steps), self.base)
        assert (start <= np.maximum(self.durable, self.base))[self.live].all()
        start, stop = np.where(self.live, start, 0), np.where(self.live, self.next_steps, 0)
        expected = [row[a:b] for row, a, b in zip(self.history, start, stop, strict=True)]
        for caps in (WIDE, FrameCaps(2, 3, 16)):
            assert sent_again(self.held, start, stop, caps) == expected


HeldMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestHeldMachine = HeldMachine.TestCase


def test_single_steps_leave_in_few_frames() -> None:
    held = HeldInputs()
    for step in range(1000):
        held.append(np.array([step]), [inputs_of(1, 1, step)], np.ones(1, bool))

    pieces = list(held.pieces(np.array([0]), np.array([1000]), WIDE))

    assert len(pieces) < 15
    assert held.num_bytes < 1000 * 4 + 15 * ROW_BYTES


def test_sessions_that_fell_back_to_different_steps_are_sent_from_their_own() -> None:
    held = HeldInputs()
    held.append(np.zeros(4, int), [inputs_of(4, 10)], np.ones(4, bool))

    pieces = list(held.pieces(np.array([3, 9, 3, 10]), np.full(4, 10), WIDE))

    assert [(p.rows.tolist(), p.first_steps.tolist(), p.num_steps) for p in pieces] == [
        ([0, 2], [3, 3], 7),
        ([1], [9], 1),
    ]


def test_steps_of_a_block_are_let_go_before_the_block_is() -> None:
    held, live = HeldInputs(), np.ones(2, bool)
    for step in range(100):
        held.append(np.array([step, step + 50]), [inputs_of(2, 1)], live)
    before = held.num_bytes

    held.drop_before(np.array([70, 115]))

    assert held.held_from(np.array([100, 150])).tolist() == [65, 115]
    assert before - held.num_bytes >= 65 * 2 * 4
    assert [len(row) for row in sent_again(held, np.array([70, 115]), np.array([100, 150]))] == [30, 35]


def test_the_books_about_a_large_fleet_are_small_beside_its_inputs() -> None:
    held, live = HeldInputs(), np.ones(10_000, bool)
    x = np.zeros((10_000, 1, 3), np.float32)

    for step in range(64):
        held.append(np.full(10_000, step), [x], live)

    assert held.num_bytes < 1.2 * 64 * x.nbytes


def test_a_lost_session_holds_nothing_back() -> None:
    held = HeldInputs()
    live = np.array([True, False])
    for step in range(3):
        held.append(np.array([step, 0]), [inputs_of(2, 1)], live)

    held.drop_before(np.array([3, np.iinfo(np.int64).max]))

    assert held.num_bytes == 0


def test_a_call_that_is_longer_than_a_block_is_one_block() -> None:
    held = HeldInputs()
    num_steps = MAX_BLOCK_BYTES

    held.append(np.array([0]), [np.zeros((1, num_steps, 1), "<f4")], np.ones(1, bool))

    assert held.num_bytes == 4 * num_steps + ROW_BYTES
    assert len(list(held.pieces(np.array([0]), np.array([num_steps]), FrameCaps(1, num_steps, 1 << 30)))) == 1


def test_bytes_are_never_more_than_was_said_beforehand() -> None:
    held, rng = HeldInputs(), np.random.default_rng(0)
    step = 0
    for _ in range(200):
        x = inputs_of(3, int(rng.integers(1, 9)))
        before, cost = held.num_bytes, held.cost([x])
        held.append(np.full(3, step), [x], np.ones(3, bool))
        step += x.shape[1]

        assert held.num_bytes <= before + cost


def test_a_fleet_with_one_session_refused_takes_the_memory_that_is_counted() -> None:
    """Its calls never continue a block: what is kept free in each for later steps must not be there."""
    held, live = HeldInputs(), np.ones(10_000, bool)
    x = np.ones((10_000, 1, 50), np.float32)
    before = resident_bytes()

    for step in range(20):
        first_steps = np.full(10_000, step)
        first_steps[0] = 0
        held.append(first_steps, [x], live)
        refused = first_steps + 1
        refused[0] = 0
        held.cut_off(refused)

    assert resident_bytes() - before < 1.5 * held.num_bytes


def test_a_long_call_that_is_durable_up_to_its_end_takes_the_memory_of_its_end() -> None:
    held, num_steps = HeldInputs(), 10_000_000
    # Not what is resident: an allocator that has been used before may keep what is freed.
    tracemalloc.start()
    x = np.ones((2, num_steps, 1), np.float32)
    x[:, -3:, 0] = [[1, 2, 3], [4, 5, 6]]
    held.append(np.array([0, 7]), [x], np.ones(2, bool))
    del x

    held.drop_before(np.array([num_steps - 3, num_steps + 4]))

    traced_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert traced_bytes < 0.1 * 8 * num_steps
    assert held.held_from(np.array([0, 0])).tolist() == [num_steps - 3, num_steps + 4]
    start, stop = np.array([num_steps - 3, num_steps + 5]), np.array([num_steps, num_steps + 7])
    assert sent_again(held, start, stop) == [[1, 2, 3], [5, 6]]
    assert held.num_bytes == 2 * (3 * 4 + ROW_BYTES)


def test_steps_that_are_freed_while_they_are_sent_again_do_not_shift_the_others() -> None:
    held, num_steps = HeldInputs(), MAX_BLOCK_BYTES
    x = np.arange(num_steps, dtype=np.float32).reshape(1, -1, 1)
    held.append(np.array([0]), [x], np.ones(1, bool))
    half = FrameCaps(max_rows=1, max_steps=num_steps // 2, max_bytes=1 << 30)
    pieces = held.pieces(np.array([0]), np.array([num_steps]), half)
    next(pieces)

    held.drop_before(np.array([num_steps // 2]))
    (rest,) = pieces

    assert (rest.first_steps.tolist(), rest.num_steps) == ([num_steps // 2], num_steps // 2)
    assert rest.inputs == [x[:, num_steps // 2 :].tobytes()]
