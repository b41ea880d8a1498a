"""What a group has on its way over one stream: lost steps first, and again what was refused for now."""

from __future__ import annotations

import numpy as np

from support.outbox_parts import Told, answer, call, drain, lane, outbox, put, refuse
from tidegate.client.acks import AckBook
from tidegate.client.lane import MAX_LANE_FRAMES, Lane
from tidegate.errors import InvalidRequest, TooManyRequests, WrongStep
from tidegate.protocol.replay import HeldInputs
from tidegate.v1 import stream_pb2 as pb


async def test_what_the_server_lost_leaves_before_the_call_and_asks_for_no_answers() -> None:
    box, told = outbox(max_steps=2), Told()
    put(box, lane(1, told, lost_steps=3), call(1, first_step=3))

    frames = drain(box)
    for frame in frames[:2]:
        answer(box, frame)

    assert [f.first_steps[0] for f in frames] == [0, 2, 3]
    assert [f.num_steps for f in frames] == [2, 1, 1]
    assert [f.outputs for f in frames] == [pb.OUTPUT_SELECTION_NONE] * 2 + [pb.OUTPUT_SELECTION_ALL]
    assert frames[0].inputs == [np.float32([0, 1]).tobytes()]
    # Counted when nothing is under way, and only once.
    answer(box, frames[2])
    assert told.times_caught_up == 1


async def test_a_row_without_room_is_sent_again_with_what_was_behind_it() -> None:
    box, told, pending = outbox(), Told(), call(3)
    where = lane(1, told)
    put(box, where, pending)
    frames = drain(box)
    answer(box, frames[0])

    refuse(box, frames[1], TooManyRequests("pending_bytes: full", retry_after_s=0.25))
    assert told.delays_s == []
    refuse(box, frames[2], WrongStep("expected 1, got 2", expected_step=1))
    assert (told.delays_s, drain(box)) == ([0.25], [])
    where.rewind()
    box.put_lane(where)
    again = drain(box)
    for frame in again:
        answer(box, frame)

    assert [f.first_steps[0] for f in again] == [1, 2]
    assert (told.over, pending.account.errors) == ([pending], {})


async def test_lost_steps_without_room_are_sent_again() -> None:
    box, told = outbox(), Told()
    where = lane(1, told, lost_steps=2)
    put(box, where, call(1, first_step=2))
    frames = drain(box)

    box.refuse_frame(frames[0].frame_id, TooManyRequests("full", retry_after_s=0.5))
    for frame in frames[1:]:
        refuse(box, frame, WrongStep("expected 0", expected_step=0))
    where.rewind()
    box.put_lane(where)

    assert [f.first_steps[0] for f in drain(box)] == [0, 1, 2]
    assert told.failed == {}


async def test_a_second_wake_up_does_not_send_again_what_is_under_way() -> None:
    box, told, pending = outbox(), Told(), call(2)
    where = lane(1, told)
    put(box, where, pending)
    for frame in drain(box):
        refuse(box, frame, TooManyRequests("full", retry_after_s=0.5))
    where.rewind()
    box.put_lane(where)
    under_way = drain(box)

    where.rewind()
    box.put_lane(where)

    assert drain(box) == []
    for frame in under_way:
        answer(box, frame)
    assert (told.over, pending.account.errors) == ([pending], {})


async def test_a_refusal_of_lost_steps_is_told() -> None:
    box, told = outbox(), Told()
    where = lane(1, told, lost_steps=1)
    box.put_lane(where)
    [frame] = drain(box)
    error = InvalidRequest("x: not finite")

    refuse(box, frame, error)

    assert list(told.failed) == [0]
    assert str(told.failed[0]) == str(error)


async def test_a_session_that_is_lost_ends_its_call() -> None:
    box, told, pending = outbox(max_frames=1), Told(), call(3)
    where = lane(1, told)
    put(box, where, pending)
    [frame] = drain(box)
    gone = InvalidRequest("gone")

    where.lose({0: gone})
    assert told.over == []
    answer(box, frame)

    assert (told.over, pending.account.errors, drain(box)) == ([pending], {0: gone}, [])


async def test_acks_travel_with_the_first_frame_and_not_with_every_one() -> None:
    box, acks = outbox(), AckBook(1)
    where = Lane(Told(), np.array([7]), HeldInputs(), acks, np.array([5]), np.array([5]))
    acks.keep(np.array([5]))
    put(box, where, call(2, first_step=5))

    first, second = drain(box)
    acks.keep(np.array([6]))
    put(box, where, call(1, first_step=7))
    [soon] = drain(box)

    assert (first.ack.handles, first.ack.steps) == ([7], [5])
    assert not second.HasField("ack")
    assert not soon.HasField("ack")
    assert acks.has_news


async def test_catching_up_amid_a_call_is_told_once_and_acks_wait_for_it() -> None:
    box, told, acks, held = outbox(), Told(), AckBook(1), HeldInputs()
    held.append(np.array([0]), [np.zeros((1, 1, 1), np.float32)], np.ones(1, np.bool_))
    where = Lane(told, np.array([7]), held, acks, np.array([0]), np.array([1]))
    acks.keep(np.array([1]))
    put(box, where, call(6, first_step=1))

    early = drain(box)
    answer(box, early[0])
    late = drain(box)
    for frame in (*early[1:], *late):
        answer(box, frame)

    assert [frame.HasField("ack") for frame in early] == [False] * MAX_LANE_FRAMES
    assert late[0].ack.steps == [1]
    assert told.times_caught_up == 1
