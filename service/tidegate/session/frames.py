"""From the bytes of a frame to rows that the engine may run, and from its answers back to the frame.

A frame is refused as a whole when its form is wrong; a row is refused alone when its session, its step
number or its values are. A row is judged whole before any of its steps runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tidegate.engine.frame import Part
from tidegate.errors import InvalidRequest, MessageTooLarge, TidegateError
from tidegate.model.manifest import InputSpec, Manifest
from tidegate.protocol.numbering import StepVerdict, judge_steps, wrong_step
from tidegate.protocol.outputs import OutputSelection
from tidegate.session.handles import HandleArray
from tidegate.session.limits import SessionLimits
from tidegate.session.table import SessionTable
from tidegate.tensor import Array, BoolArray, IntArray, SlotArray, agree, format_shape, num_elements

Refusals = dict[int, TidegateError]
"""Errors by position in the frame."""


@dataclass(slots=True)
class FrameRequest:
    """A frame as it came.

    Attributes:
        frame_id: The client's number for it.
        handles: Session of each row, shape (n,).
        num_steps: T.
        first_steps: Number of each row's first step.
        inputs: Raw little-endian elements `[n, T, step_shape...]` per model input.
        outputs: Which answers are wanted.
        time_limit_s: From arrival on; None for no limit.
        arrived_s: Monotonic time.
    """

    frame_id: int
    handles: HandleArray
    num_steps: int
    first_steps: IntArray
    inputs: Sequence[bytes]
    outputs: OutputSelection
    time_limit_s: float | None
    arrived_s: float

    @property
    def num_bytes(self) -> int:
        """Size of the inputs."""
        return sum(map(len, self.inputs))


@dataclass(slots=True)
class Answer:
    """Answers to rows and steps of a frame, as they will go out.

    Attributes:
        rows: Positions in the frame; None for all rows, in order.
        step_offset: Steps of the frame before the first one answered.
        num_steps: Steps answered.
        outputs: One array per model output, `[rows, steps, step_shape...]`, NaN in refused rows; empty
            where none are wanted.
        errors: Refused rows.
        complete: Nothing more will come for this frame.
        queue_s: From arrival to the start of the first run, in seconds.
        run_s: In runs, in seconds.
        request_bytes: Size of the frame's inputs, which the last answer releases; 0 before.
    """

    frame_id: int
    rows: IntArray | None
    step_offset: int = 0
    num_steps: int = 0
    outputs: list[Array] = field(default_factory=list)
    errors: Refusals = field(default_factory=dict)
    complete: bool = False
    queue_s: float = 0.0
    run_s: float = 0.0
    request_bytes: int = 0

    @property
    def num_bytes(self) -> int:
        """Size of the outputs."""
        return sum(o.nbytes for o in self.outputs)


def check_form(request: FrameRequest, limits: SessionLimits) -> None:
    """Hold the frame's own numbers against one another and the limits.

    Raises:
        InvalidRequest: No row, no step, or a list of another length than the rows.
        MessageTooLarge: More rows or steps than the server takes at a time.
    """
    num_rows, num_steps = len(request.handles), request.num_steps
    if num_rows == 0:
        raise InvalidRequest("handles: expected at least one row, got none")
    if num_steps == 0:
        raise InvalidRequest("num_steps: expected at least 1, got 0")
    if len(request.first_steps) != num_rows:
        raise InvalidRequest(
            f"first_steps: expected one number per row ({num_rows}), got {len(request.first_steps)}"
        )
    if num_rows > limits.max_frame_rows:
        raise MessageTooLarge(f"handles: expected at most {limits.max_frame_rows} rows, got {num_rows}")
    if num_steps > limits.max_frame_steps:
        raise MessageTooLarge(f"num_steps: expected at most {limits.max_frame_steps}, got {num_steps}")


def decode_inputs(manifest: Manifest, request: FrameRequest) -> list[Array]:
    """View the raw bytes as arrays `[n, T, step_shape...]`, without copying.

    Raises:
        InvalidRequest: Another number of inputs, or of bytes, than the model takes.
    """
    if len(request.inputs) != len(manifest.inputs):
        names = ", ".join(repr(i.name) for i in manifest.inputs)
        raise InvalidRequest(
            f"inputs: {manifest.label} takes {len(manifest.inputs)} ({names}), got {len(request.inputs)}"
        )
    shape = (len(request.handles), request.num_steps)
    return [_decode(spec, raw, shape) for spec, raw in zip(manifest.inputs, request.inputs, strict=True)]


def are_good(table: SessionTable, slots: SlotArray, first_steps: IntArray, inputs: Sequence[Array]) -> bool:
    """Whether rows of open sessions may all run: `judge_rows` would refuse none, and no session is there twice."""
    if table.twins.among(slots) or not agree(table.accepted, slots, first_steps):
        return False
    for spec, values in zip(table.model.manifest.inputs, inputs, strict=True):
        # Counting takes a third of the time of `all()`, which goes through a Python function of numpy's.
        if spec.dtype.is_float and np.count_nonzero(_are_usable(spec, values)) < values.size:
            return False
    return True


def judge_rows(
    table: SessionTable, slots: SlotArray, first_steps: IntArray, inputs: Sequence[Array]
) -> Refusals:
    """Judge step numbers and values of rows of open sessions.

    Returns:
        The rows that are refused, by their position here.
    """
    num_steps = inputs[0].shape[1]
    expected = table.accepted[slots]
    refusals: Refusals = {}
    if not np.array_equal(first_steps, expected):
        verdicts = judge_steps(first_steps, num_steps, expected)
        for i in np.flatnonzero(verdicts != StepVerdict.NEXT).tolist():
            refusals[i] = wrong_step(int(verdicts[i]), int(first_steps[i]), num_steps, int(expected[i]))
    for spec, values in zip(table.model.manifest.inputs, inputs, strict=True):
        for i in np.flatnonzero(_unusable(spec, values)).tolist():
            refusals.setdefault(i, _unusable_error(spec, values[i]))
    return refusals


def check_values(manifest: Manifest, inputs: Sequence[Array]) -> None:
    """Refuse values that no model may see, in the inputs `[n, T, step_shape...]` of a single call.

    Raises:
        InvalidRequest: One is not finite; names the input, the step and the value.
    """
    for spec, values in zip(manifest.inputs, inputs, strict=True):
        if not spec.dtype.is_float or np.count_nonzero(_are_usable(spec, values)) == values.size:
            continue
        for row in np.flatnonzero(_unusable(spec, values)).tolist():
            raise _unusable_error(spec, values[row])


class Delivery:
    """Turns the engine's parts of one frame into answers with the positions that the client knows."""

    def __init__(
        self,
        request: FrameRequest,
        table: SessionTable,
        slots: SlotArray,
        rows: IntArray | None,
        refusals: Refusals,
        send: Callable[[Answer], None],
    ) -> None:
        """Prepare for the parts.

        Args:
            request: The frame as it came.
            table: Sessions of its model version.
            slots: Sessions of the rows that the engine got.
            rows: Their positions in the frame; None for all, in order.
            refusals: The rows that the engine did not get.
            send: Takes the answers.
        """
        self._send = send
        self._frame_id = request.frame_id
        self._request_bytes = request.num_bytes
        self._num_rows = len(request.handles)
        self._table = table
        self._slots = slots
        self._rows = rows
        self._first_steps = request.first_steps if rows is None else request.first_steps[rows]
        self._refusals = refusals

    def __call__(self, part: Part) -> None:
        """Send one answer for the part, or two when rows refused earlier cannot go with it."""
        if part.errors:
            self._table.take_back(self._slots[part.rows], self._first_steps[part.rows])
        refusals, self._refusals = self._refusals, {}
        if refusals and part.complete and part.num_rows == len(self._slots) and not part.errors:
            self._send(self._merged(part, refusals))
            return
        if refusals:
            self._send(Answer(self._frame_id, np.array(sorted(refusals), np.int64), errors=refusals))
        self._send(self._answer(part))

    def _answer(self, part: Part) -> Answer:
        if part.num_rows == self._num_rows and not part.errors:
            return self._timed(part, Answer(self._frame_id, None), part.outputs)
        rows = self._positions()[part.rows]
        errors = dict(zip(rows.tolist(), part.errors, strict=True)) if part.errors else {}
        answer = Answer(self._frame_id, None if len(rows) == self._num_rows else rows, errors=errors)
        return self._timed(part, answer, part.outputs)

    def _positions(self) -> IntArray:
        """Positions in the client's frame of the rows that the engine got."""
        return np.arange(self._num_rows) if self._rows is None else self._rows

    def _merged(self, part: Part, refusals: Refusals) -> Answer:
        assert self._rows is not None
        outputs = [_spread(o, self._rows, self._num_rows) for o in part.outputs]
        return self._timed(part, Answer(self._frame_id, None, errors=refusals), outputs)

    def _timed(self, part: Part, answer: Answer, outputs: list[Array]) -> Answer:
        answer.outputs = outputs
        answer.step_offset, answer.num_steps = part.step_offset, part.num_steps
        answer.complete, answer.queue_s, answer.run_s = part.complete, part.queue_s, part.run_s
        answer.request_bytes = self._request_bytes if part.complete else 0
        return answer


