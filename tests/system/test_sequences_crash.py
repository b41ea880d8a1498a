"""Sequences of a server that is killed or stopped at any moment: exactly once where that is promised, never wrong.

`TIDEGATE_TEST_SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from grpc import aio

from support.metrics import becomes
from support.open_inference import Refused, infer, request
from support.raw_stream import connect
from support.restarting import RestartingServer
from support.sequence_courses import IN_FLIGHT, Course, draw_courses
from support.waiting import eventually, until

NUM_SEQUENCES = 12
NUM_STEPS = 300
NUM_CRASHES = 2
BACKGROUND = "--sequence-durability=background"
RARELY = ("--checkpoint-age-s", "1000")


async def play(
    server: RestartingServer, courses: list[Course], end: Callable[[], None], *, after: int
) -> None:
    """Let clients go on until `after` more steps were answered, then end the server under them."""
    target = sum(len(c.answers) for c in courses) + after
    async with connect(server.address) as channel:
        playing = [asyncio.create_task(course.go_on(channel)) for course in courses if not course.is_done]
        everything = asyncio.gather(*playing)
        await until(lambda: sum(len(c.answers) for c in courses) >= target or everything.done())
        await asyncio.to_thread(end)
        await everything


async def finish(channel: aio.Channel, courses: list[Course]) -> None:
    """Let all clients come to their ends, and hold what they were answered against what they should have been."""
    await asyncio.gather(*(course.go_on(channel) for course in courses))
    assert all(course.is_done for course in courses)
    for course in courses:
        await course.check(channel)
        refused = await course.ask_blindly(channel)
        assert refused.code == "NOT_FOUND", "it has ended"


async def nothing_is_left(server: RestartingServer) -> None:
    """No session is in memory or in the store."""

    await becomes(server.process, 0, "tidegate_stored_sessions")
    await becomes(server.process, 0, "tidegate_sessions")


@pytest.mark.slow
async def test_no_step_is_lost_or_repeated_by_kill_9_where_answers_wait_for_the_store(
    small_models: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    courses = draw_courses(rng, NUM_SEQUENCES, num_steps=NUM_STEPS)
    async with RestartingServer(small_models, tmp_path, "--detached-idle-timeout-s=4") as server:
        for _ in range(NUM_CRASHES):
            after = int(rng.integers(1, NUM_SEQUENCES * NUM_STEPS // (NUM_CRASHES + 2)))
            await play(server, courses, server.process.kill, after=after)
            await server.start()
        async with connect(server.address) as channel:
            await finish(channel, courses)
        await nothing_is_left(server)

    for course in courses:
        if not course.counts:
            # Whoever repeats requests by their ids has all answers, but for an end that a crash has cut off.
            missing = set(range(NUM_STEPS)) - set(course.answers)
            assert missing <= set(range(course.firsts[-2], NUM_STEPS))


@pytest.mark.slow
async def test_a_graceful_stop_loses_nothing_where_answers_do_not_wait(
    small_models: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    courses = draw_courses(rng, NUM_SEQUENCES, num_steps=NUM_STEPS)
    async with RestartingServer(small_models, tmp_path, BACKGROUND, *RARELY) as server:
        after = int(rng.integers(1, NUM_SEQUENCES * NUM_STEPS // 2))
        await play(server, courses, lambda: _stop(server), after=after)
        await server.start()
        async with connect(server.address) as channel:
            await finish(channel, courses)


def _stop(server: RestartingServer) -> None:
    assert server.process.stop() == 0, server.process.log()


@pytest.mark.slow
async def test_what_a_crash_may_have_cost_is_told_and_nothing_goes_on_wrong_where_answers_do_not_wait(
    small_models: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    courses, num_lost = draw_courses(rng, NUM_SEQUENCES, num_steps=NUM_STEPS), 0
    async with RestartingServer(small_models, tmp_path, BACKGROUND) as server:
        for _ in range(NUM_CRASHES):
            after = int(rng.integers(1, NUM_SEQUENCES * NUM_STEPS // (NUM_CRASHES + 2)))
            await play(server, courses, server.process.kill, after=after)
            await server.start()
            async with connect(server.address) as channel:
                for course in courses:
                    num_lost += await _learn_the_damage(channel, course)
        async with connect(server.address) as channel:
            await finish(channel, courses)
    assert num_lost > 0, "everything was stored before it was answered: nothing was tested"


async def _learn_the_damage(channel: aio.Channel, course: Course) -> int:
    """Find out what the crash has left of a sequence, and have its client send again from there.

    Returns:
        Steps that had been answered and are gone.
    """
    refused = await course.ask_blindly(channel)
    if refused.code == "NOT_FOUND":
        assert course.is_done or course.next_step in (0, *course.firsts[-1 - IN_FLIGHT : -1]), (
            "only what had not begun, or was ending"
        )
        return 0
    assert refused.code == "DATA_LOSS", refused
    stored = _last_step_in(refused)
    with pytest.raises(Refused) as wrong:
        await infer(channel, request(course.x[:1], sequence=course.id, step=stored + 1))
    assert wrong.value.code == "DATA_LOSS"
    num_lost = max(0, course.next_step - stored)
    course.stands_at(stored)
    return num_lost


def _last_step_in(refused: Refused) -> int:
    """The stored step that the text tells."""
    _, _, behind = refused.text.partition("is stored up to step ")
    return int(behind.partition(",")[0])


@pytest.mark.slow
async def test_marks_of_a_crash_count_whatever_the_next_server_promises(
    small_models: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    first, second = courses = draw_courses(rng, 2, num_steps=30)
    async with RestartingServer(small_models, tmp_path, BACKGROUND) as server:

        async def both_are_stored() -> bool:
            with closing(sqlite3.connect(f"file:{server.store}?mode=ro", uri=True)) as reader:
                ((count,),) = reader.execute("SELECT count(*) FROM session_overview WHERE next_step > 0")
            return bool(count == len(courses))

        async with connect(server.address) as channel:
            await asyncio.gather(*(course.go_on(channel, leave=8) for course in courses))
            await eventually(both_are_stored)
        server.process.kill()

        await server.start("--sequence-durability=before-answer")
        async with connect(server.address) as channel:
            refused = await first.ask_blindly(channel)
            assert refused.code == "DATA_LOSS"
            first.stands_at(_last_step_in(refused))
            assert first.next_step > 0
            await first.go_on(channel, leave=4)
        server.process.kill()

        await server.start()
        async with connect(server.address) as channel:
            refused = await second.ask_blindly(channel)
            assert refused.code == "DATA_LOSS", "nobody has said yet where it stands"
            second.stands_at(_last_step_in(refused))
            await first.go_on(channel)  # stored before it was answered, so it just goes on
            await finish(channel, courses)


@pytest.mark.slow
async def test_a_repeat_gets_its_answer_before_and_after_a_crash_and_takes_no_step(
    small_models: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    x = rng.normal(0, 1, (4, 3)).astype(np.float32)

    def step(first: int, request_id: str) -> object:
        return request(
            x[first : first + 1], sequence=5, request_id=request_id, start=first == 0, end=first == 3
        )

    async with RestartingServer(small_models, tmp_path) as server:
        async with connect(server.address) as channel:
            answers = [await infer(channel, step(0, "a")), await infer(channel, step(0, "a"))]
            answers += [await infer(channel, step(1, "b")), await infer(channel, step(1, "b"))]
        server.process.kill()
        await server.start()
        async with connect(server.address) as channel:
            answers += [await infer(channel, step(1, "b")), await infer(channel, step(1, "b"))]
            answers += [await infer(channel, step(2, "c"))]
            with pytest.raises(Refused) as refused:
                await infer(channel, step(1, "c"))
            answers += [await infer(channel, step(3, "d")), await infer(channel, step(3, "d"))]
            whole = await infer(channel, request(x))

    assert refused.value.code == "INVALID_ARGUMENT"
    assert [a.first_step for a in answers] == [0, 0, 1, 1, 1, 1, 2, 3, 3]
    assert [a.y[0].tobytes() for a in answers] == [whole.y[a.first_step].tobytes() for a in answers]
