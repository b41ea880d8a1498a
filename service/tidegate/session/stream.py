"""One client stream, as the sessions see it: what it holds and where its answers go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from tidegate.engine.frame import Source
from tidegate.session.frames import Answer
from tidegate.session.handles import HandleArray, HandleMap
from tidegate.tensor import IntArray


class NoticeReason(IntEnum):
    """Numbered as on the wire."""

    DISPLACED = 1
    ENDED = 2
    EVICTED = 3
    DRAINING = 4


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened to sessions without their stream's asking.

    Attributes:
        handles: The sessions; empty for all of the stream.
        next_steps: Steps that each had applied.
    """

    reason: NoticeReason
    handles: HandleArray
    next_steps: IntArray
    message: str


class SessionStream:
    """A stream's end in the session layer.

    Attributes:
        number: Unique among the server's streams, from 1.
        handles: The sessions that it holds.
        in_hand: Handles that a close is still at work on: only that one may take them back, or a handle
            could be given out twice.
        source: Its frames in the engines.
        send: Takes answers, in the order in which they are given.
        notify: Takes notices.
        durable: Takes handles and the steps below which the store has their sessions.
    """

    def __init__(
        self,
        number: int,
        *,
        send: Callable[[Answer], None],
        notify: Callable[[Notice], None],
        durable: Callable[[HandleArray, IntArray], None],
    ) -> None:
        self.number = number
        self.handles = HandleMap()
        self.in_hand: set[int] = set()
        self.source = Source()
        self.send = send
        self.notify = notify
        self.durable = durable

    def tell(
        self, reason: NoticeReason, handles: Sequence[int], next_steps: Sequence[int], message: str
    ) -> None:
        """Send a notice about some handles."""
        self.notify(Notice(reason, np.array(handles, np.uint32), np.array(next_steps, np.int64), message))
