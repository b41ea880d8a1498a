"""The loop around the scheduler, with real models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.engine_bench import Answers, EngineBench
from support.odd_models import counter_package
from support.onnx_models import lstm_package, rnn_package, table_package
from tidegate.engine.frame import ALL_ROWS, Part, Source
from tidegate.errors import DeadlineExpired, InvalidRequest, WrongStep
from tidegate.protocol.outputs import OutputSelection
from tidegate.tensor import Array

Maker = Callable[..., EngineBench]
LONG_AGO_S = 1.0
"""A deadline on the monotonic clock that has passed."""


def ones(num_rows: int, num_steps: int) -> Array:
    return np.ones((num_rows, num_steps, 2), np.float32)


def indices(*rows: list[int]) -> Array:
    """Input of the table model: one list of indices per row."""
    return np.array(rows, np.int64)[:, :, None]


async def test_a_frame_larger_than_the_batch_is_answered_at_once(tmp_path: Path, make_bench: Maker) -> None:
    bench = make_bench(counter_package(tmp_path), max_batch_size=4)
    x = np.arange(20, dtype=np.float32).reshape(10, 1, 2)

    answers = bench.submit(list(range(1, 11)), x)
    await bench.until_complete(answers)

    assert [(p.rows, p.num_rows, p.complete) for p in answers.parts] == [(ALL_ROWS, 10, True)]
    np.testing.assert_array_equal(answers.parts[0].outputs[0], x)


async def test_a_long_frame_is_answered_slice_by_slice(tmp_path: Path, make_bench: Maker) -> None:
    bench = make_bench(counter_package(tmp_path), max_slice_steps=4)

    answers = bench.submit([1], ones(1, 10))
    await bench.until_complete(answers)

    assert [(p.step_offset, p.num_steps, p.complete) for p in answers.parts] == [
        (0, 4, False),
        (4, 4, False),
        (8, 2, True),
    ]
    assert answers.row(0)[:, 0].tolist() == list(range(1, 11))


@pytest.mark.parametrize("selection", [OutputSelection.LAST, OutputSelection.NONE])
async def test_only_the_answers_that_are_wanted_come_back(
    tmp_path: Path, make_bench: Maker, selection: OutputSelection
) -> None:
    bench = make_bench(counter_package(tmp_path), max_slice_steps=4)

    answers = bench.submit([1], ones(1, 6), outputs=selection)
    await bench.until_complete(answers)

    given = [o[0, :, 0].tolist() for p in answers.parts for o in p.outputs]
    assert given == ([[6.0]] if selection is OutputSelection.LAST else [])
    assert sum(p.num_steps for p in answers.parts) == 6


@pytest.mark.parametrize("make_package", [lstm_package, rnn_package])
async def test_answers_are_those_of_one_session_alone(
    tmp_path: Path, make_bench: Maker, make_package: Callable[[Path], Path]
) -> None:
    bench = make_bench(make_package(tmp_path), max_batch_size=4, max_slice_steps=3)
    x = np.random.default_rng(1).normal(0, 1, (6, 7, 3)).astype(np.float32)
    alone = np.stack(
        [bench.runner.step(np.array([20 + i], np.int32), [x[i : i + 1]])[0][0] for i in range(6)]
    )

    first = bench.submit([1, 2, 3, 4, 5, 6], x[:, :2])
    second = bench.submit([6, 1, 2], x[[5, 0, 1], 2:])
    third = bench.submit([5, 4, 3], x[[4, 3, 2], 2:], source=Source())
    await bench.until_complete(first, second, third)

    got = {
        s: np.concatenate([first.row(s - 1), a.row(i)])
        for a, slots in ((second, [6, 1, 2]), (third, [5, 4, 3]))
        for i, s in enumerate(slots)
    }
    for slot, answers in got.items():
        assert answers.tobytes() == alone[slot - 1].tobytes()


async def test_rows_and_steps_are_counted_once(tmp_path: Path, make_bench: Maker) -> None:
    bench = make_bench(counter_package(tmp_path), max_slice_steps=4)

    await bench.until_complete(bench.submit([1, 2], ones(2, 9)))

    assert bench.counted("tidegate_rows_total") == 2
    assert bench.counted("tidegate_steps_total") == 18
    assert bench.counted("tidegate_frames_total") == 1


async def test_a_queue_delay_gathers_company(tmp_path: Path, make_bench: Maker) -> None:
    bench = make_bench(counter_package(tmp_path), delay_us=200_000)

    first = bench.submit([1], ones(1, 1))
    await asyncio.sleep(0)
    second = bench.submit([2], ones(1, 1))
    await bench.until_complete(first, second)

    assert bench.counted("tidegate_batch_rows_count") == 1


async def test_a_turn_that_is_due_when_the_engine_is_closed_does_nothing(
    tmp_path: Path, make_bench: Maker, in_thread: None
) -> None:
    bench, mistakes = make_bench(counter_package(tmp_path)), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: mistakes.append(context))

    answers = bench.submit([1], ones(1, 1))
    bench.engine.close()
    for _ in range(3):
        await asyncio.sleep(0)

    assert (mistakes, answers.parts) == ([], [])


async def test_a_late_frame_is_refused_before_any_step_and_so_are_its_successors(
    tmp_path: Path, make_bench: Maker
) -> None:
    bench = make_bench(counter_package(tmp_path))
    late = bench.submit([1, 2], ones(2, 2), deadline_s=LONG_AGO_S)
    behind = bench.submit([2, 3], ones(2, 1))

    await bench.until_complete(late, behind)

    assert {row: type(e) for row, e in late.errors.items()} == {0: DeadlineExpired, 1: DeadlineExpired}
    assert "time_limit_us: " in str(late.errors[0])
    assert {row: (type(e), e.facts) for row, e in behind.errors.items()} == {
        0: (WrongStep, {"expected_step": 0})
    }
    assert bench.engine.next_step[1:4].tolist() == [0, 0, 1]


async def test_a_time_limit_ends_no_history_that_was_sent_before(tmp_path: Path, make_bench: Maker) -> None:
    bench = make_bench(counter_package(tmp_path))
    history = bench.submit([1], ones(1, 20))
    late = bench.submit([1], ones(1, 1), deadline_s=LONG_AGO_S)
    behind = bench.submit([1], ones(1, 1))

    await bench.until_complete(history, late, behind)

    assert history.row(0)[:, 0].tolist() == list(range(1, 21))
    assert isinstance(late.errors[0], DeadlineExpired)
    assert behind.errors[0].facts == {"expected_step": 20}


async def test_a_step_sent_again_after_a_time_limit_runs_behind_the_history(
    tmp_path: Path, make_bench: Maker, in_thread: None
) -> None:
    bench = make_bench(counter_package(tmp_path))
    history = bench.submit([1], ones(1, 20))
    late = bench.submit([1], ones(1, 1), deadline_s=LONG_AGO_S)
    await bench.batch_starts(1)
    assert late.complete
    bench.accepted[1] = 20

    again = bench.submit([1], ones(1, 1))
    await bench.until_complete(history, again)

    assert again.row(0)[0, 0] == 21


async def test_a_started_frame_is_finished_whatever_its_time_limit(tmp_path: Path, make_bench: Maker) -> None:
    bench = make_bench(counter_package(tmp_path))
    answers = bench.submit([1], ones(1, 12), deadline_s=time.monotonic() + 3600)
    await bench.engine.progress()
    assert answers.parts
    assert not answers.complete
    for frame in bench.engine._scheduler.frames():
        frame.deadline_s = LONG_AGO_S

    await bench.until_complete(answers)

    assert answers.errors == {}


async def test_a_row_that_the_model_cannot_run_fails_alone(tmp_path: Path, make_bench: Maker) -> None:
    bench = make_bench(table_package(tmp_path, size=4), max_batch_size=8)
    bad = bench.submit([1, 2, 3], indices([1], [9], [1]))
    stranger = bench.submit([4, 5], indices([1], [1]), source=Source())

    await bench.until_complete(bad, stranger)

    assert {row: type(e) for row, e in bad.errors.items()} == {1: InvalidRequest}
    assert stranger.errors == {}
    expected = bench.runner.step(np.array([20], np.int32), [indices([1])])[0][0]
    for row in (bad.row(0), bad.row(2), stranger.row(0), stranger.row(1)):
        assert row.tobytes() == expected.tobytes()
    assert bench.engine.next_step[1:6].tolist() == [1, 0, 1, 1, 1]
    assert bench.runner.arena.is_initial(2)


async def test_rows_that_fail_together_share_an_incident_but_no_error(
    tmp_path: Path, make_bench: Maker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench(table_package(tmp_path, size=4))

    def fail(*_: object) -> None:
        raise MemoryError("of 4 bytes")

    monkeypatch.setattr(bench.runner, "step", fail)
    answers = bench.submit([1, 2], indices([1], [1]))
    await bench.until_complete(answers)

    first, second = answers.errors[0], answers.errors[1]
    assert first is not second
    assert first.facts == second.facts != {}
    assert "4 bytes" not in str(first)
    assert len(caplog.records) == 1


async def test_values_that_a_model_cannot_run_are_no_incident(
    tmp_path: Path, make_bench: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench(table_package(tmp_path, size=4))

    answers = bench.submit([1, 2], indices([9], [-9]))
    await bench.until_complete(answers)

    first, second = answers.errors[0], answers.errors[1]
    assert first is not second
    assert str(first).startswith("inputs: table/1 cannot run these values: a node of its graph refuses them")
    assert caplog.records == []


async def test_what_was_queued_behind_a_failed_step_is_refused(tmp_path: Path, make_bench: Maker) -> None:
    bench = make_bench(table_package(tmp_path, size=4))
    failed = bench.submit([1], indices([1, 2, 9, 1]))
    behind = bench.submit([1, 2], indices([1], [1]))

    await bench.until_complete(failed, behind)

    assert isinstance(failed.errors[0], InvalidRequest)
    assert {row: e.facts for row, e in behind.errors.items()} == {
        0: {"expected_step": int(bench.engine.next_step[1])}
    }
    assert bench.engine.next_step[2] == 1


async def test_a_receiver_that_fails_harms_no_other_frame(tmp_path: Path, make_bench: Maker) -> None:
    bench = make_bench(counter_package(tmp_path))

    def broken(_: Part) -> None:
        raise RuntimeError("the receiver is broken")

    bench.submit([1], ones(1, 1), on_part=broken)
    answers = bench.submit([2], ones(1, 1))
    await bench.until_complete(answers)

    assert answers.row(0)[0, 0] == 1
    assert bench.engine.next_step[1] == 1


async def test_a_receiver_that_wakes_the_engine_gets_every_step_once(
    tmp_path: Path, make_bench: Maker, in_thread: None
) -> None:
    bench = make_bench(counter_package(tmp_path), max_slice_steps=1)
    answers = Answers(1)

    def wake(part: Part) -> None:
        answers(part)
        bench.engine.wake()

    bench.submit([1], ones(1, 10), on_part=wake)
    await bench.until_complete(answers)

    assert answers.row(0)[:, 0].tolist() == list(range(1, 11))


async def test_a_paused_source_goes_on_when_it_is_woken(tmp_path: Path, make_bench: Maker) -> None:
    bench, source = make_bench(counter_package(tmp_path)), Source()
    source.paused = True
    waiting = bench.submit([1], ones(1, 1), source=source)
    await bench.until_complete(bench.submit([2], ones(1, 1)))
    assert waiting.parts == []

    source.paused = False
    bench.engine.wake()
    await bench.until_complete(waiting)

    assert waiting.row(0)[0, 0] == 1
