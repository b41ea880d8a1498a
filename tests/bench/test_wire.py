"""Frames that are written in place read as frames."""

from __future__ import annotations

import numpy as np
import pytest

from bench import wire
from bench.errors import BenchError
from tidegate.v1 import error_pb2
from tidegate.v1 import stream_pb2 as pb


@pytest.mark.parametrize(("rows", "steps"), [(1, 1), (256, 1), (3, 50)])
def test_a_filled_frame_reads_as_what_was_put_in(rows: int, steps: int) -> None:
    template = wire.FrameTemplate(7, num_rows=rows, num_steps=steps, features=8)
    handles = np.arange(100, 100 + rows, dtype=np.uint32)
    first_steps = np.arange(2**40, 2**40 + rows, dtype=np.uint64)

    frame = pb.StreamRequest.FromString(template.fill(handles, first_steps)).frame

    assert frame.frame_id == 7
    assert frame.num_steps == steps
    assert list(frame.handles) == handles.tolist()
    assert list(frame.first_steps) == first_steps.tolist()
    (inputs,) = frame.inputs
    values = np.frombuffer(inputs, "<f4")
    assert len(values) == rows * steps * 8
    assert np.isfinite(values).all()
    assert values.std() > 0.1


def test_no_two_frames_bring_the_same_values() -> None:
    template = wire.FrameTemplate(1, num_rows=2, num_steps=1, features=8)
    handles, first_steps = np.array([1, 2], np.uint32), np.zeros(2, np.uint64)

    first, second = (
        pb.StreamRequest.FromString(template.fill(handles, first_steps)).frame.inputs[0] for _ in range(2)
    )

    assert first != second


def test_a_frame_acks_the_rows_that_it_had_the_last_time() -> None:
    template = wire.FrameTemplate(1, num_rows=2, num_steps=3, features=8, acks=True)
    steps = np.array([0, 9], np.uint64)

    first, second = (
        pb.StreamRequest.FromString(
            template.fill(np.array(handles, np.uint32), steps + np.uint64(later))
        ).frame
        for handles, later in (([7, 8], 0), ([8, 9], 100))
    )

    assert (list(first.ack.handles), list(first.ack.steps)) == ([7, 8], [0, 0])
    assert (list(second.ack.handles), list(second.ack.steps)) == ([7, 8], [3, 12])
    assert list(second.handles) == [8, 9]
    assert list(second.first_steps) == [100, 109]


def test_news_of_the_store_is_no_answer() -> None:
    durable = _bytes(durable=pb.Durable(handles=[1], steps=[5]))

    assert wire.read_result(durable, 1) == (0, 0, False)


def test_a_result_tells_frame_steps_and_completeness() -> None:
    result = pb.FrameResult(frame_id=3, num_steps=4, outputs=[b"\0" * 32], complete=True)
    some_rows = pb.FrameResult(frame_id=3, num_steps=4, rows=[1, 5], outputs=[b"\0" * 32])

    assert wire.read_result(_bytes(result=result), 2) == (3, 8, True)
    assert wire.read_result(_bytes(result=some_rows), 6) == (3, 8, False)


def test_an_answer_with_an_error_ends_the_measurement() -> None:
    refused = error_pb2.IndexedError(index=0, error=error_pb2.Error(reason="WRONG_STEP"))
    bad = [
        _bytes(result=pb.FrameResult(frame_id=1, errors=[refused], complete=True)),
        _bytes(error=pb.StreamError(frame_id=1)),
        _bytes(notice=pb.Notice()),
    ]

    for message in bad:
        with pytest.raises(BenchError):
            wire.read_result(message, 1)
    with pytest.raises(BenchError):
        wire.read_opened(_bytes(opened=pb.Opened(handles=[0], errors=[refused])))
    with pytest.raises(BenchError):
        wire.check_closed(_bytes(closed=pb.Closed(errors=[refused])))


def _bytes(**message: object) -> bytes:
    return pb.StreamResponse(**message).SerializeToString()  # type: ignore[arg-type]
