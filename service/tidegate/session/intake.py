"""What streams send about sessions that they hold: frames of steps, and acks.

The path of a step through the session layer, so no loop over rows where nothing is refused.
"""

from __future__ import annotations

import numpy as np

from tidegate.engine.frame import EngineFrame
from tidegate.errors import InvalidRequest, MessageTooLarge
from tidegate.protocol.outputs import OutputSelection
from tidegate.session.checkpointing import Checkpointer
from tidegate.session.frames import (
    Delivery,
    FrameRequest,
    Refusals,
    are_good,
    check_form,
    decode_inputs,
    judge_rows,
    refuse_all,
)
from tidegate.session.handles import HandleArray
from tidegate.session.limits import SessionLimits, check_answers
from tidegate.session.rows import judge_handles, one_table, others
from tidegate.session.stream import SessionStream
from tidegate.session.table import SessionTable
from tidegate.tensor import Array, IntArray, SlotArray, index_of


class Intake:
    """Takes frames and acks, for all streams."""

    def __init__(self, checkpointer: Checkpointer, limits: SessionLimits) -> None:
        self._checkpointer = checkpointer
        self._limits = limits

    def submit(self, stream: SessionStream, request: FrameRequest) -> None:
        """Take a frame; its answers go to `stream.send`, the last one marked complete.

        Raises:
            InvalidRequest: The frame's form is wrong; no row was accepted.
            MessageTooLarge: It, or its answer, is larger than the server takes at a time.
        """
        check_form(request, self._limits)
        resolved = stream.handles.resolve(request.handles)
        if resolved is not None:
            table, slots = resolved
            inputs = self._read(table, request)
            if are_good(table, slots, request.first_steps, inputs):
                self._queue(stream, request, table, slots, None, inputs, {})
                return
        self._submit_good_rows(stream, request)

    def _submit_good_rows(self, stream: SessionStream, request: FrameRequest) -> None:
        """Take a frame row by row: some are refused."""
        refusals = judge_handles(stream, request.handles)
        rows = others(len(request.handles), refusals)
        if not len(rows):
            stream.send(refuse_all(request, refusals))
            return
        handles = request.handles[rows]
        table = one_table(stream, handles, rows)
        inputs = self._read(table, request)
        slots = stream.handles.slots(handles)
        if len(rows) < len(request.handles):
            inputs = [x[rows] for x in inputs]
        judged = judge_rows(table, slots, request.first_steps[rows], inputs)
        if judged:
            refusals |= {int(rows[i]): error for i, error in judged.items()}
            good = others(len(rows), judged)
            rows, slots, inputs = rows[good], slots[good], [x[good] for x in inputs]
        if not len(rows):
            stream.send(refuse_all(request, refusals))
            return
        self._queue(stream, request, table, slots, rows, inputs, refusals)

    def ack(self, stream: SessionStream, handles: HandleArray, steps: IntArray) -> None:
        """The application has kept the answers before these steps: a stored state may become the base.

        A refused handle keeps no other from being acknowledged: its session may have been taken over, which
        the client had no way to know, and it says every step only once.

        Raises:
            InvalidRequest: The lists differ in length, or a step lies ahead of its session; nothing was
                acknowledged. Or a handle is there twice.
            MessageTooLarge: More handles than a frame may have rows; nothing was acknowledged.
            SessionNotFound: A handle stands for no session on this stream.
            Displaced: Another stream has resumed the session of a handle.
        """
        if len(handles) > self._limits.max_frame_rows:
            raise MessageTooLarge(
                f"ack.handles: expected at most {self._limits.max_frame_rows}, got {len(handles)}"
            )
        if len(steps) != len(handles):
            raise InvalidRequest(
                f"ack.steps: expected one number per handle ({len(handles)}), got {len(steps)}"
            )
        groups, refusals = _by_table(stream, handles)
        for table, slots, mine in groups:
            ahead = np.flatnonzero(steps[mine] > table.next_step[slots])
            if len(ahead):
                step, handle = steps[mine][ahead[0]], handles[mine][ahead[0]]
                raise InvalidRequest(f"ack.steps: step {step} of handle {handle} has not been answered")
        for table, slots, mine in groups:
            self._checkpointer.tell(table, table.books.ack(slots, steps[mine]))
        for error in refusals.values():
            raise error

    def _read(self, table: SessionTable, request: FrameRequest) -> list[Array]:
        manifest = table.model.manifest
        if request.outputs is not OutputSelection.NONE:
            check_answers(manifest, len(request.handles), self._limits)
        return decode_inputs(manifest, request)

    def _queue(
        self,
        stream: SessionStream,
        request: FrameRequest,
        table: SessionTable,
        slots: SlotArray,
        rows: IntArray | None,
        inputs: list[Array],
        refusals: Refusals,
    ) -> None:
        """Hand rows to the engine; `rows` are their positions in the frame, None for all of them."""
        where = index_of(slots)
        table.accepted[where] += request.num_steps
        table.last_used_s[where] = request.arrived_s
        limit = request.time_limit_s
        frame = EngineFrame(
            slots,
            request.first_steps if rows is None else request.first_steps[rows],
            inputs,
            outputs=request.outputs,
            source=stream.source,
            arrived_s=request.arrived_s,
            deadline_s=None if limit is None else request.arrived_s + limit,
            on_part=Delivery(request, table, slots, rows, refusals, stream.send),
        )
        table.model.engine.submit(frame)


def _by_table(
    stream: SessionStream, handles: HandleArray
) -> tuple[list[tuple[SessionTable, SlotArray, IntArray | slice]], Refusals]:
    """The model versions of open handles, with the slots of each and its positions in the list; errors for others."""
    resolved = stream.handles.resolve(handles) if len(handles) else None
    if resolved is not None and not resolved[0].twins.among(resolved[1]):
        return [(*resolved, slice(None))], {}
    refusals = judge_handles(stream, handles)
    rows = others(len(handles), refusals)
    numbers = stream.handles.table_numbers(handles[rows])
    groups: list[tuple[SessionTable, SlotArray, IntArray | slice]] = []
    for number in np.unique(numbers).tolist():
        positions = rows[numbers == number]
        groups.append((stream.handles.tables[number], stream.handles.slots(handles[positions]), positions))
    return groups, refusals
