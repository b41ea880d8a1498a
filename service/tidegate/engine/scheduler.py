"""What runs next: cellular batching.

At each turn the scheduler takes the rows that are ready, at most `max_batch_size` of them and at most
one per session, all for the same number of steps. A batch forms while the one before it runs.

* A frame whose rows bring many steps is cut into slices, and turns alternate between single steps and
  slices, so neither waits for more than one run of the other.
* Turns go round sources, and round the frames of a source: nobody waits for another's backlog.
* Order holds per session and comes from step numbers alone, so frames may overtake one another.

Pure bookkeeping: no clock, no threads, no model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tidegate.engine.frame import EngineFrame, Source
from tidegate.tensor import Array, IntArray, SlotArray


@dataclass(slots=True)
class BatchPart:
    """The rows of one frame in a batch, all at the same position."""

    frame: EngineFrame
    rows: IntArray
    step_offset: int


@dataclass(slots=True)
class Batch:
    """Rows that run together.

    Attributes:
        parts: Where they come from.
        num_steps: Steps of each row.
        slots: Their sessions, shape (n,), no two alike.
        inputs: One array per model input, `[n, num_steps, step_shape...]`.
    """

    parts: list[BatchPart]
    num_steps: int
    slots: SlotArray
    inputs: list[Array]

    @property
    def size_class(self) -> int:
        """Batches of one class hold the same number of row-steps within a factor of two."""
        return (len(self.slots) * self.num_steps).bit_length()


class Scheduler:
    """The frames of one model version that wait for their turn."""

    def __init__(self, *, max_batch_size: int, max_slice_steps: int, next_step: IntArray) -> None:
        """Start empty.

        Args:
            max_batch_size: Rows in one batch.
            max_slice_steps: Steps in one batch.
            next_step: The engine's count of applied steps by slot; read here, never written.
        """
        self._max_batch_size = max_batch_size
        self._max_slice_steps = max_slice_steps
        self._next_step = next_step
        self._frames: dict[Source, deque[EngineFrame]] = {}
        self._turns: deque[Source] = deque()
        self._slices_are_due = False

    def add(self, frame: EngineFrame) -> None:
        """Queue a frame."""
        queue = self._frames.get(frame.source)
        if queue is None:
            queue = self._frames[frame.source] = deque()
            self._turns.append(frame.source)
        queue.append(frame)

    def frames(self) -> Iterator[EngineFrame]:
        """All waiting frames, in no particular order."""
        for queue in self._frames.values():
            yield from queue

    def past_deadline(self, now_s: float) -> list[EngineFrame]:
        """Frames whose time limit has passed."""
        return [f for f in self.frames() if f.deadline_s is not None and f.deadline_s <= now_s]

    def discard_finished(self) -> None:
        """Forget frames that have no open row."""
        for source in [s for s, queue in self._frames.items() if any(f.num_open == 0 for f in queue)]:
            left = deque(f for f in self._frames[source] if f.num_open)
            if left:
                self._frames[source] = left
            else:
                del self._frames[source]
                self._turns.remove(source)

    def take(self) -> Batch | None:
        """Form the next batch; None when no row is ready."""
        wanted = (True, False) if self._slices_are_due else (False, True)
        for slices in wanted:
            parts, num_steps = self._collect(slices=slices)
            if parts:
                self._slices_are_due = not slices
                return self._assemble(parts, num_steps)
        return None

    def _collect(self, *, slices: bool) -> tuple[list[BatchPart], int]:
        """Ready rows of frames that run in slices, or of those that run step by step."""
        parts: list[BatchPart] = []
        room, num_steps = self._max_batch_size, 0
        for frame in self._in_turn():
            rows = frame.ready_rows(self._next_step)
            if not len(rows):
                continue
            offset = int(frame.position[rows[0]])
            length = self._slice_steps(frame.num_open, frame.num_steps - offset)
            if (length > 1) is not slices or (num_steps and length != num_steps):
                continue
            num_steps = length
            parts.append(BatchPart(frame, rows[:room], offset))
            room -= len(rows)
            if room <= 0:
                break
        self._rotate(parts)
        return parts, num_steps

    def _in_turn(self) -> Iterator[EngineFrame]:
        """One frame of each source, then the next one of each, leaving out paused sources."""
        queues = [self._frames[s] for s in self._turns if not s.paused]
        for depth in range(max((len(q) for q in queues), default=0)):
            for queue in queues:
                if depth < len(queue):
                    yield queue[depth]

    def _rotate(self, parts: list[BatchPart]) -> None:
        """Whoever was first comes last next time, among sources and within each."""
        if not parts:
            return
        self._turns.rotate(-1)
        for part in parts:
            queue = self._frames[part.frame.source]
            if len(queue) > 1:
                queue.remove(part.frame)
                queue.append(part.frame)

    def _slice_steps(self, num_rows: int, steps_left: int) -> int:
        """Steps of a slice: its rows and steps together cost about as much as one full batch."""
        return min(steps_left, self._max_slice_steps, max(1, self._max_batch_size // num_rows))

    def _assemble(self, parts: list[BatchPart], num_steps: int) -> Batch:
        slots = [p.frame.slots[p.rows] for p in parts]
        inputs = [[_cut(x, p, num_steps) for x in p.frame.inputs] for p in parts]
        if len(parts) == 1:
            return Batch(parts, num_steps, slots[0], inputs[0])
        joined = [np.concatenate(arrays) for arrays in zip(*inputs, strict=True)]
        return Batch(parts, num_steps, np.concatenate(slots), joined)


def _cut(values: Array, part: BatchPart, num_steps: int) -> Array:
    """The part's rows and steps of an input, without a copy where they are all of it."""
    if len(part.rows) < len(values):
        values = values[part.rows]
    if num_steps < values.shape[1]:
        values = values[:, part.step_offset : part.step_offset + num_steps]
    return np.ascontiguousarray(values)
