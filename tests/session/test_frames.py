"""From bytes to rows, and from the engine's parts to answers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from support.session_bench import LIMITS, SessionBench
from tidegate.engine.frame import ALL_ROWS, Part
from tidegate.errors import InternalError, InvalidRequest, MessageTooLarge, WrongStep
from tidegate.model.manifest import InputSpec, Manifest, OutputSpec
from tidegate.protocol.outputs import OutputSelection
from tidegate.session.frames import (
    Answer,
    Delivery,
    FrameRequest,
    check_form,
    decode_inputs,
    judge_rows,
    refuse_all,
)
from tidegate.session.table import SessionTable
from tidegate.tensor import DType

MANIFEST = Manifest(
    name="m",
    version="1",
    sha256="0" * 64,
    inputs=(
        InputSpec(name="x", dtype=DType.FLOAT32, shape=("batch", 2)),
        InputSpec(name="n", dtype=DType.INT16, shape=("batch",)),
    ),
    outputs=(OutputSpec(name="y", dtype=DType.FLOAT32, shape=("batch", 1)),),
)


def request_of(
    num_rows: int = 2, num_steps: int = 3, first_steps: int | None = None, inputs: list[bytes] | None = None
) -> FrameRequest:
    return FrameRequest(
        frame_id=5,
        handles=np.arange(1, num_rows + 1, dtype=np.uint32),
        num_steps=num_steps,
        first_steps=np.zeros(num_rows if first_steps is None else first_steps, np.int64),
        inputs=inputs or [],
        outputs=OutputSelection.ALL,
        time_limit_s=None,
        arrived_s=0.0,
    )


@pytest.mark.parametrize(
    ("request_", "error", "text"),
    [
        (request_of(num_rows=0), InvalidRequest, "handles: expected at least one row, got none"),
        (request_of(num_steps=0), InvalidRequest, "num_steps: expected at least 1, got 0"),
        (request_of(first_steps=3), InvalidRequest, "first_steps: expected one number per row (2), got 3"),
        (request_of(num_rows=9), MessageTooLarge, "handles: expected at most 8 rows, got 9"),
        (request_of(num_steps=65), MessageTooLarge, "num_steps: expected at most 64, got 65"),
    ],
)
def test_a_frame_of_the_wrong_form_is_refused_whole(
    request_: FrameRequest, error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        check_form(request_, LIMITS)
    assert str(caught.value) == text


def test_the_limits_themselves_are_allowed() -> None:
    check_form(request_of(num_rows=8, num_steps=64), LIMITS)


def test_inputs_are_viewed_without_copying() -> None:
    x, n = np.arange(12, dtype="<f4"), np.arange(6, dtype="<i2")
    raw = [x.tobytes(), n.tobytes()]

    arrays = decode_inputs(MANIFEST, request_of(inputs=raw))

    np.testing.assert_array_equal(arrays[0], x.reshape(2, 3, 2))
    np.testing.assert_array_equal(arrays[1], n.reshape(2, 3))
    assert not any(a.flags.owndata for a in arrays)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([bytes(48)], "inputs: m/1 takes 2 ('x', 'n'), got 1"),
        ([bytes(47), bytes(12)], "inputs: 'x' expected 48 bytes for float32 [2, 3, 2], got 47"),
        ([bytes(48), bytes(24)], "inputs: 'n' expected 12 bytes for int16 [2, 3], got 24"),
    ],
)
def test_bytes_that_are_not_the_models_are_refused(inputs: list[bytes], text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_inputs(MANIFEST, request_of(inputs=inputs))
    assert str(caught.value) == text


@pytest.fixture
async def table(bench: SessionBench) -> SessionTable:
    table = SessionTable(await bench.pool.load("counter"))
    table.create(["a", "b", "c"], range(1, 4), creator=b"", attempt=0, epoch=1)
    table.accepted[1:4] = 10
    return table


SLOTS = np.array([1, 2, 3], np.int32)


def test_rows_are_judged_by_number_then_by_value(table: SessionTable) -> None:
    x = np.zeros((3, 2, 2), np.float32)
    x[0, 1, 1], x[1, 0, 0] = np.nan, np.inf

    refusals = judge_rows(table, SLOTS, np.array([10, 9, 10]), [x])

    assert set(refusals) == {0, 1}
    assert str(refusals[0]) == "inputs: 'x'[1] of step 1 of the row: expected a finite value, got nan"
    assert isinstance(refusals[1], WrongStep)
    assert refusals[1].expected_step == 10


def test_a_model_that_takes_missing_values_takes_no_infinity(table: SessionTable) -> None:
    manifest = table.model.manifest
    lenient = manifest.inputs[0].model_copy(update={"accepts_missing": True})
    table.model.manifest = manifest.model_copy(update={"inputs": (lenient,)})
    x = np.zeros((3, 1, 2), np.float32)
    x[0, 0, 0], x[1, 0, 0] = np.nan, -np.inf

    refusals = judge_rows(table, SLOTS, np.array([10, 10, 10]), [x])

    assert {row: str(e) for row, e in refusals.items()} == {
        1: "inputs: 'x'[0] of step 0 of the row: expected a finite value or NaN, got -inf"
    }


def delivered(
    table: SessionTable, rows: list[int] | None, refused: list[int], num_rows: int, *parts: Part
) -> list[Answer]:
    slots = SLOTS[: num_rows - len(refused)]
    refusals = {row: InvalidRequest(f"row {row}") for row in refused}
    answers: list[Answer] = []
    delivery = Delivery(
        dataclasses.replace(
            request_of(num_rows=num_rows, inputs=[bytes(7)]), first_steps=np.full(num_rows, 10)
        ),
        table,
        slots,
        None if rows is None else np.array(rows),
        dict(refusals),
        answers.append,
    )
    for part in parts:
        delivery(part)
    return answers


def part_of(rows: object, num_rows: int, *, complete: bool, step_offset: int = 0) -> Part:
    outputs = np.arange(num_rows, dtype=np.float32).reshape(num_rows, 1, 1)
    return Part(rows, num_rows, step_offset, 1, [outputs], complete=complete, queue_s=0.5, run_s=0.25)  # type: ignore[arg-type]


def test_a_whole_frame_is_answered_without_naming_rows(table: SessionTable) -> None:
    (answer,) = delivered(table, None, [], 3, part_of(ALL_ROWS, 3, complete=True))

    assert (answer.frame_id, answer.rows, answer.errors, answer.complete) == (5, None, {}, True)
    assert (answer.queue_s, answer.run_s, answer.request_bytes) == (0.5, 0.25, 7)


def test_refused_rows_are_filled_with_nan_beside_the_others(table: SessionTable) -> None:
    (answer,) = delivered(table, [0, 2], [1], 3, part_of(ALL_ROWS, 2, complete=True))

    assert answer.rows is None
    np.testing.assert_array_equal(answer.outputs[0].ravel(), [0, np.nan, 1])
    assert set(answer.errors) == {1}


def test_refused_rows_go_ahead_when_the_others_are_answered_in_parts(table: SessionTable) -> None:
    first, second = part_of(np.array([1]), 1, complete=False), part_of(np.array([0]), 1, complete=True)

    answers = delivered(table, [0, 2], [1], 3, first, second)

    assert [None if a.rows is None else a.rows.tolist() for a in answers] == [[1], [2], [0]]
    assert [set(a.errors) for a in answers] == [{1}, set(), set()]
    assert [a.complete for a in answers] == [False, False, True]
    assert [a.request_bytes for a in answers] == [0, 0, 7]


def test_a_row_that_the_engine_refuses_is_told_by_its_position_in_the_frame(table: SessionTable) -> None:
    table.accepted[1:4] = 13
    refused = Part(np.array([1]), 1, 0, 0, errors=[InternalError("x")])

    answers = delivered(table, [0, 2], [1], 3, refused, part_of(np.array([0]), 1, complete=True))

    assert set(answers[1].errors) == {2}
    assert table.accepted[1:4].tolist() == [13, 10, 13]


def test_a_frame_none_of_whose_rows_is_good_gets_one_answer() -> None:
    answer = refuse_all(request_of(inputs=[bytes(9)]), {0: InvalidRequest("a"), 1: InvalidRequest("b")})

    assert (answer.rows, answer.num_steps, answer.outputs, answer.complete) == (None, 0, [], True)
    assert answer.request_bytes == 9
