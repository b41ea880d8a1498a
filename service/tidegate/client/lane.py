"""What the sessions of a group have on their way over one stream, in the order in which it must leave.

First the steps that the server has lost, of which nobody needs the answers any more; then the call
that the application waits for. A new stream is a new lane.

No I/O: the outbox asks for frames and hands over results. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tidegate.client.acks import AckBook
from tidegate.client.errors import from_message, heals
from tidegate.client.pending import PendingCall
from tidegate.errors import InternalError, TidegateError, WrongStep
from tidegate.protocol.cutting import FrameCaps
from tidegate.protocol.replay import HeldInputs, Piece
from tidegate.protocol.tracking import Tile
from tidegate.tensor import BoolArray, IntArray
from tidegate.v1 import stream_pb2 as pb

MAX_LANE_FRAMES = 4
"""Frames of one lane under way at a time: enough to keep the server busy while answers travel."""


class LaneOwner(Protocol):
    """The group whose traffic this is."""

    def call_over(self, call: PendingCall) -> None:
        """Every step of the call is answered or refused, and nothing of it is under way."""

    def caught_up(self) -> None:
        """The server has every step again that it had lost."""

    def refused_for_now(self, delay_s: float) -> None:
        """The server has no room: `rewind` after this time."""

    def rows_failed(self, errors: Mapping[int, TidegateError]) -> None:
        """These sessions cannot go on."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A frame of a call, under way."""

    tile: Tile
    call: PendingCall

    @property
    def rows(self) -> IntArray:
        return self.tile.rows


