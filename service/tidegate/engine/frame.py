"""A frame in the engine: the rows of one message that are still to be run, and the answers so far.

A row's steps run in order; rows of one frame may stand at different steps, because a row waits for
what its session was sent before. `next_step[slot]`, the engine's count of applied steps, alone says
whether a row may run: nothing else orders frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tidegate.errors import TidegateError
from tidegate.protocol.outputs import OutputSelection
from tidegate.tensor import Array, BoolArray, IntArray, SlotArray, agree

Rows = IntArray | slice
"""Positions in a frame; `ALL_ROWS` selects without copying."""

ALL_ROWS = slice(None)
FINISHED = -1


class ReadyRows(NamedTuple):
    """Rows of a frame that can run now.

    Attributes:
        rows: Their positions, ascending.
        num_rows: How many they are.
        step_offset: Steps of the frame that each of them has run.
    """

    rows: Rows
    num_rows: int
    step_offset: int


@dataclass(slots=True)
class Part:
    """Answers, or refusals, for some rows and steps of a frame.

    Attributes:
        rows: Positions in the frame, ascending.
        num_rows: How many they are.
        step_offset: Steps of the frame before the first one answered here.
        num_steps: Steps answered here; 0 for refused rows.
        outputs: One array per model output, `[k, steps, step_shape...]`; empty where none are wanted.
        errors: One per row for refused rows, else empty.
        complete: No row of the frame is open any more.
        queue_s: From the frame's arrival to the start of the run, in seconds.
        run_s: In the run, in seconds.
    """

    rows: Rows
    num_rows: int
    step_offset: int
    num_steps: int
    outputs: list[Array] = field(default_factory=list)
    errors: Sequence[TidegateError] = ()
    complete: bool = False
    queue_s: float = 0.0
    run_s: float = 0.0


class Source:
    """Where frames come from: one stream, or one single call. Turns go round sources.

    Attributes:
        congested: Answers of it wait to be sent: no slice of a history runs until they are, so that the
            answer to a single step finds a short queue.
        paused: Its answers are not being read: nothing of it runs until they are.
    """

    __slots__ = ("congested", "paused")

    def __init__(self) -> None:
        self.congested = False
        self.paused = False


class EngineFrame:
    """The accepted rows of one frame.

    Attributes:
        slots: Session of each row, shape (n,), int32, no two alike.
        first_steps: Number of each row's first step, shape (n,), int64.
        inputs: One array per model input, `[n, T, step_shape...]`.
        num_steps: T.
        num_open: Rows that are not finished.
        started_s: When its first run began; 0 before.
        run_s: Seconds in runs so far.
        followers: Frames that were queued behind this one for some session; the scheduler's.
        number: Counts the frames of the engine; the scheduler's.
        parked: It is known that no row is ready; the scheduler's.
    """

    __slots__ = (
        "_done", "_is_next", "_kept", "_wanted", "arrived_s", "deadline_s", "first_steps", "followers", "inputs",
        "num_open", "num_steps", "number", "on_part", "outputs", "parked", "run_s", "slots", "source",
        "started_s",
    )  # fmt: skip

    def __init__(
        self,
        slots: SlotArray,
        first_steps: IntArray,
        inputs: Sequence[Array],
        *,
        outputs: OutputSelection,
        source: Source,
        arrived_s: float,
        deadline_s: float | None,
        on_part: Callable[[Part], None],
    ) -> None:
        self.slots = slots
        self.first_steps = first_steps
        self.inputs = inputs
        self.num_steps: int = inputs[0].shape[1]
        self.outputs = outputs
        self.source = source
        self.arrived_s = arrived_s
        self.deadline_s = deadline_s
        self.on_part = on_part
        self.num_open = len(slots)
        self.started_s = 0.0
        self.run_s = 0.0
        self.followers: list[EngineFrame] = []
        self.parked = False
        self.number = 0
        # Rows stay at one position as long as they run together, and then need no array to say where.
        self._done = 0
        # The step that each row runs next; FINISHED, which no session waits for, when it runs no more.
        # None while all rows are open and have run `_done` steps.
        self._wanted: IntArray | None = None
        # All of them are what their sessions wait for. It stays so until they run: nothing else advances
        # a session whose next step waits here.
        self._is_next = False
        # Answers to some rows, kept back while others of the frame are about to run.
        self._kept: list[Part] = []

    def ready(self, next_step: IntArray) -> ReadyRows | None:
        """Rows whose next step is the one that their session waits for, all at the same position.

        Where they stand at different positions, those that are furthest behind. None when there are none.
        """
        if self.num_open == 0:
            return None
        if self._is_next:
            return ReadyRows(ALL_ROWS, len(self.slots), self._done)
        wanted = self._next_steps()
        if self._wanted is None and agree(next_step, self.slots, wanted):
            self._is_next = True
            return ReadyRows(ALL_ROWS, len(self.slots), self._done)
        waits = next_step[self.slots] == wanted
        rows = waits.nonzero()[0]
        if not len(rows):
            return None
        positions = wanted[rows] - self.first_steps[rows]
        behind = int(positions.min())
        rows = rows[positions == behind]
        return ReadyRows(rows, len(rows), behind)

    def open_rows(self, slots: SlotArray) -> IntArray:
        """Unfinished rows that belong to any of `slots`."""
        # Asked of every waiting frame whenever a stream is lost, most often for its one session.
        mine = self.slots == slots[0] if len(slots) == 1 else np.isin(self.slots, slots)
        return np.flatnonzero(mine & (self._next_steps() != FINISHED))

    def is_open(self, rows: IntArray) -> BoolArray:
        """Which of these rows are unfinished, shape of `rows`."""
        mask: BoolArray = self._next_steps()[rows] != FINISHED
        return mask

    def positions(self, rows: Rows) -> IntArray:
        """The numbers of rows that are given either way."""
        return np.arange(len(self.slots))[rows]

    def untouched_rows(self) -> IntArray:
        """Rows none of whose steps has run."""
        return np.flatnonzero(self._next_steps() == self.first_steps)

    def finish(self, rows: IntArray) -> None:
        """Close rows without running the rest of them."""
        self._part()[rows] = FINISHED
        self.num_open -= len(rows)

    def advance(self, rows: Rows, num_rows: int, num_steps: int, *, ends: bool) -> None:
        """Count steps that have run.

        Args:
            rows: All at the same position.
            num_rows: How many they are.
            num_steps: Steps that each has run.
            ends: Those were their last.
        """
        if ends:
            self.num_open -= num_rows
        if self._wanted is None and num_rows == len(self.slots):
            self._done += num_steps
        elif ends:
            self._part()[rows] = FINISHED
        else:
            self._part()[rows] += num_steps

    def select(self, outputs: list[Array], step_offset: int) -> list[Array]:
        """What the client wants of the answers of a run that began at `step_offset`."""
        if self.outputs is OutputSelection.ALL:
            return outputs
        ends = step_offset + outputs[0].shape[1] == self.num_steps if outputs else False
        return [o[:, -1:] for o in outputs] if self.outputs is OutputSelection.LAST and ends else []

    def joins_kept(self, part: Part) -> bool:
        """Whether an answer covers the same steps as those kept back."""
        return not self._kept or (
            self._kept[0].step_offset == part.step_offset and self._kept[0].num_steps == part.num_steps
        )

    def keep(self, part: Part) -> None:
        """Keep an answer back, to go out with those of the frame's other rows."""
        self._kept.append(part)

    def more_is_ready(self, next_step: IntArray, step_offset: int) -> bool:
        """Whether other rows of the frame can run now from the same position on."""
        ready = self.ready(next_step)
        return ready is not None and ready.step_offset == step_offset

    def take_kept(self) -> Part | None:
        """The answers kept back, as one part with its rows in order; None when there are none."""
        kept, self._kept = self._kept, []
        if len(kept) < 2:
            return kept[0] if kept else None
        rows = np.concatenate([p.rows for p in kept])
        order = np.argsort(rows)
        outputs = [np.concatenate(arrays)[order] for arrays in zip(*(p.outputs for p in kept), strict=True)]
        rows = rows[order]
        whole = len(rows) == len(self.slots)
        return Part(ALL_ROWS if whole else rows, len(rows), kept[0].step_offset, kept[0].num_steps, outputs)

    def check_integrity(self) -> None:
        """Raise AssertionError if the rows are miscounted."""
        assert self.num_open == int((self._next_steps() != FINISHED).sum()), "open rows are miscounted"

    def _next_steps(self) -> IntArray:
        """The step that each row runs next, or FINISHED."""
        if self._wanted is not None:
            return self._wanted
        if self.num_open == 0:
            return np.full(len(self.slots), FINISHED, np.int64)
        return self.first_steps + self._done if self._done else self.first_steps

    def _part(self) -> IntArray:
        """Let rows stand at positions of their own from now on."""
        self._wanted, self._is_next = self._next_steps().copy(), False
        return self._wanted
