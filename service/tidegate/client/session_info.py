"""What a server says about a session, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from tidegate.v1 import session_pb2

Condition = Literal["unspecified", "attached", "detached", "passivated"]

_CONDITIONS: Mapping[int, Condition] = {
    session_pb2.SESSION_CONDITION_ATTACHED: "attached",
    session_pb2.SESSION_CONDITION_DETACHED: "detached",
    session_pb2.SESSION_CONDITION_PASSIVATED: "passivated",
}


@dataclass(frozen=True)
class SessionInfo:
    """What a server says about a session.

    Attributes:
        session_id: Its id.
        model: Name of the model.
        version: The version that it is pinned to.
        condition: Whether a stream holds it, it waits in memory, or only in the store.
        next_step: Number of its next step.
        durable_step: Steps below are safe in the store.
        last_used_at: When it was last stepped or opened; None where the server does not say.
    """

    session_id: str
    model: str
    version: str
    condition: Condition
    next_step: int
    durable_step: int
    last_used_at: datetime | None


def session_info(session: session_pb2.Session) -> SessionInfo:
    """What a message of the server says."""
    return SessionInfo(
        session_id=session.session_id,
        model=session.model.name,
        version=session.model.version,
        condition=_CONDITIONS.get(session.condition, "unspecified"),
        next_step=session.next_step,
        durable_step=session.durable_step,
        last_used_at=session.last_used_at.ToDatetime(tzinfo=UTC)
        if session.HasField("last_used_at")
        else None,
    )
