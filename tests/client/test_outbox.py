"""What leaves next: control first, lanes in turn, never more than the server allows."""

from __future__ import annotations

import pytest

from support.outbox_parts import Told, answer, call, drain, lane, outbox, put
from tidegate.client.lane import MAX_LANE_FRAMES
from tidegate.errors import InternalError, InvalidRequest
from tidegate.v1 import stream_pb2 as pb


async def test_lanes_take_turns() -> None:
    box = outbox()
    put(box, lane(1), call(3))
    put(box, lane(2), call(3))

    assert [f.handles[0] for f in drain(box)] == [1, 2, 1, 2, 1, 2]


async def test_a_long_call_has_only_a_few_frames_under_way() -> None:
    box = outbox()
    put(box, lane(1), call(10))

    under_way = drain(box)
    answer(box, under_way[0])
    more = drain(box)

    assert (len(under_way), len(more)) == (MAX_LANE_FRAMES, 1)
    assert more[0].first_steps == [MAX_LANE_FRAMES]


async def test_a_call_of_one_step_leaves_at_once_beside_a_long_one() -> None:
    box = outbox()
    put(box, lane(1), call(1000))
    drain(box)

    put(box, lane(2), call(1))

    assert [f.handles[0] for f in drain(box)] == [2]


async def test_no_more_frames_are_under_way_than_the_server_allows() -> None:
    box = outbox(max_frames=3)
    for handle in range(1, 6):
        put(box, lane(handle), call(1))

    under_way = drain(box)
    answer(box, under_way[1])

    assert [f.handles[0] for f in under_way] == [1, 2, 3]
    assert [f.handles[0] for f in drain(box)] == [4]


async def test_control_goes_before_frames() -> None:
    box = outbox()
    put(box, lane(1), call(1))
    box.put_control(pb.StreamRequest(close=pb.Close(close_id=7)))

    first = box.next_message(0.0)

    assert first is not None
    assert first.close.close_id == 7


async def test_a_call_is_over_when_its_last_frame_is_answered() -> None:
    box, told, pending = outbox(), Told(), call(2)
    put(box, lane(1, told), pending)
    first, second = drain(box)

    answer(box, second)
    before = list(told.over)
    answer(box, first)

    assert (before, told.over, pending.account.applied.tolist()) == ([], [pending], [2])


async def test_a_frame_that_is_refused_whole_refuses_its_rows() -> None:
    box, told, pending = outbox(), Told(), call(1)
    put(box, lane(1, told), pending)
    [frame] = drain(box)
    error = InvalidRequest("inputs: expected 4 bytes, got 3")

    box.refuse_frame(frame.frame_id, error)

    assert told.over == [pending]
    assert pending.account.errors == {0: error}


async def test_an_answer_that_comes_twice_changes_nothing() -> None:
    box, told = outbox(), Told()
    put(box, lane(1, told), call(1))
    [frame] = drain(box)

    answer(box, frame)
    answer(box, frame)

    assert len(told.over) == 1


async def test_an_answer_to_nothing_means_a_broken_server() -> None:
    with pytest.raises(InternalError, match="frame_id: expected one of this stream, got 9"):
        outbox().take_result(pb.FrameResult(frame_id=9, complete=True))
