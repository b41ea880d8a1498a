"""What leaves next: control first, lanes in turn, never more than the server allows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tidegate.client.acks import AckBook
from tidegate.client.lane import MAX_LANE_FRAMES, Lane
from tidegate.client.outbox import Outbox
from tidegate.client.pending import PendingCall
from tidegate.errors import InternalError, InvalidRequest, TidegateError, TooManyRequests, WrongStep
from tidegate.protocol.replay import HeldInputs
from tidegate.protocol.tracking import StepCall, TensorForm
from tidegate.rpc.status import to_error
from tidegate.tensor import DType
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.error_pb2 import IndexedError

FORM = TensorForm(DType.FLOAT32, (1,))
NOW_S = 1000.0


class Told:
    """A lane's owner that writes down what it is told."""

    def __init__(self) -> None:
        self.over: list[PendingCall] = []
        self.times_caught_up = 0
        self.delays_s: list[float] = []
        self.failed: dict[int, TidegateError] = {}

    def call_over(self, call: PendingCall) -> None:
        self.over.append(call)

    def caught_up(self) -> None:
        self.times_caught_up += 1

    def refused_for_now(self, delay_s: float) -> None:
        self.delays_s.append(delay_s)

    def rows_failed(self, errors: Mapping[int, TidegateError]) -> None:
        self.failed |= errors


def outbox(*, max_frames: int = 100, max_steps: int = 1) -> Outbox:
    """An outbox whose frames carry one step each."""
    box = Outbox()
    limits = pb.Limits(
        max_frame_rows=10,
        max_frame_steps=max_steps,
        max_message_bytes=1 << 20,
        max_frames_in_flight=max_frames,
    )
    box.set_limits(limits)
    return box


def lane(handle: int, told: Told | None = None, *, lost_steps: int = 0) -> Lane:
    """A lane of one session, at step 0; of a server that had been at `lost_steps` before."""
    held = HeldInputs()
    if lost_steps:
        x = np.arange(lost_steps, dtype=np.float32).reshape(1, -1, 1)
        held.append(np.zeros(1, np.int64), [x], np.ones(1, np.bool_))
    zero = np.zeros(1, np.int64)
    return Lane(told or Told(), np.array([handle]), held, AckBook(1), zero, zero + lost_steps)


def call(num_steps: int, first_step: int = 0) -> PendingCall:
    x = np.zeros((1, num_steps, 1), np.float32)
    return PendingCall(StepCall(np.array([first_step]), [x], [FORM]))


def put(box: Outbox, where: Lane, pending: PendingCall) -> None:
    where.put(pending)
    box.put_lane(where)


def drain(box: Outbox) -> list[pb.Frame]:
    """Everything that may leave now."""
    frames = []
    while (message := box.next_message(NOW_S)) is not None:
        frames.append(message.frame)
    return frames


def answer(box: Outbox, frame: pb.Frame) -> None:
    outputs = [] if frame.outputs == pb.OUTPUT_SELECTION_NONE else [b"\0\0\0\0" * frame.num_steps]
    box.take_result(
        pb.FrameResult(frame_id=frame.frame_id, num_steps=frame.num_steps, outputs=outputs, complete=True)
    )


def refuse(box: Outbox, frame: pb.Frame, error: TidegateError) -> None:
    errors = [IndexedError(index=0, error=to_error(error))]
    box.take_result(pb.FrameResult(frame_id=frame.frame_id, errors=errors, complete=True))


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

    first = box.next_message(NOW_S)

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
