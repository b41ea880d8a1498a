"""The account of a call, against a server that is four lines of numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import InternalError, InvalidRequest, WrongStep
from tidegate.protocol.cutting import FrameCaps
from tidegate.protocol.outputs import OutputSelection
from tidegate.protocol.tracking import StepCall, TensorForm, Tile
from tidegate.tensor import Array, DType

FORM = TensorForm(DType.FLOAT32, (2,))
WIDE = FrameCaps(max_rows=1000, max_steps=1000, max_bytes=1 << 20)
ALL, LAST, NONE = OutputSelection.ALL, OutputSelection.LAST, OutputSelection.NONE


def inputs_of(num_rows: int, num_steps: int) -> Array:
    """Numbers that are all different, (n, T, 2)."""
    return np.arange(num_rows * num_steps * 2, dtype=np.float32).reshape(num_rows, num_steps, 2)


def started(
    x: Array, selection: OutputSelection = ALL, refused: dict[int, InvalidRequest] | None = None
) -> StepCall:
    return StepCall(np.arange(len(x)) * 100, [x], [FORM], selection, refused)


def answer(call: StepCall, tile: Tile, positions: list[int], start: int, stop: int) -> None:
    """Answer part of a frame with minus its inputs."""
    sent = np.frombuffer(call.tile_inputs(tile)[0], np.float32).reshape(len(tile.rows), tile.num_steps, 2)
    rows = sent[positions] if positions else sent
    out = -rows[:, start:stop]
    if tile.selection is LAST:
        out = out[:, -1:] if stop == tile.num_steps else out[:, :0]
    chunks = [] if tile.selection is NONE else [out.tobytes()]
    call.take(tile, positions, start, stop - start, chunks, {})


def tiles_of(call: StepCall, caps: FrameCaps) -> list[Tile]:
    tiles = []
    while (tile := call.next_tile(caps)) is not None:
        tiles.append(tile)
    return tiles


def test_a_call_within_the_limits_is_one_frame() -> None:
    call = started(inputs_of(3, 4))

    [tile] = tiles_of(call, WIDE)

    assert (tile.rows.tolist(), tile.offset, tile.num_steps, tile.selection) == ([0, 1, 2], 0, 4, ALL)
    assert call.tile_inputs(tile) == [inputs_of(3, 4).tobytes()]


@given(
    num_rows=st.integers(1, 7),
    num_steps=st.integers(1, 9),
    caps=st.builds(FrameCaps, st.integers(1, 8), st.integers(1, 10), st.integers(1, 200)),
    data=st.data(),
)
def test_answers_are_put_together_however_the_call_was_cut(
    num_rows: int, num_steps: int, caps: FrameCaps, data: st.DataObject
) -> None:
    x = inputs_of(num_rows, num_steps)
    call = started(x)

    for tile in tiles_of(call, caps):
        assert len(tile.rows) <= caps.max_rows
        assert tile.num_steps <= caps.max_steps
        cut = data.draw(st.integers(0, tile.num_steps - 1))
        order = data.draw(st.permutations(range(len(tile.rows))))
        for start, stop in ((0, cut), (cut, tile.num_steps)):
            if start < stop:
                half = len(order) // 2
                for positions in (order[:half], order[half:]):
                    if positions:
                        answer(call, tile, list(positions), start, stop)

    np.testing.assert_array_equal(call.outputs[0], -x)
    assert call.applied.tolist() == [num_steps] * num_rows
    assert call.is_over


@given(num_steps=st.integers(1, 9), max_steps=st.integers(1, 10))
def test_last_answers_with_the_last_step_however_the_call_was_cut(num_steps: int, max_steps: int) -> None:
    x = inputs_of(2, num_steps)
    call = started(x, LAST)

    for tile in tiles_of(call, FrameCaps(10, max_steps, 1 << 20)):
        answer(call, tile, [], 0, tile.num_steps)

    np.testing.assert_array_equal(call.outputs[0], -x[:, -1:])


def test_none_answers_nothing_and_counts_the_steps() -> None:
    call = started(inputs_of(2, 3), NONE)

    for tile in tiles_of(call, WIDE):
        answer(call, tile, [], 0, 3)

    assert call.outputs[0].shape == (2, 0, 2)
    assert call.applied.tolist() == [3, 3]


def test_every_frame_stays_within_the_bytes_of_a_message() -> None:
    call = started(inputs_of(4, 10))

    tiles = tiles_of(call, FrameCaps(1000, 1000, 64))

    assert max(len(t.rows) * t.num_steps * FORM.step_bytes for t in tiles) <= 64


def test_a_refused_row_sends_nothing_more_and_its_neighbours_go_on() -> None:
    x = inputs_of(3, 4)
    call = started(x)
    caps = FrameCaps(10, 2, 1 << 20)
    first = call.next_tile(caps)
    assert first is not None
    outputs = (-x[:, :2]).copy()
    outputs[1] = np.nan
    call.take(first, [], 0, 2, [outputs.tobytes()], {1: InvalidRequest("x: not finite")})

    second = call.next_tile(caps)
    assert second is not None
    answer(call, second, [], 0, 2)

    assert second.rows.tolist() == [0, 2]
    assert np.isnan(call.outputs[0][1]).all()
    np.testing.assert_array_equal(call.outputs[0][[0, 2]], -x[[0, 2]])
    assert call.applied.tolist() == [4, 0, 4]


def test_a_result_whose_rows_are_all_refused_needs_no_outputs() -> None:
    call = started(inputs_of(2, 3))
    [tile] = tiles_of(call, WIDE)
    bad = InvalidRequest("x: not finite")

    call.take(tile, [], 0, 3, [], {0: bad, 1: bad})

    assert np.isnan(call.outputs[0]).all()
    assert call.applied.tolist() == [0, 0]


def test_the_first_error_of_a_row_is_the_one_that_is_kept() -> None:
    call = started(inputs_of(1, 4))
    first, second = tiles_of(call, FrameCaps(1, 2, 1 << 20))
    cause = InvalidRequest("x: not finite")

    call.refuse(first.rows, cause)
    call.refuse(second.rows, WrongStep("expected 0, got 2", expected_step=0))

    assert call.errors == {0: cause}


def test_rows_that_are_refused_beforehand_are_never_sent() -> None:
    gone = InvalidRequest("gone")
    call = started(inputs_of(3, 1), refused={0: gone, 2: gone})

    [tile] = tiles_of(call, WIDE)

    assert tile.rows.tolist() == [1]


@given(
    num_rows=st.integers(1, 6),
    num_steps=st.integers(1, 9),
    caps=st.builds(FrameCaps, st.integers(1, 7), st.integers(1, 5), st.integers(1, 100)),
    selection=st.sampled_from([ALL, LAST, NONE]),
    data=st.data(),
)
@settings(deadline=None, max_examples=50)
def test_a_restart_asks_for_the_rest_and_for_nothing_twice(
    num_rows: int, num_steps: int, caps: FrameCaps, selection: OutputSelection, data: st.DataObject
) -> None:
    x = inputs_of(num_rows, num_steps)
    call = started(x, selection)
    asked = np.zeros((num_rows, num_steps), int)

    while not call.is_over:
        call.restart()
        for tile in tiles_of(call, caps)[: data.draw(st.integers(1, 3))]:
            # A server answers the steps of a session in order, or not at all.
            in_order = np.flatnonzero(call.applied[tile.rows] == tile.offset).tolist()
            if in_order:
                answered = data.draw(st.lists(st.sampled_from(in_order), min_size=1, unique=True))
                stop = data.draw(st.integers(1, tile.num_steps))
                answer(call, tile, answered, 0, stop)
                asked[tile.rows[answered], tile.offset : tile.offset + stop] += 1

    assert (asked == 1).all()
    np.testing.assert_array_equal(call.outputs[0], {ALL: -x, LAST: -x[:, -1:], NONE: -x[:, :0]}[selection])


def test_a_row_that_is_deferred_is_sent_again() -> None:
    x = inputs_of(2, 3)
    call = started(x)
    [tile] = tiles_of(call, WIDE)
    outputs = (-x).copy()
    outputs[1] = np.nan
    call.take(tile, [], 0, 3, [outputs.tobytes()], {}, deferred=[1])

    call.restart()
    [rest] = tiles_of(call, WIDE)
    answer(call, rest, [], 0, 3)

    assert rest.rows.tolist() == [1]
    assert (call.is_over, call.errors) == (True, {})
    np.testing.assert_array_equal(call.outputs[0], -x)


@pytest.mark.parametrize(
    ("positions", "start", "steps", "chunks"),
    [([], 0, 2, [b"1234"]), ([], 0, 2, []), ([7], 0, 1, [b""]), ([], 1, 2, [b""])],
)
def test_a_result_that_does_not_fit_its_frame_is_refused(
    positions: list[int], start: int, steps: int, chunks: list[bytes]
) -> None:
    call = started(inputs_of(2, 2))
    [tile] = tiles_of(call, WIDE)

    with pytest.raises(InternalError, match="result"):
        call.take(tile, positions, start, steps, chunks, {})
