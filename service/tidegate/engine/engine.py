"""The loop that schedules, runs and completes batches of one model version.

Everything here happens in the event loop's thread, except a model run that is expected to take longer
than a hand-over to the engine's thread is worth. One batch runs at a time; frames that arrive
meanwhile form the next one. Who submits frames checks them before: a row that is queued has the number
that its session waits for, counting what is queued before it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from math import inf

import numpy as np

from tidegate.engine.attempt import Outcome, attempt
from tidegate.engine.errands import Errands
from tidegate.engine.frame import EngineFrame, Part
from tidegate.engine.meter import EngineMeter
from tidegate.engine.scheduler import Batch, BatchPart, Feed, Scheduler
from tidegate.errors import DeadlineExpired, InvalidRequest, TidegateError, WrongStep
from tidegate.runner.runner import Runner
from tidegate.telemetry.incidents import incident
from tidegate.tensor import Array, IntArray, SlotArray, index_of

Refusal = Callable[[int], TidegateError]
"""Makes the error for a row from the number of the step that its session waits for."""

INLINE_LIMIT_S = 0.001 if len(os.sched_getaffinity(0)) > 1 else inf
"""A run that is expected to be shorter stays in the event loop; a hand-over costs 50 to 100 µs and may
wait for the interpreter's lock. A process that has one core gains nothing by it."""


