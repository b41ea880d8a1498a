"""The account of one frame's rows."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.engine.frame import ALL_ROWS, EngineFrame, Part, Source
from tidegate.protocol.outputs import OutputSelection


def frame_of(
    slots: list[int], first_steps: list[int], num_steps: int, outputs: OutputSelection = OutputSelection.ALL
) -> EngineFrame:
    return EngineFrame(
        np.array(slots, np.int32),
        np.array(first_steps, np.int64),
        [np.zeros((len(slots), num_steps, 1), np.float32)],
        outputs=outputs,
        source=Source(),
        arrived_s=0.0,
        deadline_s=None,
        on_part=lambda _: None,
    )


def waiting_for(**next_steps: int) -> np.ndarray:
    """`next_step` by slot, as s1=..., s2=..."""
    array = np.zeros(10, np.int64)
    for slot, step in next_steps.items():
        array[int(slot[1:])] = step
    return array


def answered(rows: list[int], step_offset: int, num_steps: int) -> Part:
    outputs = np.array(
        [[[100 * row + step_offset + t] for t in range(num_steps)] for row in rows], np.float32
    )
    return Part(np.array(rows), len(rows), step_offset, num_steps, [outputs])


def test_rows_that_all_stand_alike_are_selected_without_copying() -> None:
    frame = frame_of([3, 5], [7, 2], 4)

    ready = frame.ready(waiting_for(s3=7, s5=2))

    assert ready is not None
    assert (ready.rows, ready.num_rows, ready.step_offset) == (ALL_ROWS, 2, 0)


def test_a_row_whose_session_waits_for_another_step_is_not_ready() -> None:
    frame = frame_of([3, 5], [7, 2], 4)

    ready = frame.ready(waiting_for(s3=7, s5=1))

    assert ready is not None
    assert ready.rows.tolist() == [0]


def test_of_rows_at_different_positions_those_furthest_behind_are_ready() -> None:
    frame = frame_of([1, 2, 3], [0, 0, 0], 4)
    frame.advance(np.array([0]), 1, 2, ends=False)

    ready = frame.ready(waiting_for(s1=2))

    assert ready is not None
    assert (ready.rows.tolist(), ready.step_offset) == ([1, 2], 0)


def test_a_finished_frame_has_nothing_ready_whatever_its_sessions_wait_for() -> None:
    frame = frame_of([1], [5], 1)
    frame.advance(ALL_ROWS, 1, 1, ends=True)

    assert [frame.ready(waiting_for(s1=step)) for step in (4, 5, 6)] == [None] * 3
    assert frame.num_open == 0
    frame.check_integrity()


def test_a_row_closed_early_runs_no_more() -> None:
    frame = frame_of([1, 2], [0, 0], 3)
    frame.finish(np.array([1]))

    ready = frame.ready(waiting_for())

    assert ready is not None
    assert ready.rows.tolist() == [0]
    assert frame.is_open(np.array([0, 1])).tolist() == [True, False]
    assert frame.open_rows(np.array([2], np.int32)).tolist() == []
    assert frame.untouched_rows().tolist() == [0]


def test_a_miscount_is_noticed() -> None:
    frame = frame_of([1, 2], [0, 0], 3)
    frame.num_open = 1

    with pytest.raises(AssertionError, match="open rows are miscounted"):
        frame.check_integrity()


@pytest.mark.parametrize(
    ("selection", "offset", "wanted"),
    [
        (OutputSelection.ALL, 0, [0, 1]),
        (OutputSelection.ALL, 2, [2, 3]),
        (OutputSelection.LAST, 0, None),
        (OutputSelection.LAST, 2, [3]),
        (OutputSelection.NONE, 0, None),
        (OutputSelection.NONE, 2, None),
    ],
)
def test_what_the_client_wants_of_a_slice(
    selection: OutputSelection, offset: int, wanted: list[int] | None
) -> None:
    frame = frame_of([1], [0], 4, selection)

    outputs = frame.select(answered([0], offset, 2).outputs, offset)

    assert [o[0, :, 0].tolist() for o in outputs] == ([] if wanted is None else [wanted])


def test_answers_kept_back_go_out_as_one_with_their_rows_in_order() -> None:
    frame = frame_of([1, 2, 3], [0, 0, 0], 2)
    frame.keep(answered([1], 0, 2))
    frame.keep(answered([0, 2], 0, 2))

    part = frame.take_kept()

    assert part is not None
    assert (part.rows, part.num_rows) == (ALL_ROWS, 3)
    assert part.outputs[0][:, :, 0].tolist() == [[0, 1], [100, 101], [200, 201]]
    assert frame.take_kept() is None


def test_answers_to_some_rows_name_them() -> None:
    frame = frame_of([1, 2, 3], [0, 0, 0], 2)
    frame.keep(answered([2], 0, 2))
    frame.keep(answered([0], 0, 2))

    part = frame.take_kept()

    assert part is not None
    assert part.rows.tolist() == [0, 2]


def test_answers_to_other_steps_do_not_join() -> None:
    frame = frame_of([1, 2], [0, 0], 4)
    assert frame.joins_kept(answered([0], 0, 2))

    frame.keep(answered([0], 0, 2))

    assert frame.joins_kept(answered([1], 0, 2))
    assert not frame.joins_kept(answered([1], 2, 2))
    assert not frame.joins_kept(answered([1], 0, 4))
