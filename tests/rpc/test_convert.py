"""Messages to plain values and back."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.errors import InvalidRequest, SessionLost, WrongStep
from tidegate.protocol.outputs import OutputSelection
from tidegate.rpc import convert
from tidegate.session.frames import Answer
from tidegate.session.open_request import OpenMode
from tidegate.session.stream import Notice, NoticeReason
from tidegate.v1 import stream_pb2 as pb


def test_a_frame_becomes_arrays() -> None:
    message = pb.Frame(
        frame_id=9, handles=[3, 1], num_steps=2, first_steps=[0, 7], inputs=[b"abcd"], time_limit_us=1500
    )

    request = convert.frame_request(message, arrived_s=12.5)

    assert (request.frame_id, request.num_steps, request.arrived_s) == (9, 2, 12.5)
    assert (request.handles.dtype, request.handles.tolist()) == (np.uint32, [3, 1])
    assert (request.first_steps.dtype, request.first_steps.tolist()) == (np.int64, [0, 7])
    assert request.time_limit_s == pytest.approx(0.0015)
    assert request.num_bytes == 4


def test_a_limit_of_0_is_not_the_same_as_none() -> None:
    unset, zero = pb.Frame(handles=[1]), pb.Frame(handles=[1], time_limit_us=0)

    assert convert.frame_request(unset, 0.0).time_limit_s is None
    assert convert.frame_request(zero, 0.0).time_limit_s == 0


@pytest.mark.parametrize("step", [2**63, 2**64 - 1])
def test_a_step_number_that_would_overflow_is_refused(step: int) -> None:
    with pytest.raises(
        InvalidRequest, match=rf"first_steps: expected step numbers up to {2**63 - 1}, got {step}"
    ):
        convert.frame_request(pb.Frame(handles=[1], first_steps=[step]), 0.0)


@pytest.mark.parametrize("count", [1, convert.FEW, convert.FEW + 1, 1000])
def test_it_is_refused_in_lists_of_every_length(count: int) -> None:
    steps = pb.Frame(first_steps=[0] * (count - 1) + [2**63]).first_steps

    with pytest.raises(InvalidRequest, match=f"expected step numbers up to {2**63 - 1}, got {2**63}"):
        convert.step_array("first_steps", steps)


@pytest.mark.parametrize("count", [1, convert.FEW, convert.FEW + 1, 1000])
def test_packed_lists_are_read_whole(count: int) -> None:
    frame = pb.Frame(handles=range(2**32 - count, 2**32), first_steps=range(2**63 - count, 2**63))

    assert convert.handle_array(frame.handles).tolist() == list(frame.handles)
    assert convert.step_array("first_steps", frame.first_steps).tolist() == list(frame.first_steps)


def test_the_greatest_step_number_is_read_exactly() -> None:
    assert convert.step_array("first_steps", [2**63 - 1]).tolist() == [2**63 - 1]


@pytest.mark.parametrize(
    ("number", "selection"),
    [
        (pb.OUTPUT_SELECTION_UNSPECIFIED, OutputSelection.ALL),
        (pb.OUTPUT_SELECTION_ALL, OutputSelection.ALL),
        (pb.OUTPUT_SELECTION_LAST, OutputSelection.LAST),
        (pb.OUTPUT_SELECTION_NONE, OutputSelection.NONE),
    ],
)
def test_selections_are_numbered_as_on_the_wire(number: int, selection: OutputSelection) -> None:
    assert convert.output_selection(number) is selection


def test_an_unknown_selection_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="outputs: expected ALL, LAST or NONE, got 9"):
        convert.output_selection(9)


@pytest.mark.parametrize("mode", [pb.OPEN_MODE_UNSPECIFIED, 9])
def test_a_mode_must_be_named(mode: int) -> None:
    with pytest.raises(
        InvalidRequest, match=f"mode: expected CREATE, RESUME or CREATE_OR_RESUME, got {mode}"
    ):
        convert.open_mode(mode)


def test_modes_are_numbered_as_on_the_wire() -> None:
    assert {m.name: m.value for m in OpenMode} == {
        name.removeprefix("OPEN_MODE_"): number for name, number in pb.OpenMode.items() if number
    }


def test_notices_are_numbered_as_on_the_wire() -> None:
    assert {r.name: r.value for r in NoticeReason} == {
        name.removeprefix("NOTICE_REASON_"): number for name, number in pb.NoticeReason.items() if number
    }


def test_unset_reach_is_none_for_each_session() -> None:
    request = convert.open_request(pb.Open(mode=pb.OPEN_MODE_RESUME, session_ids=["a", "b"]))

    assert request.have == [None, None]
    assert request.held_from == [None, None]


def test_minus_1_is_unset_and_0_is_not() -> None:
    message = pb.Open(
        mode=pb.OPEN_MODE_RESUME, session_ids=["a", "b", "c"], have=[-1, 0, 5], held_from=[0, -1, 3]
    )

    request = convert.open_request(message)

    assert request.have == [None, 0, 5]
    assert request.held_from == [0, None, 3]


def test_a_list_of_another_length_than_the_sessions_is_refused() -> None:
    message = pb.Open(mode=pb.OPEN_MODE_RESUME, session_ids=["a", "b"], have=[1])

    with pytest.raises(InvalidRequest, match=r"have: expected none or one per session \(2\), got 1"):
        convert.open_request(message)


def filled(answer: Answer) -> pb.FrameResult:
    message = pb.FrameResult()
    convert.fill_result(message, answer)
    return message


def test_an_answer_carries_raw_bytes_and_errors_by_position() -> None:
    outputs = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    answer = Answer(
        frame_id=4,
        rows=np.array([5, 8]),
        step_offset=6,
        num_steps=3,
        outputs=[outputs],
        errors={8: WrongStep("first_steps: expected 1, got 2", expected_step=1)},
        complete=True,
        queue_s=0.000_25,
        run_s=1e9,
    )

    message = filled(answer)

    assert (message.frame_id, list(message.rows), message.step_offset, message.num_steps) == (4, [5, 8], 6, 3)
    assert message.outputs[0] == outputs.tobytes()
    assert [(e.index, e.error.reason, e.error.expected_step) for e in message.errors] == [
        (8, "WRONG_STEP", 1)
    ]
    assert message.complete
    assert (message.queue_us, message.run_us) == (250, 2**32 - 1)


def test_views_of_larger_outputs_are_written_in_c_order() -> None:
    whole = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    view = np.moveaxis(whole, 2, 1)[:, -1:]

    message = filled(Answer(1, None, outputs=[view]))

    assert message.outputs[0] == np.array(view, order="C").tobytes()
    assert list(message.rows) == []


def test_a_notice_names_handles_and_steps() -> None:
    notice = Notice(NoticeReason.DISPLACED, np.array([3, 9], np.uint32), np.array([5, 0]), "taken")

    message = convert.notice_message(notice)

    assert message.reason == pb.NOTICE_REASON_DISPLACED
    assert (list(message.handles), list(message.next_steps), message.message) == ([3, 9], [5, 0], "taken")


def test_an_indexed_error_keeps_its_facts() -> None:
    message = convert.indexed_error(3, SessionLost("gone", next_step=7, durable_step=2))

    assert (message.index, message.error.next_step, message.error.durable_step) == (3, 7, 2)


def test_a_moment_keeps_its_fraction() -> None:
    moment = convert.timestamp(1_700_000_000.25)

    assert (moment.seconds, moment.nanos) == (1_700_000_000, 250_000_000)