class Engine:
    """Runs the frames of one model version.

    Attributes:
        runner: Owns the graph and the arena.
        next_step: Steps applied so far by slot, int64; written here and by who opens sessions.
        meter: What it has done so far.
        errands: What else needs runner or states, between two batches.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        max_batch_size: int,
        max_slice_steps: int,
        max_queue_delay_us: int,
        meter: EngineMeter,
    ) -> None:
        self.runner = runner
        self.next_step: IntArray = np.zeros(runner.arena.capacity + 1, np.int64)
        self._scheduler = Scheduler(
            max_batch_size=max_batch_size, max_slice_steps=max_slice_steps, next_step=self.next_step
        )
        self._max_queue_delay_s = max_queue_delay_us / 1e6
        self.meter = meter
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"engine-{runner.manifest.label}")
        self.errands = Errands(self._executor, self.wake)
        self._turn_is_due = False
        self._running: Batch | None = None
        self._progress: asyncio.Future[None] | None = None
        # What waits for the end of the batch that runs: rows that go no further, and calls.
        self._dropped: list[tuple[EngineFrame, IntArray, Refusal]] = []
        self._calls: list[Callable[[], None]] = []
        self._run_s_by_size = [0.0] * 64

    def submit(self, frame: EngineFrame) -> None:
        """Queue a frame; its parts arrive at `frame.on_part`, the last one marked complete."""
        self._scheduler.add(frame)
        self.wake()

    def feed(self, feed: Feed) -> None:
        """Have frames taken from here too whenever a batch forms; `wake` says that there are some."""
        self._scheduler.feed = feed

    def wake(self) -> None:
        """Look for work soon: a frame has come, or a source is no longer paused."""
        if self._turn_is_due or self._running is not None or self.errands.is_running:
            return
        self._turn_is_due = True
        if self._max_queue_delay_s:
            self._loop.call_later(self._max_queue_delay_s, self._turn)
        else:
            self._loop.call_soon(self._turn)

    def drop(self, slots: SlotArray, error: Refusal) -> None:
        """Refuse everything that waits for `slots`, shape (n,); what runs now is applied, and nothing after it."""
        running = {part.frame: part for part in self._running.parts} if self._running else {}
        for frame in self._scheduler.frames():
            rows = frame.open_rows(slots)
            if (part := running.get(frame)) is not None:
                busy = np.isin(rows, frame.positions(part.rows))
                self._dropped.append((frame, rows[busy], error))
                rows = rows[~busy]
            if len(rows):
                self._refuse(frame, rows, [error(step) for step in self.expected_steps(frame.slots[rows])])

    def expected_steps(self, slots: SlotArray) -> list[int]:
        """The steps that sessions will have applied when the batch that runs is done."""
        expected = self.next_step[slots]
        if self._running is not None:
            expected[np.isin(slots, self._running.slots)] += self._running.num_steps
        steps: list[int] = expected.tolist()
        return steps

    @property
    def is_busy(self) -> bool:
        """Whether rows or errands wait or run."""
        return self._running is not None or bool(self._scheduler) or self.errands.is_busy

    def holds(self, slots: SlotArray) -> bool:
        """Whether the batch that runs holds any of `slots`."""
        return self._running is not None and bool(np.isin(self._running.slots, slots).any())

    def when_settled(self, slots: SlotArray, call: Callable[[], None]) -> None:
        """Call once no batch that runs holds any of `slots`: now, or at its end.

        Nothing of theirs may be waiting: `drop` it before.
        """
        if self.holds(slots):
            self._calls.append(call)
        else:
            call()

    async def settle(self, slots: SlotArray) -> None:
        """Wait until no batch that runs holds any of `slots`; nothing of theirs may be waiting."""
        while self.holds(slots):
            await self.progress()

    async def progress(self) -> None:
        """Wait until steps have been applied or refused."""
        if self._progress is None:
            self._progress = self._loop.create_future()
        await asyncio.shield(self._progress)

    def check_integrity(self) -> None:
        """Raise AssertionError if the engine's or the arena's books do not add up."""
        if self._running is None:
            self._scheduler.check_integrity()
        self.runner.check_integrity()

    def close(self) -> None:
        """Stop the engine's thread; no batch may be running, and what still waits stays undone."""
        self.errands.close()
        self._executor.shutdown(wait=True)

    def _turn(self) -> None:
        """Form a batch and run it, or do an errand, or go idle."""
        self._turn_is_due = False
        if self.errands.is_closed:
            return
        self._expire(time.monotonic())
        self._running = batch = self.errands.or_batch(self._scheduler.take)
        if batch is None:
            return
        started_s = time.monotonic()
        for part in batch.parts:
            part.frame.started_s = part.frame.started_s or started_s
        job = (self.runner, batch.slots, batch.inputs)
        if self._run_s_by_size[batch.size_class] <= INLINE_LIMIT_S:
            self._finish(batch, started_s, attempt(*job))
        else:
            future = self._loop.run_in_executor(self._executor, attempt, *job)
            future.add_done_callback(lambda done: self._finish(batch, started_s, done.result()))

    def _finish(self, batch: Batch, started_s: float, outcome: Outcome) -> None:
        run_s = time.monotonic() - started_s
        self._running = None
        try:
            if outcome.failed:
                mask = np.zeros(len(batch.slots), np.bool_)
                mask[list(outcome.failed)] = True
                self._fail(batch.subset(mask), next(iter(outcome.failed.values())))
                batch = batch.subset(~mask)
            if batch.parts:
                self._apply(batch, outcome.outputs, run_s)
        finally:  # a mistake of ours in one batch must not stop the engine
            self._after_batch()

    def _after_batch(self) -> None:
        dropped, self._dropped = self._dropped, []
        for frame, running, error in dropped:
            rows = running[frame.is_open(running)]
            if len(rows):
                steps = self.next_step[frame.slots[rows]]
                self._refuse(frame, rows, [error(step) for step in steps.tolist()])
                self._drop_successors(frame.slots[rows], steps)
        calls, self._calls = self._calls, []
        for call in calls:
            call()
        self._announce()
        if (self._scheduler or self.errands.is_busy) and not self._turn_is_due:
            self._turn_is_due = True
            # One round of the event loop first: what came in while the batch ran is read and can join.
            # On a busy core gRPC's own threads, which bring it in, would else wait for a time slice.
            os.sched_yield()
            self._loop.call_soon(self._loop.call_soon, self._turn)

    def _announce(self) -> None:
        if self._progress is not None:
            self._progress.set_result(None)
            self._progress = None

    def _apply(self, batch: Batch, outputs: list[Array], run_s: float) -> None:
        """Count the steps and hand the answers out."""
        self.next_step[index_of(batch.slots)] += batch.num_steps
        # Before anything that can fail: what has run must never be thought ready again.
        for part in batch.parts:
            ends = part.step_offset + batch.num_steps == part.frame.num_steps
            part.frame.advance(part.rows, part.num_rows, batch.num_steps, ends=ends)
        self._run_s_by_size[batch.size_class] = run_s
        self.meter.batch(len(batch.slots), batch.num_steps, run_s)
        start = 0
        for part in batch.parts:
            end = start + part.num_rows
            self._answer(part, batch.num_steps, [o[start:end] for o in outputs], run_s)
            start = end

    def _answer(self, part: BatchPart, num_steps: int, outputs: list[Array], run_s: float) -> None:
        frame = part.frame
        frame.run_s += run_s
        wanted = frame.select(outputs, part.step_offset)
        answer = Part(part.rows, part.num_rows, part.step_offset, num_steps, wanted)
        if not frame.joins_kept(answer):
            self._flush(frame)
        frame.keep(answer)
        self._scheduler.progressed(frame)
        if not frame.num_open or not frame.more_is_ready(self.next_step, part.step_offset):
            self._flush(frame)

    def _flush(self, frame: EngineFrame) -> None:
        """Send the answers that were kept back, as one part."""
        answer = frame.take_kept()
        if answer is None:
            return
        answer.complete = frame.num_open == 0
        answer.queue_s, answer.run_s = frame.started_s - frame.arrived_s, frame.run_s
        self.meter.answered(frame, answer, time.monotonic())
        self._deliver(frame, answer)

    def _refuse(self, frame: EngineFrame, rows: IntArray, errors: Sequence[TidegateError]) -> None:
        """Close rows with an error, after the answers that they already have."""
        self._flush(frame)
        frame.finish(rows)
        self.meter.refused(frame, len(rows), time.monotonic())
        self._scheduler.refused(frame.slots[rows])
        if not frame.num_open:
            self._scheduler.remove(frame)
        self._deliver(frame, Part(rows, len(rows), 0, 0, errors=errors, complete=not frame.num_open))
        self._announce()

    def _deliver(self, frame: EngineFrame, part: Part) -> None:
        """Hand a part to whoever sent the frame; a receiver that fails harms no other frame."""
        try:
            frame.on_part(part)
        except Exception as error:
            incident(error)

    def _expire(self, now_s: float) -> None:
        """Refuse rows whose time limit has passed before any of their steps ran."""
        for frame in self._scheduler.past_deadline(now_s):
            rows = frame.untouched_rows()
            if len(rows):
                text = f"time_limit_us: {(now_s - frame.arrived_s) * 1e6:.0f} µs passed before the step could start"
                self._refuse(frame, rows, [DeadlineExpired(text) for _ in rows])
                self._drop_successors(frame.slots[rows], frame.first_steps[rows])

    def _fail(self, batch: Batch, error: Exception) -> None:
        """Refuse rows that the model cannot run; if their values are not to blame, one incident stands for them."""
        public = error if isinstance(error, InvalidRequest) else incident(error)
        for part in batch.parts:
            rows = part.frame.positions(part.rows)
            self._refuse(part.frame, rows, [copy(public) for _ in rows])
        self._drop_successors(batch.slots, self.next_step[batch.slots])

    def _drop_successors(self, slots: SlotArray, steps: IntArray) -> None:
        """Refuse what was queued behind refused steps of sessions, and would leave a gap.

        What was queued before them goes on: a long history does not end for a later step's time limit.
        """
        refused = dict(zip(slots.tolist(), steps.tolist(), strict=True))
        for frame in self._scheduler.frames():
            rows = frame.open_rows(slots)
            expected = np.array([refused[slot] for slot in frame.slots[rows].tolist()], np.int64)
            behind = frame.first_steps[rows] > expected
            if behind.any():
                late = expected[behind].tolist()
                errors = [
                    WrongStep(f"step {step} before it was refused", expected_step=step) for step in late
                ]
                self._refuse(frame, rows[behind], errors)
