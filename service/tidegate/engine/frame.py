"""A frame in the engine: the rows of one message that are still to be run, and the answers so far.

A row's steps run in order; rows of one frame may stand at different steps, because a row waits for
what its session was sent before. `next_step[slot]`, the engine's count of applied steps, alone says
whether a row may run: nothing else orders frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tidegate.errors import TidegateError
from tidegate.protocol.outputs import OutputSelection
from tidegate.tensor import Array, IntArray, SlotArray


@dataclass(slots=True)
class Part:
    """Answers, or refusals, for some rows and steps of a frame.

    Attributes:
        rows: Positions in the frame, ascending, shape (k,).
        step_offset: Steps of the frame before the first one answered here.
        num_steps: Steps answered here; 0 for refused rows.
        outputs: One array per model output, `[k, steps, step_shape...]`; empty where none are wanted.
        errors: One per row for refused rows, else empty.
        complete: No row of the frame is open any more.
        queue_s: From the frame's arrival to the start of the run, in seconds.
        run_s: In the run, in seconds.
    """

    rows: IntArray
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
        paused: Its answers are not being read: nothing of it runs until they are.
    """

    __slots__ = ("paused",)

    def __init__(self) -> None:
        self.paused = False


class EngineFrame:
    """The accepted rows of one frame.

    Attributes:
        slots: Session of each row, shape (n,), int32, no two alike.
        first_steps: Number of each row's first step, shape (n,), int64.
        inputs: One array per model input, `[n, T, step_shape...]`.
        num_steps: T.
        position: Steps of each row that have run, shape (n,); T when the row is finished.
        num_open: Rows that are not finished.
        pending: Answers to some rows, kept back while others of the frame are about to run.
        started_s: When its first run began; 0 before.
        run_s: Seconds in runs so far.
    """

    __slots__ = (
        "arrived_s", "deadline_s", "first_steps", "inputs", "num_open", "num_steps", "on_part", "outputs",
        "pending", "position", "run_s", "slots", "source", "started_s",
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
        self.position: IntArray = np.zeros(len(slots), np.int64)
        self.num_open = len(slots)
        self.pending: list[Part] = []
        self.started_s = 0.0
        self.run_s = 0.0

    def ready_rows(self, next_step: IntArray) -> IntArray:
        """Rows whose next step is the one that their session waits for, all at the same position.

        Where they stand at different positions, those that are furthest behind.
        """
        if self.num_open == 0:
            return np.empty(0, np.int64)
        open_rows = self.position < self.num_steps
        ready = np.flatnonzero(open_rows & (next_step[self.slots] == self.first_steps + self.position))
        if len(ready) > 1:
            positions = self.position[ready]
            behind = positions.min()
            if positions.max() != behind:
                ready = ready[positions == behind]
        return ready

    def open_rows(self, slots: SlotArray) -> IntArray:
        """Unfinished rows that belong to any of `slots`."""
        return np.flatnonzero(np.isin(self.slots, slots) & (self.position < self.num_steps))

    def untouched_rows(self) -> IntArray:
        """Rows none of whose steps has run."""
        return np.flatnonzero(self.position == 0)

    def finish(self, rows: IntArray) -> None:
        """Close rows without running the rest of them."""
        self.position[rows] = self.num_steps
        self.num_open -= len(rows)

    def advance(self, rows: IntArray, num_steps: int) -> None:
        """Count steps that have run; all `rows` stand at the same position."""
        self.position[rows] += num_steps
        if self.position[rows[0]] == self.num_steps:
            self.num_open -= len(rows)

    def select(self, outputs: list[Array], step_offset: int) -> list[Array]:
        """What the client wants of the answers of a run that began at `step_offset`."""
        if self.outputs is OutputSelection.ALL:
            return outputs
        ends = step_offset + outputs[0].shape[1] == self.num_steps if outputs else False
        return [o[:, -1:] for o in outputs] if self.outputs is OutputSelection.LAST and ends else []

    def joins_kept(self, part: Part) -> bool:
        """Whether an answer covers the same steps as those kept back."""
        return not self.pending or (
            self.pending[0].step_offset == part.step_offset and self.pending[0].num_steps == part.num_steps
        )

    def keep(self, part: Part) -> None:
        """Keep an answer back, to go out with those of the frame's other rows."""
        self.pending.append(part)

    def more_is_ready(self, next_step: IntArray, step_offset: int) -> bool:
        """Whether other rows of the frame can run now from the same position on."""
        ready = self.ready_rows(next_step)
        return len(ready) > 0 and int(self.position[ready[0]]) == step_offset

    def take_kept(self) -> Part | None:
        """The answers kept back, as one part with its rows in order; None when there are none."""
        kept, self.pending = self.pending, []
        if len(kept) < 2:
            return kept[0] if kept else None
        rows = np.concatenate([p.rows for p in kept])
        order = np.argsort(rows)
        outputs = [np.concatenate(arrays)[order] for arrays in zip(*(p.outputs for p in kept), strict=True)]
        return Part(rows[order], kept[0].step_offset, kept[0].num_steps, outputs)
