"""What leaves next: control first, calls in turn, never more than the server allows."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.client.outbox import MAX_CALL_FRAMES, Outbox, PendingCall
from tidegate.errors import ConnectionLost, InternalError, InvalidRequest
from tidegate.protocol.tracking import StepCall, TensorForm
from tidegate.tensor import DType
from tidegate.v1 import stream_pb2 as pb

FORM = TensorForm(DType.FLOAT32, (1,))


def outbox(*, max_frames: int = 100) -> Outbox:
    """An outbox whose frames carry one step each."""
    box = Outbox()
    limits = pb.Limits(
        max_frame_rows=10, max_frame_steps=1, max_message_bytes=1 << 20, max_frames_in_flight=max_frames
    )
    box.set_limits(limits)
    return box


def call(handle: int, num_steps: int) -> PendingCall:
    x = np.zeros((1, num_steps, 1), np.float32)
    return PendingCall(StepCall(np.zeros(1, np.int64), [x], [FORM]), np.array([handle]), lambda _: None)


def drain(box: Outbox) -> list[pb.Frame]:
    """Everything that may leave now."""
    frames = []
    while (message := box.next_message()) is not None:
        frames.append(message.frame)
    return frames


def answer(box: Outbox, frame: pb.Frame) -> None:
    box.take_result(
        pb.FrameResult(frame_id=frame.frame_id, num_steps=1, outputs=[b"\0\0\0\0"], complete=True)
    )


async def test_calls_take_turns() -> None:
    box = outbox()
    box.put_call(call(1, 3))
    box.put_call(call(2, 3))

    assert [f.handles[0] for f in drain(box)] == [1, 2, 1, 2, 1, 2]


async def test_a_long_call_has_only_a_few_frames_under_way() -> None:
    box, long = outbox(), call(1, 10)
    box.put_call(long)

    under_way = drain(box)
    answer(box, under_way[0])
    more = drain(box)

    assert (len(under_way), len(more)) == (MAX_CALL_FRAMES, 1)
    assert more[0].first_steps == [MAX_CALL_FRAMES]


async def test_a_call_of_one_step_leaves_at_once_beside_a_long_one() -> None:
    box = outbox()
    box.put_call(call(1, 1000))
    drain(box)

    box.put_call(call(2, 1))

    assert [f.handles[0] for f in drain(box)] == [2]


async def test_no_more_frames_are_under_way_than_the_server_allows() -> None:
    box = outbox(max_frames=3)
    for handle in range(1, 6):
        box.put_call(call(handle, 1))

    under_way = drain(box)
    answer(box, under_way[1])

    assert [f.handles[0] for f in under_way] == [1, 2, 3]
    assert [f.handles[0] for f in drain(box)] == [4]


async def test_control_goes_before_frames() -> None:
    box = outbox()
    box.put_call(call(1, 1))
    box.put_control(pb.StreamRequest(close=pb.Close(close_id=7)))

    first = box.next_message()

    assert first is not None
    assert first.close.close_id == 7


async def test_a_call_is_done_when_its_last_frame_is_answered() -> None:
    box, pending = outbox(), call(1, 2)
    box.put_call(pending)
    first, second = drain(box)

    answer(box, second)
    was_done = pending.done.done()
    answer(box, first)

    assert (was_done, pending.done.done(), pending.account.applied.tolist()) == (False, True, [2])


async def test_a_frame_that_is_refused_whole_refuses_its_rows() -> None:
    box, pending = outbox(), call(1, 1)
    box.put_call(pending)
    [frame] = drain(box)
    error = InvalidRequest("inputs: expected 4 bytes, got 3")

    box.refuse_frame(frame.frame_id, error)

    assert pending.done.done()
    assert pending.account.errors == {0: error}


async def test_the_end_of_the_stream_ends_every_call() -> None:
    box = outbox(max_frames=1)
    sent, waiting, halfway = call(1, 1), call(2, 1), call(3, 9)
    for pending in (sent, waiting, halfway):
        box.put_call(pending)
    drain(box)
    error = ConnectionLost("gone")

    box.fail(error)

    assert [c.failure for c in (sent, waiting, halfway)] == [error] * 3
    assert all(c.done.done() for c in (sent, waiting, halfway))
    assert box.next_message() is None


async def test_an_answer_to_nothing_means_a_broken_server() -> None:
    with pytest.raises(InternalError, match="frame_id: expected one under way, got 9"):
        outbox().take_result(pb.FrameResult(frame_id=9, complete=True))
