"""Lanes, calls and answers for tests of what leaves a stream next."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tidegate.client.acks import AckBook
from tidegate.client.lane import Lane
from tidegate.client.outbox import Outbox
from tidegate.client.pending import PendingCall
from tidegate.errors import TidegateError
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