class Lane:
    """The traffic of a group on one stream.

    Attributes:
        handles: Names of the sessions on the stream, shape (n,), int64.
    """

    def __init__(
        self,
        owner: LaneOwner,
        handles: IntArray,
        held: HeldInputs,
        acks: AckBook,
        reached: IntArray,
        target: IntArray,
    ) -> None:
        """Begin on a new stream.

        Args:
            owner: Is told what happens.
            handles: Names of the sessions on the stream, shape (n,).
            held: The inputs that can be sent again.
            acks: What the application has kept.
            reached: The step that the server waits for, shape (n,).
            target: The step up to which it had been before, shape (n,); `reached` where nothing was lost.
        """
        self.handles = handles
        self._owner = owner
        self._held = held
        self._acks = acks
        self._reached = reached
        self._target = target
        self._call: PendingCall | None = None
        self._pieces: Iterator[Piece] | None = None
        self._under_way: dict[int, Piece | _Asked] = {}
        self._retry: BoolArray = np.zeros(len(handles), np.bool_)
        self._retry_after_s = 0.0
        self._is_caught_up = False
        self._has_told = False

    @property
    def is_caught_up(self) -> bool:
        """Whether the server has every step again that it had lost."""
        if not self._is_caught_up:
            self._is_caught_up = bool((self._reached >= self._target).all())
        return self._is_caught_up

    @property
    def may_send(self) -> bool:
        """Whether another frame may be under way."""
        return len(self._under_way) < MAX_LANE_FRAMES and not self._retry.any()

    def put(self, call: PendingCall) -> None:
        """Send this call, from where each of its rows stands; the one before is over."""
        call.account.restart()
        self._call = call
        if not self._under_way:
            self._settle()

    def next_frame(self, frame_id: int, caps: FrameCaps, now_s: float) -> pb.Frame | None:
        """Cut off the next frame; None when everything has left."""
        if self._pieces is None:
            # Both arrays change while the pieces are cut: a session that is lost sends nothing more.
            self._pieces = self._held.pieces(self._reached, self._target, caps)
        piece = next(self._pieces, None)
        if piece is not None:
            return self._again(frame_id, piece)
        call = self._call
        tile = None if call is None else call.account.next_tile(caps)
        if call is None or tile is None:
            return None
        return self._first_time(frame_id, _Asked(tile, call), now_s)

    def take_result(self, result: pb.FrameResult) -> None:
        """Enter a result.

        Raises:
            InternalError: It does not fit its frame.
        """
        work = self._under_way[result.frame_id]
        if any(p >= work.rows.size for p in (*result.rows, *(e.index for e in result.errors))):
            raise InternalError("result: rows: expected those of its frame, got others")
        errors = {e.index: from_message(e.error) for e in result.errors}
        deferred = self._deferred(work.rows, errors)
        final = {position: error for position, error in errors.items() if position not in deferred}
        if isinstance(work, Piece):
            self._advance(work, result, errors.keys())
            self._fail(work.rows, final)
        else:
            work.call.account.take(
                work.tile, result.rows, result.step_offset, result.num_steps, result.outputs, final, deferred
            )
        if result.complete:
            self._answered(result.frame_id)

    def refuse_frame(self, frame_id: int, error: TidegateError) -> None:
        """Enter that the server refused a frame as a whole."""
        work = self._under_way[frame_id]
        if heals(error):
            self._defer(work.rows, error)
        elif isinstance(work, Piece):
            self._fail(work.rows, dict.fromkeys(range(work.rows.size), error))
        else:
            work.call.account.refuse(work.rows, error)
        self._answered(frame_id)

    def lose(self, errors: Mapping[int, TidegateError]) -> None:
        """These sessions are gone: nothing more of them is sent."""
        for row, error in errors.items():
            self._target[row] = self._reached[row] = 0
            self._retry[row] = False
            if self._call is not None:
                self._call.account.refuse(np.array([row]), error)
        if not self._under_way:
            self._settle()

    def rewind(self) -> None:
        """Send again what the server had no room for; while frames are under way, their answers decide."""
        if self._under_way:
            return
        self._retry[:] = False
        self._retry_after_s = 0.0
        self._pieces = None
        if self._call is not None:
            self._call.account.restart()

    def _again(self, frame_id: int, piece: Piece) -> pb.Frame:
        self._under_way[frame_id] = piece
        return pb.Frame(
            frame_id=frame_id,
            handles=self.handles[piece.rows].tolist(),
            num_steps=piece.num_steps,
            first_steps=piece.first_steps.tolist(),
            inputs=piece.inputs,
            outputs=pb.OUTPUT_SELECTION_NONE,
        )

    def _first_time(self, frame_id: int, asked: _Asked, now_s: float) -> pb.Frame:
        self._under_way[frame_id] = asked
        tile, account = asked.tile, asked.call.account
        frame = pb.Frame(
            frame_id=frame_id,
            handles=self.handles[tile.rows].tolist(),
            num_steps=tile.num_steps,
            first_steps=(account.first_steps[tile.rows] + tile.offset).tolist(),
            inputs=account.tile_inputs(tile),
            outputs=pb.OutputSelection.ValueType(tile.selection),
        )
        self._add_ack(frame, tile.rows, now_s)
        return frame

    def _add_ack(self, frame: pb.Frame, rows: IntArray, now_s: float) -> None:
        # A server that is still catching up would not know the steps that are acknowledged.
        news = self._acks.news(rows, now_s)
        if news.size and self.is_caught_up:
            frame.ack.handles.extend(self.handles[news].tolist())
            frame.ack.steps.extend(self._acks.tell(news, now_s).tolist())

    def _advance(self, piece: Piece, result: pb.FrameResult, refused: Collection[int]) -> None:
        """Count steps that were sent again."""
        until = result.step_offset + result.num_steps
        if until > piece.num_steps:
            raise InternalError(f"result: steps: expected at most {piece.num_steps}, got {until}")
        positions = np.asarray(result.rows, np.int64) if result.rows else np.arange(piece.rows.size)
        positions = np.setdiff1d(positions, list(refused))
        rows = piece.rows[positions]
        self._reached[rows] = np.maximum(self._reached[rows], piece.first_steps[positions] + until)

    def _fail(self, rows: IntArray, errors: Mapping[int, TidegateError]) -> None:
        if errors:
            self._owner.rows_failed({int(rows[position]): error for position, error in errors.items()})

    def _deferred(self, rows: IntArray, errors: Mapping[int, TidegateError]) -> set[int]:
        """Positions that are to be sent again: refused for now, or sent behind such a row."""
        deferred = set()
        for position, error in errors.items():
            row = int(rows[position])
            if heals(error) or (self._retry[row] and isinstance(error, WrongStep)):
                self._defer(rows[position : position + 1], error)
                deferred.add(position)
        return deferred

    def _defer(self, rows: IntArray, error: TidegateError) -> None:
        self._retry[rows] = True
        self._retry_after_s = max(self._retry_after_s, error.retry_after_s or 0.0)

    def _answered(self, frame_id: int) -> None:
        del self._under_way[frame_id]
        if not self._under_way:
            self._settle()

    def _settle(self) -> None:
        """Nothing is under way: see what follows from that."""
        if self._retry.any():
            self._owner.refused_for_now(self._retry_after_s)
            return
        if not self._has_told and self.is_caught_up:
            self._has_told = True
            self._owner.caught_up()
        call = self._call
        if call is not None and call.account.is_over:
            self._call = None
            self._owner.call_over(call)
