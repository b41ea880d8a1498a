"""How sessions are opened, and the message that asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

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
    """How sessions are opened.

    Attributes:
        model: Name and version; an empty version is the newest.
        mode: Whether the ids must be new.
        client_instance: Random bytes of this client.
        attempt: Number of this client's connection.
        next_steps: Where to continue, per session: the answers before it are kept, and the inputs from
            it on can be sent. None: at the newest state.
    """

    model: ModelVersion
    mode: Mode
    client_instance: bytes
    attempt: int
    next_steps: Sequence[int] | None = None

    def request(self, ids: Sequence[str], start: int, stop: int) -> pb.Open:
        """The message for the sessions of `ids[start:stop]`; the stream adds its number."""
        steps = [] if self.next_steps is None else self.next_steps[start:stop]
        return pb.Open(
            client_instance=self.client_instance,
            attempt=self.attempt,
            model=self.model,
            mode=MODES[self.mode],
            session_ids=ids[start:stop],
            have=steps,
            held_from=steps,
        )
