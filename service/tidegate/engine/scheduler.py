"""What runs next: cellular batching.

At each turn the scheduler takes the rows that are ready, at most `max_batch_size` of them and at most
one per session, all for the same number of steps. A batch forms while the one before it runs.

* A frame whose rows bring many steps is cut into slices, and turns alternate between single steps and
  slices, so neither waits for more than one run of the other. The more rows share a slice, the fewer
  steps it has: a slice costs no more than a full batch of single steps, or one row's longest slice.
* Turns go round sources, and round the frames of a source: nobody waits for another's backlog.
* Order holds per session and comes from step numbers alone, so frames may overtake one another. A frame
  none of whose rows is ready is parked, and looked at again when a frame that it waits for progresses.

Pure bookkeeping: no clock, no threads, no model.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tidegate.engine.frame import ALL_ROWS, EngineFrame, ReadyRows, Rows, Source
from tidegate.tensor import Array, BoolArray, IntArray, SlotArray, index_of

NO_FRAME = 0
"""Frames are numbered from 1."""


@dataclass(slots=True)
class BatchPart:
    """The rows of one frame in a batch, all at the same position."""

    frame: EngineFrame
    rows: Rows
    num_rows: int
    step_offset: int

    @property
    def steps_left(self) -> int:
        """Steps that each of them has to run."""
        return self.frame.num_steps - self.step_offset


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

    def subset(self, mask: BoolArray) -> Batch:
        """The rows that a mask of shape (n,) selects."""
        parts, start = [], 0
        for part in self.parts:
            rows = part.frame.positions(part.rows)[mask[start : start + part.num_rows]]
            start += part.num_rows
            if len(rows):
                parts.append(BatchPart(part.frame, rows, len(rows), part.step_offset))
        return Batch(parts, self.num_steps, self.slots[mask], [x[mask] for x in self.inputs])


class Feed(Protocol):
    """What is gathered elsewhere until a batch is about to form, and comes as frames then."""

    def __bool__(self) -> bool:
        """Whether there may be any."""
        ...

    def take(self) -> list[EngineFrame]:
        """The frames, in an order in which each waits for earlier ones only."""
        ...


class _Draft:
    """A batch in the making: ready rows, as long as there is room."""

    __slots__ = ("num_rows", "parts", "room")

    def __init__(self, room: int) -> None:
        self.parts: list[BatchPart] = []
        self.room = room
        self.num_rows = 0

    def add(self, frame: EngineFrame, ready: ReadyRows) -> None:
        """Take what fits."""
        rows, num_rows = ready.rows, ready.num_rows
        if self.room <= 0:
            return
        if num_rows > self.room:
            rows = np.arange(self.room) if isinstance(rows, slice) else rows[: self.room]
            num_rows = self.room
        self.parts.append(BatchPart(frame, rows, num_rows, ready.step_offset))
        self.num_rows += num_rows
        self.room -= num_rows

    def cut(self, num_steps: int) -> None:
        """Leave out rows that have fewer steps to run."""
        self.parts = [p for p in self.parts if p.steps_left >= num_steps]


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
        self._queues: dict[Source, deque[EngineFrame]] = {}
        self._frames: dict[int, EngineFrame] = {}
        self._numbers = itertools.count(1)
        # By slot, the number of the frame that was queued last.
        self._last_frame: IntArray = np.zeros_like(next_step)
        self._num_limited = 0
        self._num_histories = 0
        self._slices_are_due = False
        self.feed: Feed | None = None

    def __bool__(self) -> bool:
        """Whether any frame might have a row that is ready."""
        return bool(self._queues or self.feed)

    def add(self, frame: EngineFrame) -> None:
        """Queue a frame."""
        frame.number = next(self._numbers)
        self._frames[frame.number] = frame
        self._num_limited += frame.deadline_s is not None
        self._num_histories += frame.num_steps > 1
        ready = frame.ready(self._next_step)
        if ready is None or ready.num_rows < len(frame.slots):
            self._follow(frame)
        self._last_frame[index_of(frame.slots)] = frame.number
        if ready is None:
            frame.parked = True
        else:
            self._enqueue(frame)

    def progressed(self, frame: EngineFrame) -> None:
        """Steps of a frame have run: look again at what waits behind it, forget it if it is finished."""
        for follower in frame.followers:
            if follower.parked and follower.num_open:
                follower.parked = False
                self._enqueue(follower)
        if not frame.num_open:
            self.remove(frame)

    def remove(self, frame: EngineFrame) -> None:
        """Forget a frame that has no open row."""
        del self._frames[frame.number]
        self._num_limited -= frame.deadline_s is not None
        self._num_histories -= frame.num_steps > 1
        if not frame.parked:
            self._dequeue(frame)

    def refused(self, slots: SlotArray) -> None:
        """Rows of these sessions were refused: the last frame no longer tells what the next one waits for."""
        self._last_frame[slots] = NO_FRAME

    def check_integrity(self) -> None:
        """Raise AssertionError if a frame's rows are miscounted, or if it is parked and could run."""
        for frame in self._frames.values():
            frame.check_integrity()
            assert not (frame.parked and frame.ready(self._next_step)), "a frame that is ready is parked"

    def frames(self) -> list[EngineFrame]:
        """All waiting frames."""
        return list(self._frames.values())

    def past_deadline(self, now_s: float) -> list[EngineFrame]:
        """Frames whose time limit has passed."""
        if not self._num_limited:
            return []
        return [f for f in self.frames() if f.deadline_s is not None and f.deadline_s <= now_s]

    def take(self) -> Batch | None:
        """Form the next batch; None when no row is ready."""
        for gathered in self.feed.take() if self.feed else ():
            self.add(gathered)
        steps, slices = _Draft(self._max_batch_size), _Draft(self._max_batch_size)
        idle: list[EngineFrame] = []
        for frame in self._in_turn():
            ready = frame.ready(self._next_step)
            if ready is None:
                idle.append(frame)
                continue
            if frame.num_steps - ready.step_offset == 1:
                steps.add(frame, ready)
            elif not frame.source.congested:
                slices.add(frame, ready)
            if steps.room <= 0 and (slices.room <= 0 or not self._num_histories):
                break
        for frame in idle:
            frame.parked = True
            self._dequeue(frame)
        chosen = slices if slices.parts and (self._slices_are_due or not steps.parts) else steps
        if not chosen.parts:
            return None
        self._slices_are_due = chosen is steps
        num_steps = self._slice_steps(chosen)
        chosen.cut(num_steps)
        self._rotate(chosen.parts)
        return _assemble(chosen.parts, num_steps)

    def _follow(self, frame: EngineFrame) -> None:
        """Have the frame looked at again whenever one that it waits for makes progress."""
        waiting = frame.slots[self._next_step[frame.slots] != frame.first_steps]
        ahead = {self._frames.get(number) for number in np.unique(self._last_frame[waiting]).tolist()}
        if None in ahead:  # it is done, or rows of it were refused while others still wait
            ahead = {f for f in self.frames() if f is not frame and len(f.open_rows(waiting))}
        for other in ahead:
            assert other is not None
            other.followers.append(frame)

    def _enqueue(self, frame: EngineFrame) -> None:
        queue = self._queues.get(frame.source)
        if queue is None:
            self._queues[frame.source] = deque((frame,))
        else:
            queue.append(frame)

    def _dequeue(self, frame: EngineFrame) -> None:
        queue = self._queues[frame.source]
        queue.remove(frame)
        if not queue:
            del self._queues[frame.source]

    def _in_turn(self) -> Iterator[EngineFrame]:
        """One frame of each source, then the next one of each, leaving out paused sources."""
        queues = [queue for source, queue in self._queues.items() if not source.paused]
        depth = 0
        while queues:
            for queue in queues:
                yield queue[depth]
            depth += 1
            queues = [queue for queue in queues if len(queue) > depth]

    def _rotate(self, parts: list[BatchPart]) -> None:
        """Whoever was first comes last next time, among sources and within each."""
        first = parts[0].frame.source
        if len(self._queues) > 1:
            self._queues[first] = self._queues.pop(first)
        for part in parts:
            queue = self._queues[part.frame.source]
            if len(queue) > 1:
                queue.remove(part.frame)
                queue.append(part.frame)

    def _slice_steps(self, draft: _Draft) -> int:
        """Steps of a slice: all its rows and steps together cost about as much as one full batch."""
        affordable = max(1, self._max_batch_size // draft.num_rows)
        return min(draft.parts[0].steps_left, self._max_slice_steps, affordable)


def _assemble(parts: list[BatchPart], num_steps: int) -> Batch:
    slots = [p.frame.slots[p.rows] for p in parts]
    inputs = [[_cut(x, p, num_steps) for x in p.frame.inputs] for p in parts]
    if len(parts) == 1:
        return Batch(parts, num_steps, slots[0], inputs[0])
    joined = [np.concatenate(arrays) for arrays in zip(*inputs, strict=True)]
    return Batch(parts, num_steps, np.concatenate(slots), joined)


def _cut(values: Array, part: BatchPart, num_steps: int) -> Array:
    """The part's rows and steps of an input, without a copy where they are all of it."""
    if part.rows is not ALL_ROWS:
        values = values[part.rows]
    if num_steps < values.shape[1]:
        values = np.ascontiguousarray(values[:, part.step_offset : part.step_offset + num_steps])
    return values
