"""Cellular batching, without a clock, a thread or a model."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.engine.frame import EngineFrame, Source
from tidegate.engine.scheduler import Batch, Scheduler
from tidegate.protocol.outputs import OutputSelection

NUM_SLOTS = 40


class Bench:
    """A scheduler whose batches "run" by being counted."""

    def __init__(self, *, max_batch_size: int = 8, max_slice_steps: int = 4) -> None:
        self.next_step = np.zeros(NUM_SLOTS, np.int64)
        self.accepted = np.zeros(NUM_SLOTS, np.int64)
        self.ran: list[tuple[int, int]] = []
        """(slot, step) in the order of running."""
        self.scheduler = Scheduler(
            max_batch_size=max_batch_size, max_slice_steps=max_slice_steps, next_step=self.next_step
        )

    def add(
        self, source: Source, slots: list[int], num_steps: int = 1, deadline_s: float | None = None
    ) -> EngineFrame:
        """Queue the next steps of some sessions; the input of each step holds its slot and number."""
        array = np.array(slots, np.int32)
        first_steps = self.accepted[array]
        steps = first_steps[:, None] + np.arange(num_steps)
        x = np.stack([np.broadcast_to(array[:, None], steps.shape), steps], axis=-1)
        frame = EngineFrame(
            array,
            first_steps,
            [x],
            outputs=OutputSelection.ALL,
            source=source,
            arrived_s=0.0,
            deadline_s=deadline_s,
            on_part=lambda _: None,
        )
        self.accepted[array] += num_steps
        self.scheduler.add(frame)
        return frame

    def run(self, batch: Batch) -> None:
        """Apply a batch as the engine does, holding its inputs against what its sessions wait for."""
        x = batch.inputs[0]
        expected = self.next_step[batch.slots][:, None] + np.arange(batch.num_steps)
        np.testing.assert_array_equal(x[:, :, 0], np.broadcast_to(batch.slots[:, None], expected.shape))
        np.testing.assert_array_equal(x[:, :, 1], expected)
        self.ran += [(int(s), int(t)) for s, t in x.reshape(-1, 2)]
        self.next_step[batch.slots] += batch.num_steps
        for part in batch.parts:
            ends = part.step_offset + batch.num_steps == part.frame.num_steps
            part.frame.advance(part.rows, part.num_rows, batch.num_steps, ends=ends)
            self.scheduler.progressed(part.frame)

    def turn(self) -> tuple[list[int], int]:
        """Take and run a batch: its sessions and the number of their steps."""
        batch = self.scheduler.take()
        assert batch is not None, "nothing is ready"
        self.run(batch)
        return batch.slots.tolist(), batch.num_steps

    def turns(self) -> list[tuple[list[int], int]]:
        """Run until nothing is ready."""
        done = []
        while (batch := self.scheduler.take()) is not None:
            self.run(batch)
            done.append((batch.slots.tolist(), batch.num_steps))
        return done


def test_frames_of_several_sources_share_a_batch() -> None:
    bench = Bench()
    for slots in ([1, 2], [3], [4, 5]):
        bench.add(Source(), slots)

    assert bench.turns() == [([1, 2, 3, 4, 5], 1)]


def test_frames_of_one_source_share_a_batch() -> None:
    bench, source = Bench(), Source()
    for slots in ([1], [2], [3]):
        bench.add(source, slots)

    assert bench.turns() == [([1, 2, 3], 1)]


def test_a_batch_holds_one_step_of_a_session() -> None:
    bench, source = Bench(), Source()
    for _ in range(3):
        bench.add(source, [1, 2])

    assert bench.turns() == [([1, 2], 1)] * 3


def test_a_batch_is_no_larger_than_the_limit() -> None:
    bench = Bench(max_batch_size=4)
    bench.add(Source(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])

    assert bench.turns() == [([1, 2, 3, 4], 1), ([5, 6, 7, 8], 1), ([9, 10], 1)]


def test_a_blocked_row_does_not_block_its_frames_other_rows() -> None:
    bench, history, live = Bench(), Source(), Source()
    bench.add(history, [1], num_steps=6)
    frame = bench.add(live, [1, 2])

    turns = bench.turns()

    assert turns.index(([2], 1)) < turns.index(([1], 4))
    assert frame.num_open == 0
    assert bench.next_step[1] == 7


def test_slices_alternate_with_single_steps() -> None:
    bench, history, live = Bench(max_slice_steps=4), Source(), Source()
    bench.add(history, [1], num_steps=17)
    for _ in range(4):
        bench.add(live, [2])

    assert [steps for _, steps in bench.turns()] == [1, 4, 1, 4, 1, 4, 1, 4, 1]


def test_many_histories_together_cost_no_more_than_a_full_batch() -> None:
    bench = Bench(max_batch_size=8, max_slice_steps=100)
    for slot in range(1, 9):
        bench.add(Source(), [slot], num_steps=50)

    assert all(len(slots) * steps <= 8 for slots, steps in bench.turns())


def test_one_history_alone_runs_in_whole_slices() -> None:
    bench = Bench(max_batch_size=8, max_slice_steps=4)
    bench.add(Source(), [1], num_steps=12)

    assert bench.turns() == [([1], 4)] * 3


def test_histories_of_unequal_length_all_move_on() -> None:
    bench = Bench(max_batch_size=100, max_slice_steps=10)
    bench.add(Source(), [1], num_steps=30)
    bench.add(Source(), [2], num_steps=3)

    turns = bench.turns()

    assert bench.next_step[1:3].tolist() == [30, 3]
    assert len(turns) <= 5


def test_turns_go_round_the_sources() -> None:
    bench = Bench(max_batch_size=2)
    hog, others = Source(), [Source(), Source()]
    for slot in range(1, 9):
        bench.add(hog, [slot])
    bench.add(others[0], [20])
    bench.add(others[1], [21])

    first, second = bench.turn()[0], bench.turn()[0]

    assert {20, 21} <= {*first, *second}


def test_turns_go_round_the_frames_of_a_source() -> None:
    bench, source = Bench(max_batch_size=1, max_slice_steps=2), Source()
    bench.add(source, [1], num_steps=8)
    bench.add(source, [2], num_steps=8)

    assert [slots for slots, _ in bench.turns()][:4] == [[1], [2], [1], [2]]


def test_a_paused_source_waits_and_holds_nobody_up() -> None:
    bench, paused, other = Bench(), Source(), Source()
    paused.paused = True
    bench.add(paused, [1])
    bench.add(other, [2])
    assert bench.turns() == [([2], 1)]

    paused.paused = False

    assert bench.turns() == [([1], 1)]


def test_a_congested_source_runs_single_steps_and_no_history() -> None:
    bench, source = Bench(), Source()
    source.congested = True
    bench.add(source, [1], num_steps=3)
    bench.add(source, [2])
    assert bench.turns() == [([2], 1)]

    source.congested = False

    assert bench.turns() == [([1], 3)]


def test_a_live_row_behind_a_pipelined_history_is_found() -> None:
    bench, source = Bench(), Source()
    for _ in range(30):
        bench.add(source, [1])
    bench.add(source, [2])

    assert bench.turn()[0] == [1, 2]


def test_a_frame_behind_one_that_was_refused_follows_what_is_still_ahead() -> None:
    bench, source = Bench(max_slice_steps=2), Source()
    bench.add(source, [1], num_steps=6)
    refused = bench.add(source, [1])
    refused.finish(np.array([0]))
    bench.scheduler.remove(refused)
    bench.accepted[1] = 6
    bench.turn()

    bench.add(source, [1])

    assert [steps for _, steps in bench.turns()] == [2, 2, 1]
    assert bench.next_step[1] == 7


def test_only_frames_with_a_limit_can_pass_it() -> None:
    bench = Bench()
    bench.add(Source(), [1])
    late, later = bench.add(Source(), [2], deadline_s=5.0), bench.add(Source(), [3], deadline_s=6.0)

    assert bench.scheduler.past_deadline(4.9) == []
    assert bench.scheduler.past_deadline(5.0) == [late]
    assert bench.scheduler.past_deadline(7.0) == [late, later]


def test_an_idle_scheduler_says_so_and_keeps_nothing() -> None:
    bench = Bench()
    assert not bench.scheduler

    for _ in range(3):
        bench.add(Source(), [1, 2], num_steps=5)
    bench.turns()

    assert not bench.scheduler
    assert bench.scheduler.frames() == []
    assert bench.scheduler.take() is None


frames = st.tuples(
    st.integers(0, 3), st.lists(st.integers(1, 12), min_size=1, max_size=8, unique=True), st.integers(1, 9)
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(frames, st.integers(0, 2), st.sampled_from([None, 0, 1, 2, 3])), max_size=25),
    st.integers(1, 9),
    st.integers(1, 5),
)
def test_every_step_runs_exactly_once_and_in_order(
    work: list[tuple[tuple[int, list[int], int], int, int | None]], max_batch_size: int, max_slice_steps: int
) -> None:
    bench = Bench(max_batch_size=max_batch_size, max_slice_steps=max_slice_steps)
    sources = [Source() for _ in range(4)]

    for (source, slots, num_steps), num_turns, toggled in work:
        bench.add(sources[source], slots, num_steps)
        if toggled is not None:
            sources[toggled].paused = not sources[toggled].paused
        for _ in range(num_turns):
            batch = bench.scheduler.take()
            if batch is not None:
                assert len(batch.slots) == len(set(batch.slots.tolist())) <= max_batch_size
                bench.run(batch)
    for source in sources:
        source.paused = False
    bench.turns()

    np.testing.assert_array_equal(bench.next_step, bench.accepted)
    assert all(count == 1 for count in Counter(bench.ran).values())
    assert bench.scheduler.frames() == []


@pytest.mark.parametrize("max_batch_size", [1, 3, 64])
def test_rows_stand_for_the_same_sessions_as_their_inputs(max_batch_size: int) -> None:
    bench = Bench(max_batch_size=max_batch_size, max_slice_steps=3)
    for start in range(1, 30, 7):
        bench.add(Source(), list(range(start, start + 7)), num_steps=start)

    bench.turns()

    assert len(bench.ran) == sum(7 * start for start in range(1, 30, 7))
