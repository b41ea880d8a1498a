"""How sessions are opened, and the message that asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tidegate.client.roster import Roster
from tidegate.tensor import IntArray
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.model_pb2 import ModelVersion

Mode = Literal["create", "resume", "create-or-resume"]

MODES: Mapping[Mode, pb.OpenMode.ValueType] = {
    "create": pb.OPEN_MODE_CREATE,
    "resume": pb.OPEN_MODE_RESUME,
    "create-or-resume": pb.OPEN_MODE_CREATE_OR_RESUME,
}


@dataclass(frozen=True)
class OpenOptions:
    """How sessions are opened for the first time.

    Attributes:
        model: Name and version; an empty version is the newest.
        mode: Whether the ids must be new.
        next_steps: Where to continue, per session: the answers before it are kept. None: at the newest
            state.
        held_from: First input that can be sent, per session; None: that of `next_steps`.
    """

    model: ModelVersion
    mode: Mode
    next_steps: Sequence[int] | None = None
    held_from: Sequence[int] | None = None

    def kept(self, reached: IntArray) -> IntArray:
        """Up to where answers are kept, shape (n,), of sessions that begin at the steps `reached`, shape (n,)."""
        steps: IntArray = np.zeros_like(reached) if self.next_steps is None else np.asarray(self.next_steps)
        return np.minimum(steps, reached)

    def request(self, ids: Sequence[str], rows: IntArray) -> pb.Open:
        """The message for some of the sessions; the connection adds who asks."""
        chosen = rows.tolist()
        held_from = self.next_steps if self.held_from is None else self.held_from
        return pb.Open(
            model=self.model,
            mode=MODES[self.mode],
            session_ids=[ids[row] for row in chosen],
            have=[] if self.next_steps is None else [self.next_steps[row] for row in chosen],
            held_from=[] if held_from is None else [held_from[row] for row in chosen],
        )


def resume_request(
    roster: Roster, model: ModelVersion, rows: IntArray, have: IntArray, held_from: IntArray
) -> pb.Open:
    """The message that takes sessions up again after a break.

    Args:
        roster: The sessions.
        model: The version that they are pinned to.
        rows: Which of them.
        have: The first step of each session without an answer, shape (n,) of all.
        held_from: The first input of each that can be sent, shape (n,) of all.
    """
    return pb.Open(
        model=model,
        mode=pb.OPEN_MODE_RESUME,
        session_ids=[roster.ids[row] for row in rows.tolist()],
        have=have[rows].tolist(),
        held_from=held_from[rows].tolist(),
        epochs=roster.epochs[rows].tolist(),
    )