def refuse_all(request: FrameRequest, refusals: Refusals) -> Answer:
    """The one answer to a frame none of whose rows was accepted."""
    return Answer(request.frame_id, None, errors=refusals, complete=True, request_bytes=request.num_bytes)


def _spread(values: Array, rows: IntArray, num_rows: int) -> Array:
    """Put rows at their positions among refused ones, which hold NaN where the type has it."""
    filler = np.nan if values.dtype.kind == "f" else 0
    spread = np.full((num_rows, *values.shape[1:]), filler, values.dtype)
    spread[rows] = values
    return spread


def _decode(spec: InputSpec, raw: bytes, rows_and_steps: tuple[int, int]) -> Array:
    shape = (*rows_and_steps, *spec.step_shape)
    expected = num_elements(shape) * spec.dtype.numpy.itemsize
    if len(raw) != expected:
        raise InvalidRequest(
            f"inputs: {spec.name!r} expected {expected} bytes for {spec.dtype} {format_shape(shape)}, got {len(raw)}"
        )
    return np.frombuffer(raw, spec.dtype.numpy).reshape(shape)


def _unusable(spec: InputSpec, values: Array) -> BoolArray:
    """Rows with a value that would stay in the state for good."""
    if not spec.dtype.is_float:
        return np.zeros(len(values), np.bool_)
    usable = _are_usable(spec, values)
    if usable.all():
        return np.zeros(len(values), np.bool_)
    mark: BoolArray = np.logical_not(usable.reshape(len(values), -1).all(axis=1))
    return mark


def _are_usable(spec: InputSpec, values: Array) -> BoolArray:
    """Elements that a model may see, shape of `values`."""
    usable: BoolArray = ~np.isinf(values) if spec.accepts_missing else np.isfinite(values)
    return usable


def _unusable_error(spec: InputSpec, values: Array) -> InvalidRequest:
    """Name the first unusable element of a row `[T, step_shape...]`."""
    usable = _are_usable(spec, values)
    where = tuple(int(i) for i in np.argwhere(~usable)[0])
    expected = "a finite value or NaN" if spec.accepts_missing else "a finite value"
    index = format_shape(where[1:]) if len(where) > 1 else ""
    return InvalidRequest(
        f"inputs: {spec.name!r}{index} of step {where[0]} of the row: expected {expected}, got {values[where]}"
    )
